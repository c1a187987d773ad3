"""What another set of charts means for database, homes, routes and values."""

from __future__ import annotations

from typing import Any

from tidehub.kubernetes.deploying.moves import Charts, Homes, Move, moves

OLD = Charts("3.3.8", "2022.6.1")
NEW = Charts("4.4.0", "2026.3.0")


def pvc(name: str, user: str, server: str = "") -> dict[str, Any]:
    annotations = {"hub.jupyter.org/username": user, "hub.jupyter.org/servername": server}
    return {"metadata": {"name": name, "annotations": annotations}}


def of_kind(found: tuple[Move, ...], kind: str) -> list[Move]:
    return [one for one in found if one.kind == kind]


def test_charts_of_either_model() -> None:
    assert Charts.of([("jupyterhub", "4.4.0"), ("dask-gateway", "2026.3.0")]) == NEW
    assert Charts.of([("daskhub", "2022.6.0")]) == Charts("1.2.0", "2022.6.1")
    assert (
        Charts.of([("daskhub", "2024.1.1"), ("dask-kubernetes-operator", "2026.3.0")]).jupyterhub == "3.2.1"
    )
    assert NEW.hub == "5.5.0" and Charts().hub == ""


def test_the_same_charts_mean_nothing() -> None:
    assert moves(NEW, NEW) == ()
    assert moves(Charts(), NEW) == ()


def test_the_database_goes_forward() -> None:
    (one,) = of_kind(moves(OLD, NEW), "database")
    assert one.weight == "upgrade"
    assert "from the schema 0eee8c825d24 to 4621fec11365" in one.what


def test_the_database_does_not_go_back() -> None:
    (one,) = of_kind(moves(NEW, OLD), "downgrade")
    assert one.weight == "refused" and "--database FILE" in one.fix


def test_what_the_database_really_has_counts() -> None:
    assert of_kind(moves(NEW, OLD, database="0eee8c825d24"), "downgrade") == []
    (one,) = of_kind(moves(OLD, NEW, database="f460b0348206"), "downgrade")
    assert "f460b0348206" in one.what


def test_charts_of_one_schema_move_no_database() -> None:
    found = moves(Charts("4.0.0", None), Charts("4.4.0", None))
    assert of_kind(found, "database") == of_kind(found, "downgrade") == of_kind(found, "unknown") == []


def test_an_unknown_chart_is_an_upgrade_with_a_copy() -> None:
    (one,) = of_kind(moves(NEW, Charts("9.9.9", "2026.3.0")), "unknown")
    assert one.weight == "upgrade"


def test_homes_are_counted_and_those_that_only_kubespawner_7_looks_for_are_named() -> None:
    pvcs = [
        pvc("claim-ana", "ana"),
        pvc("claim-a-2eb-40c", "a.b@c"),
        pvc("claim-a-b-c---0123abcd", "a.b@c"),
        {"metadata": {"name": "hub-db-dir"}},
    ]
    assert Homes.of(pvcs) == Homes(3, ("claim-a-b-c---0123abcd",))


def test_homes_of_kubespawner_7() -> None:
    homes = Homes(2, ("claim-x---1",))
    for before, after in ((OLD, NEW), (NEW, OLD)):
        (kept,) = of_kind(moves(before, after, homes=homes), "pvc-names")
        assert kept.weight == "notice" and "2 homes keep their PVCs" in kept.what
    (lost,) = of_kind(moves(OLD, NEW, homes=homes, finds_homes=False), "pvc-names")
    assert lost.weight == "upgrade" and "spawner_class" in lost.fix
    (back,) = of_kind(moves(NEW, OLD, homes=homes, finds_homes=False), "pvc-names")
    assert "get an empty home" in back.what and "tidehub homes" in back.fix
    assert of_kind(moves(NEW, OLD, homes=Homes(2), finds_homes=False), "pvc-names") == []
    assert of_kind(moves(OLD, NEW), "pvc-names") == []


def test_the_group_of_routes_changes() -> None:
    (one,) = of_kind(moves(OLD, NEW), "crd-group")
    assert one.weight == "upgrade" and "from traefik.containo.us to traefik.io" in one.what
    (back,) = of_kind(moves(NEW, OLD), "crd-group")
    assert "from traefik.io to traefik.containo.us" in back.what
    assert of_kind(moves(Charts("4.4.0", "2024.1.0"), NEW), "crd-group") == []


def test_values_that_changed_their_name() -> None:
    given = {"jupyterhub": {"proxy": {"networkPolicy": {"enabled": False}}}}
    (one,) = of_kind(moves(Charts("1.2.0", None), Charts("4.4.0", None), overrides=given), "values")
    assert one.weight == "refused" and one.fix == "write it as proxy.chp.networkPolicy"
    nested = {"daskhub": {"jupyterhub": {"auth": {"type": "dummy"}}}}
    (other,) = of_kind(moves(Charts("1.2.0", None), Charts("3.2.1", None), overrides=nested), "values")
    assert "hub.config" in other.fix
