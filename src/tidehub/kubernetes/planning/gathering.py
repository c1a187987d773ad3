"""What a plan asks before it compares objects: releases, their manifests, and what else is around. Reads only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tidehub.helm.engine import Helm, ReleaseRecord
from tidehub.helm.problems import ReleaseNotFound
from tidehub.kubernetes.cluster.port import Cluster, ClusterProblem
from tidehub.kubernetes.objects import Object, read_manifest

if TYPE_CHECKING:
    from tidehub.kubernetes.deploying.record import Record

_INGRESS = ("networking.k8s.io/v1", "Ingress")
_ROUTE = ("gateway.networking.k8s.io/v1", "HTTPRoute")
_DASK_CLUSTER = ("gateway.dask.org/v1alpha1", "DaskCluster")
_LOOKED_BACK = 3
"""Deployments whose objects `deploy` removes where they are no longer wanted (`deploying.steps.objects`)."""
GONE = "uninstalled"
"""Helm's status of a release of which only the history is left."""


def namespace_exists(cluster: Cluster, namespace: str) -> bool:
    """Whether the namespace exists; True where the credentials may not see namespaces: somebody made it for them."""
    try:
        return cluster.get("v1", "Namespace", namespace) is not None
    except ClusterProblem as problem:
        if problem.reason != "forbidden":
            raise
        return True


def newest_manifest(helm: Helm, release: str, namespace: str) -> str | None:
    """The manifest of a release's newest revision; None where there is no such release."""
    try:
        return helm.manifest(release, namespace)
    except ReleaseNotFound:
        return None


def last_objects(helm: Helm, record: ReleaseRecord, newest: str | None = None) -> list[Object]:
    """The objects of the revision that Helm compares with: the newest that was deployed, else the newest.

    See `prepareUpgrade` in helm, pkg/action/upgrade.go. `newest` is the newest one's manifest, where it is read.
    """
    revision = None
    if record.status != "deployed":
        worked = [one for one in helm.history(record.name, record.namespace) if one.status == "deployed"]
        revision = worked[-1].number if worked else None
    if revision is None and newest is not None:
        return read_manifest(newest)
    return read_manifest(helm.manifest(record.name, record.namespace, revision))


def deployments(cluster: Cluster, namespace: str) -> Record | None:
    """tidehub's own record in the namespace; None where there is none, or the credentials may not read it."""
    from tidehub.kubernetes.deploying.record import read_record

    try:
        return read_record(cluster, namespace)
    except ClusterProblem as problem:
        if problem.reason != "forbidden":
            raise
        return None


def earlier_objects(record: Record | None) -> tuple[Object, ...]:
    """tidehub's own objects of earlier deployments, as many back as a deployment looks; Secrets are not in it."""
    return (
        tuple(obj for deployed in record.revisions[-_LOOKED_BACK:] for obj in deployed.objects)
        if record
        else ()
    )


def serving_elsewhere(cluster: Cluster, url: str | None, namespace: str) -> tuple[str, ...]:
    """Other namespaces in which an Ingress or HTTPRoute has the site's host name.

    Empty where the credentials may not look there.
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
    """How many Dask clusters there are in the namespace; None where the credentials may not see them."""
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
