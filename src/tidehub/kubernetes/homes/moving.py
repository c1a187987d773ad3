"""Gives a user one of several homes: the others are set aside by an annotation. Nothing is copied or deleted."""

from __future__ import annotations

from collections.abc import Iterable

from tidehub import program
from tidehub.errors import TidehubError
from tidehub.kubernetes.cluster.port import Cluster
from tidehub.kubernetes.deploying.words import now
from tidehub.kubernetes.homes.carried import finds_homes
from tidehub.kubernetes.homes.whose import Home, homes_of
from tidehub.kubernetes.objects import HUB_SECRET, SET_ASIDE
from tidehub.kubernetes.planning.facts import hub_values

_PVC = ("v1", "PersistentVolumeClaim")


def homes(cluster: Cluster, namespace: str) -> list[Home]:
    """All homes of the namespace. Raises `ClusterProblem`."""
    return homes_of(cluster.find(*_PVC, namespace))


def refuse_other_spawners(cluster: Cluster, namespace: str) -> None:
    """Raises `TidehubError` where the hub that is there does not go by what exists, and would not heed the choice."""
    found = hub_values([cluster.get("v1", "Secret", HUB_SECRET, namespace)])
    if found is None or not finds_homes(found.at("hub")):
        raise TidehubError(
            f"the hub in the namespace {namespace} goes by names and would not heed this",
            expected="a hub that this tidehub deployed, with no spawner_class of the site's own",
            fix=f"deploy first: {program.command('deploy')}",
        )


def give(cluster: Cluster, namespace: str, chosen: Home, others: Iterable[Home]) -> None:
    """Takes the mark from the chosen one first, then marks the others: in between, nobody is without a home."""
    for one, mark in ((chosen, None), *((other, other.set_aside or now()) for other in others)):
        cluster.patch(*_PVC, one.pvc, {"metadata": {"annotations": {SET_ASIDE: mark}}}, namespace)
