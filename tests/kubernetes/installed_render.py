"""A render written to a cluster and recorded as `deploy` does, without its journal and its waits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cluster_api import Api

from tidehub.helm.engine import Helm
from tidehub.kubernetes.cluster.port import Cluster
from tidehub.kubernetes.deploying.record import Deployed, Record, write_record
from tidehub.kubernetes.deploying.steps.objects import remembered
from tidehub.kubernetes.deploying.steps.releases import wanted_state
from tidehub.kubernetes.rendering.model import Rendered
from tidehub.kubernetes.rendering.render import helm_values


def install(rendered: Rendered, cluster: Cluster, helm: Helm, api: Api) -> None:
    """CRDs and own objects by server-side apply, then the releases through Helm."""
    namespace = rendered.platform.namespace
    for obj in (*rendered.crds, *rendered.objects):
        cluster.apply(obj, namespace, force=True)
    for crd in rendered.crds:
        api.wait(f"{crd['metadata']['name']} is served", lambda crd=crd: established(api, crd))
    states = []
    for one in rendered.releases:
        applied = helm.upgrade_install(
            one.archive.path,
            helm_values(one.release),
            release=one.release.name,
            namespace=namespace,
            timeout=60,
        )
        states.append(replace(wanted_state(one), revision=applied.record.revision))
    platform = rendered.platform
    done = Deployed(
        1, "", "", "", platform.release_set, platform.model, tuple(states), remembered(platform.objects)
    )
    write_record(cluster, namespace, Record((done,), None, tuple(states)))


def established(api: Api, crd: dict[str, Any]) -> bool:
    """Whether the server lists every version of a CRD."""
    live = api.get("CustomResourceDefinition", crd["metadata"]["name"], version="apiextensions.k8s.io/v1")
    conditions = ((live or {}).get("status") or {}).get("conditions") or []
    if not any(one["type"] == "Established" and one["status"] == "True" for one in conditions):
        return False
    # Established says that the server has taken it; its discovery lists it a moment later.
    group = crd["spec"]["group"]
    served = [version["name"] for version in crd["spec"]["versions"] if version["served"]]
    kind = crd["spec"]["names"]["kind"]
    return all(kind in _kinds(api, f"/apis/{group}/{version}") for version in served)


def _kinds(api: Api, path: str) -> set[str]:
    from cluster_api import Refused

    try:
        return {str(one["kind"]) for one in api.call("GET", path)["resources"]}
    except Refused as refusal:
        if refusal.status == 404:
            return set()
        raise
