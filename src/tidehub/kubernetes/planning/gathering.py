"""What a plan asks before it compares objects: releases, their manifests, and what else is around. Reads only."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from tidehub.helm.engine import Helm, ReleaseRecord
from tidehub.kubernetes.cluster.port import Cluster, ClusterProblem
from tidehub.kubernetes.objects import Object, read_manifest

_INGRESS = ("networking.k8s.io/v1", "Ingress")
_ROUTE = ("gateway.networking.k8s.io/v1", "HTTPRoute")
_DASK_CLUSTER = ("gateway.dask.org/v1alpha1", "DaskCluster")
GONE = "uninstalled"
"""Helm's status of a release of which only the history is left."""


def namespace_exists(cluster: Cluster, namespace: str) -> bool:
    """Whether the namespace is there; True where this person may not see namespaces: then somebody made it for them."""
    try:
        return cluster.get("v1", "Namespace", namespace) is not None
    except ClusterProblem as problem:
        if problem.reason != "forbidden":
            raise
        return True


def last_manifest(helm: Helm, record: ReleaseRecord) -> list[Object]:
    """The objects of the revision that Helm compares with: the newest that was deployed, else the newest.

    See `prepareUpgrade` in helm, pkg/action/upgrade.go.
    """
    revision = None
    if record.status != "deployed":
        worked = [one for one in helm.history(record.name, record.namespace) if one.status == "deployed"]
        revision = worked[-1].number if worked else None
    return read_manifest(helm.manifest(record.name, record.namespace, revision))


def earlier_objects(cluster: Cluster, namespace: str) -> tuple[Object, ...]:
    """tidehub's own objects as of its last deployment, by its record in the namespace; Secrets are not in it."""
    from tidehub.kubernetes.deploying.record import read_record

    try:
        record = read_record(cluster, namespace)
    except ClusterProblem as problem:
        if problem.reason != "forbidden":
            raise
        return ()
    return record.deployed.objects if record is not None and record.deployed is not None else ()


def serving_elsewhere(cluster: Cluster, url: str | None, namespace: str) -> tuple[str, ...]:
    """Other namespaces in which an Ingress or HTTPRoute has the site's host name.

    Empty where this person may not look there.
    """
    host = urlsplit(url or "").hostname
    if not host:
        return ()
    found: set[str] = set()
    for api_version, kind in (_INGRESS, _ROUTE):
        try:
            routes = cluster.find(api_version, kind)
        except ClusterProblem as problem:
            if problem.reason != "forbidden":
                raise
            continue
        found |= {
            str(route["metadata"].get("namespace", ""))
            for route in routes
            if host in _hosts(route.get("spec") or {})
        }
    return tuple(sorted(found - {namespace}))


def dask_clusters(cluster: Cluster, namespace: str) -> int | None:
    """How many Dask clusters there are in the namespace; None where this person may not see them."""
    try:
        return len(cluster.find(*_DASK_CLUSTER, namespace))
    except ClusterProblem as problem:
        if problem.reason != "forbidden":
            raise
        return None


def _hosts(spec: dict[str, object]) -> Iterable[str]:
    rules = spec.get("rules")
    named = spec.get("hostnames")
    hosts = [rule.get("host") for rule in rules if isinstance(rule, dict)] if isinstance(rules, list) else []
    return [str(host) for host in (*hosts, *(named if isinstance(named, list) else ())) if host]
