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
from tidehub.kubernetes.deploying.waiting import Failed, Wanted, daemon_set_words, judge
from tidehub.kubernetes.homes.whose import doubles, homes_of, is_home
from tidehub.kubernetes.objects import DASK_CLUSTERS, Object
from tidehub.kubernetes.observing.people import clusters, servers
from tidehub.kubernetes.ownership import RELEASE_NAME, ROLES, Found, Place, release_verdict

_KINDS = {
    "deployments": ("apps/v1", "Deployment"),
    "daemon_sets": ("apps/v1", "DaemonSet"),
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
        clusters_asked = [pool.submit(_find, cluster, *kind, namespace) for kind in DASK_CLUSTERS]
        seen = Observed(**found)  # type: ignore[arg-type]
        dask = [obj for one in clusters_asked for obj in one.result()]
        releases, record = releases_asked.result(), record_asked.result()
    at = now()
    # Whoever else has a release in the namespace looks after it himself.
    releases = tuple(one for one in releases if one.chart in ROLES and one.status != "uninstalled")
    place = Place(
        namespace,
        {one.name: Found(one.chart, one.chart_version, one.status) for one in releases},
        frozenset(one.name for one in record.releases) if record else frozenset(),
    )
    parts = _parts(seen, {one.name for one in releases}, at)
    people = {"servers": servers(seen, at), "clusters": clusters(dask, seen, at)}
    return {
        "target": "kubernetes",
        "cluster": cluster.name,
        "namespace": namespace,
        "address": address,
        **_record(record),
        "releases": [_release(one, place) for one in releases],
        "parts": parts,
        **people,
        "pvcs": _pvcs(seen.pvcs),
        "healthy": bool(releases)
        and all(one.status == "deployed" for one in releases)
        and bool(parts)
        and all(part["state"] == "ready" or _may_rest(part) for part in parts)
        and not any(one["stuck"] for several in people.values() for one in several)
        and (record is None or record.unfinished is None),
    }


def _find(cluster: Cluster, api_version: str, kind: str, namespace: str) -> tuple[Object, ...]:
    try:
        return tuple(cluster.find(api_version, kind, namespace))
    except ClusterProblem as problem:
        # Events only explain, and not every platform has Dask: whoever may not read them is told everything else.
        if kind in ("Event", "DaskCluster") and problem.reason in ("forbidden", "not-found"):
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
            "ended": {"failed": "failed", "interrupted": "was interrupted"}.get(
                unfinished.outcome, "is unfinished"
            ),
            "command": unfinished.command,
        }
        if unfinished
        else None,
    }


def _release(one: ReleaseRecord, place: Place) -> dict[str, Any]:
    return {
        "ours": not release_verdict(one.name, one.chart, place).refused,
        "name": one.name,
        "chart": one.chart,
        "version": one.chart_version,
        "app_version": one.app_version,
        "revision": one.revision,
        "status": one.status,
        "updated": one.updated,
    }


def _parts(seen: Observed, releases: Iterable[str], now: datetime.datetime) -> list[dict[str, Any]]:
    """Every Deployment and DaemonSet of the releases: how many of its pods are ready, and what hinders it."""
    wanted = set(releases)
    found = []
    for obj in sorted((*seen.deployments, *seen.daemon_sets), key=name_of):
        if (obj["metadata"].get("annotations") or {}).get(RELEASE_NAME) not in wanted:
            continue
        daemons = obj.get("kind") == "DaemonSet" or "desiredNumberScheduled" in status_of(obj)
        status = status_of(obj)
        replicas = int(
            status.get("desiredNumberScheduled", 0) if daemons else spec_of(obj).get("replicas", 1)
        )
        why, fatal = daemon_set_words(obj, seen, now) if daemons else _why(name_of(obj), seen, now)
        found.append(
            {
                "name": name_of(obj),
                "state": "stopped" if not replicas else "waiting" if why else "ready",
                "ready": int(status.get("numberReady" if daemons else "readyReplicas") or 0),
                "wanted": replicas,
                "restarts": _restarts(seen, obj),
                "why": why or None,
                # Images are pulled on machines that come and go: only what cannot pass is a fault.
                "rests": daemons and not fatal,
            }
        )
    return found


def _may_rest(part: dict[str, Any]) -> bool:
    """Some parts are installed with no pods; without these two there is no platform."""
    return part["rests"] or (part["state"] == "stopped" and part["name"] not in ("hub", "proxy"))


def _why(name: str, seen: Observed, now: datetime.datetime) -> tuple[str, bool]:
    judged = judge(Wanted(deployments=(name,)), seen, now)
    if isinstance(judged, Failed):
        said = f" ({judged.evidence[0]})" if judged.evidence else ""
        return f"{judged.what}{said}. {judged.fix}".removesuffix(". "), True
    return "" if judged.done else "; ".join(judged.lines), False


def _restarts(seen: Observed, deployment: Object) -> int:
    sets = {one["metadata"]["uid"] for one in seen.owned(seen.replica_sets, deployment)}
    sets.add(deployment["metadata"].get("uid"))
    count = 0
    for pod in seen.pods:
        owners = {one.get("uid") for one in pod["metadata"].get("ownerReferences") or ()}
        if owners & sets:
            count += sum(
                int(one.get("restartCount", 0)) for one in status_of(pod).get("containerStatuses") or ()
            )
    return count


def _pvcs(pvcs: Iterable[Object]) -> dict[str, Any]:
    """How many homes there are, who has two, and which PVCs have no volume."""
    found = list(pvcs)
    homes = [one for one in found if is_home(one)]
    two = {owner: [one.pvc for one in several] for owner, several in doubles(homes_of(found)).items()}
    unbound = sorted(name_of(one) for one in found if status_of(one).get("phase") != "Bound")
    return {"all": len(found), "homes": len(homes), "two": two, "unbound": unbound}
