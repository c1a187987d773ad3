"""Users' servers and Dask clusters, and in words what keeps them from running. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Any

from tidehub.kubernetes.deploying.observed import (
    Observed,
    Trouble,
    age,
    meta_of,
    name_of,
    spec_of,
    status_of,
)
from tidehub.kubernetes.deploying.pods import is_ready, pod_trouble
from tidehub.kubernetes.objects import SERVER, USERNAME, Object

CLUSTER, ROLE = "gateway.dask.org/cluster", "app.kubernetes.io/component"
"""Labels of Dask Gateway's pods (dask-gateway-server, backends/kubernetes). None of them says whose it is."""
OPERATED, OPERATED_ROLE = "dask.org/cluster-name", "dask.org/component"
"""The same of the Dask operator's pods (dask_kubernetes/operator)."""
TAKEN_UP = 60.0
"""Seconds after which a cluster that its controller has not looked at is a sign that the controller hangs."""
_OWN = frozenset({"crash", "out-of-memory"})
"""Troubles that users make themselves: the platform is well."""


def words_of(trouble: Trouble | None) -> str | None:
    """What hinders it and what the cluster says to that; None for nothing."""
    if trouble is None:
        return None
    said = f" ({trouble.evidence[0]})" if trouble.evidence else ""
    return f"{trouble.what}{said}"


def servers(seen: Observed, now: datetime.datetime) -> list[dict[str, Any]]:
    """Every user's server, by user: its state, node, and why it does not run."""
    found = []
    for pod in seen.pods:
        labels = meta_of(pod).get("labels") or {}
        if labels.get("component") != SERVER:
            continue
        who = (meta_of(pod).get("annotations") or {}).get(USERNAME) or labels.get(USERNAME)
        trouble = trouble_of(pod, seen, now)
        found.append(
            {
                "user": who,
                "pod": name_of(pod),
                "phase": str(status_of(pod).get("phase")),
                "node": spec_of(pod).get("nodeName"),
                "since": status_of(pod).get("startTime"),
                "why": words_of(trouble),
                "stuck": is_platforms(trouble),
            }
        )
    return sorted(found, key=lambda one: (str(one["user"]), one["pod"]))


def clusters(objects: Iterable[Object], seen: Observed, now: datetime.datetime) -> list[dict[str, Any]]:
    """Every Dask cluster, also one without pods, and pods whose cluster is gone."""
    found: dict[str, dict[str, Any]] = {}
    for obj in objects:
        phase = status_of(obj).get("phase")
        if phase in ("Stopped", "Failed") and not _pods(seen.pods, name_of(obj)):
            continue
        found[name_of(obj)] = {
            **_entry(name_of(obj), _owner(obj)),
            "phase": phase,
            **_not_taken_up(obj, phase, now),
        }
    for pod in seen.pods:
        labels = meta_of(pod).get("labels") or {}
        name = labels.get(CLUSTER) or labels.get(OPERATED)
        if not name:
            continue
        orphan = {"phase": None, "why": "its pods are there, and no such cluster", "stuck": True}
        entry = found.setdefault(name, {**_entry(name, None), **orphan})
        _count(entry, pod, seen, now)
    return [found[name] for name in sorted(found)]


def trouble_of(pod: Object, seen: Observed, now: datetime.datetime) -> Trouble | None:
    """What keeps a pod from being ready; None for one that is."""
    return None if is_ready(pod) else pod_trouble(pod, seen, now)


def is_platforms(trouble: Trouble | None) -> bool:
    """Whether somebody who runs the platform has to do something."""
    return trouble is not None and trouble.fatal and trouble.reason not in _OWN


def _entry(name: str, user: str | None) -> dict[str, Any]:
    return {
        "cluster": name,
        "user": user,
        "scheduler": None,
        "workers": 0,
        "waiting": 0,
        "why": None,
        "stuck": False,
    }


def _owner(obj: Object) -> str | None:
    meta = meta_of(obj)
    marks: Mapping[str, Any] = {**(meta.get("labels") or {}), **(meta.get("annotations") or {})}
    who = spec_of(obj).get("username") or marks.get(USERNAME)
    return str(who) if who else None


def _not_taken_up(obj: Object, phase: object, now: datetime.datetime) -> dict[str, Any]:
    """A controller that hangs is "ready": its pod has no probe. A cluster that it has not looked at tells."""
    if not phase:
        waits, what = age(meta_of(obj).get("creationTimestamp"), now), "no controller has taken it up for"
    elif spec_of(obj).get("active") is False and phase not in ("Stopped", "Failed"):
        waits, what = age(_spec_written(obj), now), "it is to end, and no controller has ended it for"
    else:
        return {}
    return {"why": f"{what} {round(waits)} s", "stuck": True} if waits >= TAKEN_UP else {}


def _spec_written(obj: Object) -> str:
    """When anything but the status was written last; empty where the server does not say."""
    fields = meta_of(obj).get("managedFields") or []
    return max((str(one.get("time") or "") for one in fields if not one.get("subresource")), default="")


def _pods(pods: Iterable[Object], name: str) -> list[Object]:
    labels = [(pod, meta_of(pod).get("labels") or {}) for pod in pods]
    return [pod for pod, of_pod in labels if name in (of_pod.get(CLUSTER), of_pod.get(OPERATED))]


def _count(entry: dict[str, Any], pod: Object, seen: Observed, now: datetime.datetime) -> None:
    labels = meta_of(pod).get("labels") or {}
    trouble = trouble_of(pod, seen, now)
    if "scheduler" in f"{labels.get(ROLE, '')}{labels.get(OPERATED_ROLE, '')}":
        entry["scheduler"] = str(status_of(pod).get("phase"))
    elif status_of(pod).get("phase") == "Running":
        entry["workers"] += 1
    else:
        entry["waiting"] += 1
    entry["why"] = entry["why"] or words_of(trouble)
    entry["stuck"] = entry["stuck"] or is_platforms(trouble)
