"""Homes through an upgrade to KubeSpawner 7 and back: real hubs with the real spawners, real PVCs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from local_cluster import LocalCluster
from real_hub import RealHub

from tidehub.kubernetes.cluster.connection import connect
from tidehub.kubernetes.homes import moving, whose
from tidehub.kubernetes.homes.carried import spawner_text
from tidehub.kubernetes.observing.status import platform_status

OLD, NEW = "3.3.8", "4.4.0"
SAFE = "claim-carol-coast---d8caca5f"


@pytest.fixture
def hub(cluster: Any, namespace: str, tmp_path: Path) -> RealHub:
    if not isinstance(cluster, LocalCluster):
        pytest.skip("the pods of these hubs are answered for by this process")
    cluster.storage_class("homes", expands=True)
    return RealHub(cluster, namespace, tmp_path)


def claims(hub: RealHub) -> set[str]:
    return {one["metadata"]["name"] for one in hub.cluster.api.list("PersistentVolumeClaim", hub.namespace)}


def test_who_has_two_is_told_and_gets_the_one_that_is_chosen(hub: RealHub, tmp_path: Path) -> None:
    """First the defect that `homes.spawner` is for. Where that fails, upstream has mended it."""
    with hub.running(OLD):
        assert hub.start("carol.coast") == "claim-carol-2ecoast"
    with hub.running(NEW):
        hub.stop("carol.coast")
        assert hub.start("carol.coast") == SAFE
    cluster = connect(str(hub.cluster.kubeconfig))
    found = moving.homes(cluster, hub.namespace)
    assert {owner: {one.pvc for one in two} for owner, two in whose.doubles(found).items()} == {
        "carol.coast": {"claim-carol-2ecoast", SAFE}
    }
    assert "carol.coast" in platform_status(cluster, no_helm(), hub.namespace, address=None)["pvcs"]["two"]
    with hub.running(NEW, spawner_text()):
        hub.stop("carol.coast")
        # Nothing is decided over anybody's head.
        assert hub.start("carol.coast") == SAFE
        hub.stop("carol.coast")
        for wanted in ("claim-carol-2ecoast", SAFE, "claim-carol-2ecoast"):
            moving.give(cluster, hub.namespace, *whose.choose(found, "carol.coast", wanted))
            assert hub.start("carol.coast") == wanted
            hub.stop("carol.coast")
            found = moving.homes(cluster, hub.namespace)
            assert whose.doubles(found) == {}
    assert claims(hub) == {"claim-carol-2ecoast", SAFE}


def no_helm() -> Any:
    class NoHelm:
        def list(self, namespace: str) -> tuple[()]:
            return ()

    return NoHelm()


def test_homes_stay_through_an_upgrade_and_back(hub: RealHub) -> None:
    code = spawner_text()
    with hub.running(OLD, code):
        before = {
            (user, server): hub.start(user, server)
            for user, server in (("carol.coast", ""), ("anna", ""), ("carol.coast", "big"), ("dan.delta", ""))
        }
        assert before["carol.coast", ""] == "claim-carol-2ecoast"
        hub.stop("dan.delta")
    old = claims(hub)
    with hub.running(NEW, code):
        # Who ran during the upgrade, and who did not; named servers, too.
        for user, server in before:
            if user != "dan.delta":
                hub.stop(user, server)
        assert {each: hub.start(*each) for each in before} == before
        made = hub.start("eve.estuary")
        assert made.startswith("claim-eve-estuary---")
        assert claims(hub) == {*old, made}
        for each in before:
            hub.stop(*each)
    with hub.running(OLD, code):
        hub.stop("eve.estuary")
        assert {each: hub.start(*each) for each in before} == before
        assert hub.start("eve.estuary") == made
        assert claims(hub) == {*old, made}


def test_a_database_that_knows_nothing_finds_the_homes(hub: RealHub) -> None:
    """An adopted hub, or one whose database was lost: what counts is what exists."""
    with hub.running(OLD):
        before = {each: hub.start(*each) for each in (("carol.coast", ""), ("carol.coast", "big"))}
        for each in before:
            hub.stop(*each)
    (hub.folder / "jupyterhub.sqlite").unlink()
    # The cluster's answer comes in pages, whatever their size.
    code = spawner_text()
    assert "PAGE = 250" in code
    with hub.running(NEW, code.replace("PAGE = 250", "PAGE = 1")):
        assert {each: hub.start(*each) for each in before} == before
        # A remembered home that is gone: the next start makes one instead of waiting for it for ever.
        hub.stop("carol.coast")
        hub.cluster.api.delete("PersistentVolumeClaim", before["carol.coast", ""], hub.namespace)
        gone = lambda: before["carol.coast", ""] not in claims(hub)  # noqa: E731
        hub.cluster.api.wait("it is gone", gone)
        assert hub.start("carol.coast") == SAFE
