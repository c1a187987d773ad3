"""Pod Security admission: whether the namespace's level lets the platform's pods in. The server itself is asked."""

from __future__ import annotations

import copy
from typing import Any

from tidehub.kubernetes.cluster.port import ClusterProblem
from tidehub.kubernetes.objects import Object
from tidehub.kubernetes.preflight.model import Context, Finding, NotKnown
from tidehub.kubernetes.preflight.workloads import Workload, user_pods, workloads

_ENFORCE = "pod-security.kubernetes.io/enforce"
_MARK = "violates PodSecurity"


def pod_security(context: Context) -> list[Finding]:
    """Every kind of pod as a dry run, where the namespace enforces a level."""
    look, name = context.there, context.namespace
    found = look.one("v1", "Namespace", name)
    level = ((found or {}).get("metadata", {}).get("labels") or {}).get(_ENFORCE, "privileged")
    if found is None or level == "privileged":
        return [Finding("pod-security", "ok", "the namespace enforces no pod security level")]
    refused: list[str] = []
    undecided: list[str] = []
    for one in [*workloads(context.objects), *_servers(context)]:
        said = _tried(context, one)
        if said is not None:
            (refused if _MARK in said else undecided).append(f"{one.name}: {said}")
    if refused:
        return [
            Finding(
                "pod-security",
                "problem",
                f"the namespace enforces the level {level}, which refuses {refused[0].split(':')[0]}"
                + (f" and {len(refused) - 1} more" if len(refused) > 1 else ""),
                f"have the label {_ENFORCE} set to a lower level, or change these pods in overrides.helm",
                tuple(refused),
            )
        ]
    if undecided:
        raise NotKnown(f"whether the level {level} lets all pods in is not known: {undecided[0]}")
    return [Finding("pod-security", "ok", f"the level {level} of the namespace lets all pods in")]


def _tried(context: Context, workload: Workload) -> str | None:
    """What the server says against such a pod; None where it takes it."""
    try:
        context.there.cluster.create(_pod(workload.pod), context.namespace, dry_run=True)
    except ClusterProblem as problem:
        if problem.reason == "quota":
            # Quota is counted after the level was judged, and has an item of its own.
            return None
        return problem.what.partition(": ")[2] or problem.what
    return None


def _pod(template: Object) -> Object:
    spec: dict[str, Any] = copy.deepcopy(template.get("spec") or {})
    # Accounts and priorities that the deployment brings are not there yet.
    for key in ("serviceAccountName", "serviceAccount", "priorityClassName", "priority", "runtimeClassName"):
        spec.pop(key, None)
    for container in [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]:
        container["image"] = container.get("image") or "image"
    meta = {
        key: value
        for key, value in (template.get("metadata") or {}).items()
        if key in ("labels", "annotations")
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**meta, "generateName": "tidehub-preflight-"},
        "spec": spec,
    }


def _servers(context: Context) -> list[Workload]:
    """A user's server as the chart makes it: with the container that blocks the cloud's metadata service."""
    found = []
    for one in user_pods(context.site)[:1]:
        template = copy.deepcopy(dict(one.pod))
        template["spec"]["securityContext"] = {"fsGroup": 100}
        for container in template["spec"]["containers"]:
            container["securityContext"] = {"runAsUser": 1000, "allowPrivilegeEscalation": False}
        if _blocks_metadata(context):
            blocking = {
                "name": "block-cloud-metadata",
                "image": "image",
                # As the chart writes it (singleuser.cloudMetadata.blockWithIptables).
                "securityContext": {
                    "runAsUser": 0,
                    "privileged": True,
                    "capabilities": {"add": ["NET_ADMIN"]},
                },
            }
            template["spec"]["initContainers"] = [blocking]
        found.append(Workload(one.name, template))
    return found


def _blocks_metadata(context: Context) -> bool:
    for release in context.objects.releases:
        values: Any = release.release.values
        if release.release.chart == "daskhub":
            values = values.get("jupyterhub") or {}
        elif release.release.chart != "jupyterhub":
            continue
        stated = ((values.get("singleuser") or {}).get("cloudMetadata") or {}).get("blockWithIptables")
        # The chart's own default is to block.
        return stated is not False
    return False
