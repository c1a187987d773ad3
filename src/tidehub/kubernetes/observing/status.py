"""What is installed in a namespace, what of it runs, and who is there. Reads only."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tidehub.helm.engine import Helm, ReleaseRecord
from tidehub.kubernetes.cluster.port import Cluster, ClusterProblem
from tidehub.kubernetes.deploying.observed import Observed, name_of, spec_of, status_of
from tidehub.kubernetes.deploying.record import Record, read_record
from tidehub.kubernetes.deploying.waiting import Failed, Wanted, judge
from tidehub.kubernetes.homes.whose import doubles, homes_of, is_home
from tidehub.kubernetes.objects import SERVER, USERNAME, Object

CLUSTER, USER, ROLE = "gateway.dask.org/cluster", "gateway.dask.org/user", "app.kubernetes.io/component"
"""Labels of Dask's pods (dask-gateway-server, backends/kubernetes)."""
_KINDS = {
    "deployments": ("apps/v1", "Deployment"),
    "replica_sets": ("apps/v1", "ReplicaSet"),
    "pods": ("v1", "Pod"),
    "pvcs": ("v1", "PersistentVolumeClaim"),
    "events": ("v1", "Event"),
}


def platform_status(
    cluster: Cluster,
    helm: Helm,
    namespace: str,
    *,
    address: str | None,
    now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
) -> dict[str, Any]:
    """The facts of `tidehub status` for a cluster; `healthy` is their sum. Raises `TidehubError`."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        releases_asked = pool.submit(helm.list, namespace)
        record_asked = pool.submit(read_record, cluster, namespace)
        asked = {field: pool.submit(_find, cluster, *kind, namespace) for field, kind in _KINDS.items()}
        found = {field: one.result() for field, one in asked.items()}
        seen = Observed(
            deployments=found["deployments"],
            replica_sets=found["replica_sets"],
            pods=found["pods"],
            pvcs=found["pvcs"],
            events=found["events"],
        )
        releases, record = releases_asked.result(), record_asked.result()
    parts = _parts(seen, {one.name for one in releases}, now())
    return {
        "target": "kubernetes",
        "cluster": cluster.name,
        "namespace": namespace,
        "address": address,
        **_record(record),
        "releases": [_release(one) for one in releases],
        "parts": parts,
        "servers": _servers(seen.pods),
        "clusters": _clusters(seen.pods),
        "pvcs": _pvcs(seen.pvcs),
        "healthy": bool(releases)
        and all(one.status == "deployed" for one in releases)
        and bool(parts)
        and all(part["state"] == "ready" or _may_rest(part) for part in parts)
        and (record is None or record.unfinished is None),
    }


def _find(cluster: Cluster, api_version: str, kind: str, namespace: str) -> tuple[Object, ...]:
    try:
        return tuple(cluster.find(api_version, kind, namespace))
    except ClusterProblem as problem:
        # Events only explain; whoever may not read them is told everything else.
        if kind == "Event" and problem.reason == "forbidden":
            return ()
        raise


def _record(record: Record | None) -> dict[str, Any]:
    deployed = record.deployed if record else None
    unfinished = record.unfinished if record else None
    return {
        "release_set": deployed.release_set if deployed else None,
        "model": deployed.model if deployed else None,
        "deployed": {"revision": deployed.revision, "at": deployed.at, "by": deployed.by}
        if deployed
        else None,
        "unfinished": {
            "operation": unfinished.operation,
            "by": unfinished.who,
            "since": unfinished.begun,
            "step": unfinished.current.step if unfinished.current else None,
            "command": unfinished.command,
        }
        if unfinished
        else None,
    }


def _release(one: ReleaseRecord) -> dict[str, Any]:
    return {
        "name": one.name,
        "chart": one.chart,
        "version": one.chart_version,
        "app_version": one.app_version,
        "revision": one.revision,
        "status": one.status,
        "updated": one.updated,
    }


def _parts(seen: Observed, releases: Iterable[str], now: datetime.datetime) -> list[dict[str, Any]]:
    """Every Deployment of the releases: how many of its pods are ready, and what hinders it."""
    wanted = set(releases)
    found = []
    for deployment in sorted(seen.deployments, key=name_of):
        annotations = deployment["metadata"].get("annotations") or {}
        if annotations.get("meta.helm.sh/release-name") not in wanted:
            continue
        replicas = int(spec_of(deployment).get("replicas", 1))
        why = _why(name_of(deployment), seen, now)
        found.append(
            {
                "name": name_of(deployment),
                "state": "stopped" if not replicas else "waiting" if why else "ready",
                "ready": int(status_of(deployment).get("readyReplicas") or 0),
                "wanted": replicas,
                "restarts": _restarts(seen, deployment),
                "why": why or None,
            }
        )
    return found


def _may_rest(part: dict[str, Any]) -> bool:
    """Some parts are installed with no pods; without these two there is no platform."""
    return part["state"] == "stopped" and part["name"] not in ("hub", "proxy")


def _why(name: str, seen: Observed, now: datetime.datetime) -> str:
    judged = judge(Wanted(deployments=(name,)), seen, now)
    if isinstance(judged, Failed):
        return f"{judged.what}. {judged.fix}".strip() if judged.fix else judged.what
    return "" if judged.done else "; ".join(judged.lines)


def _restarts(seen: Observed, deployment: Object) -> int:
    sets = {one["metadata"]["uid"] for one in seen.owned(seen.replica_sets, deployment)}
    count = 0
    for pod in seen.pods:
        owners = {one.get("uid") for one in pod["metadata"].get("ownerReferences") or ()}
        if owners & sets:
            count += sum(
                int(one.get("restartCount", 0)) for one in status_of(pod).get("containerStatuses") or ()
            )
    return count


def _servers(pods: Iterable[Object]) -> list[dict[str, Any]]:
    found = []
    for pod in pods:
        labels = pod["metadata"].get("labels") or {}
        if labels.get("component") != SERVER:
            continue
        who = (pod["metadata"].get("annotations") or {}).get(USERNAME) or labels.get(USERNAME)
        found.append({"user": who, "pod": name_of(pod), **_of_pod(pod)})
    return sorted(found, key=lambda one: str(one["user"]))


def _clusters(pods: Iterable[Object]) -> list[dict[str, Any]]:
    clusters: dict[str, dict[str, Any]] = {}
    for pod in pods:
        labels = pod["metadata"].get("labels") or {}
        name = labels.get(CLUSTER)
        if not name:
            continue
        entry = clusters.setdefault(
            name, {"cluster": name, "user": labels.get(USER), "scheduler": None, "workers": 0}
        )
        if "scheduler" in str(labels.get(ROLE, "")):
            entry["scheduler"] = str(status_of(pod).get("phase"))
        elif status_of(pod).get("phase") == "Running":
            entry["workers"] += 1
    return [clusters[name] for name in sorted(clusters)]


def _of_pod(pod: Object) -> dict[str, Any]:
    return {
        "phase": str(status_of(pod).get("phase")),
        "node": spec_of(pod).get("nodeName"),
        "since": status_of(pod).get("startTime"),
    }


def _pvcs(pvcs: Iterable[Object]) -> dict[str, Any]:
    """How many homes there are, who has two, and which PVCs have no volume."""
    found = list(pvcs)
    homes = [one for one in found if is_home(one)]
    two = {owner: [one.pvc for one in several] for owner, several in doubles(homes_of(found)).items()}
    unbound = sorted(name_of(one) for one in found if status_of(one).get("phase") != "Bound")
    return {"all": len(found), "homes": len(homes), "two": two, "unbound": unbound}
