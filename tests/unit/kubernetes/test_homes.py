"""Whose homes are, who has two, and that the carried spawner has the same words for it."""

from __future__ import annotations

import ast
import base64
import json
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from tidehub.cli.main import run
from tidehub.errors import UsageError
from tidehub.kubernetes.homes import whose
from tidehub.kubernetes.homes.carried import finds_homes, spawner_text
from tidehub.kubernetes.objects import HOME, SERVER_NAME, SET_ASIDE, USERNAME
from tidehub.login.carried import source


def pvc(name: str, user: str, made: int, server: str = "", aside: str = "") -> dict[str, Any]:
    annotations = {
        USERNAME: user,
        **({SERVER_NAME: server} if server else {}),
        **({SET_ASIDE: aside} if aside else {}),
    }
    meta = {"name": name, "annotations": annotations, "creationTimestamp": f"2026-01-0{made}T00:00:00Z"}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": meta,
        "status": {"capacity": {"storage": "10Gi"}},
    }


PVCS = [
    pvc("claim-carol-coast---d8caca5f", "carol.coast", 2),
    pvc("claim-carol-2ecoast", "carol.coast", 1),
    pvc("claim-carol-big", "carol.coast", 3, "big"),
    pvc("claim-dan", "dan", 1),
    pvc("claim-dan-old", "dan", 2, aside="2026-02-01T00:00:00Z"),
    {"metadata": {"name": "hub-db-dir"}},
]


def test_who_has_two() -> None:
    homes = whose.homes_of(PVCS)
    assert {owner: [one.pvc for one in two] for owner, two in whose.doubles(homes).items()} == {
        "carol.coast": ["claim-carol-2ecoast", "claim-carol-coast---d8caca5f"]
    }
    told = "\n".join(whose.lines(homes))
    assert "tidehub homes --use carol.coast" in told and "dan: claim-dan-old since 2026-02-01" in told


def test_the_oldest_is_chosen_or_the_one_that_is_named() -> None:
    homes = whose.homes_of(PVCS)
    chosen, others = whose.choose(homes, "carol.coast", None)
    assert (chosen.pvc, [one.pvc for one in others]) == (
        "claim-carol-2ecoast",
        ["claim-carol-coast---d8caca5f"],
    )
    chosen, _ = whose.choose(homes, "carol.coast", "claim-carol-coast---d8caca5f")
    assert chosen.pvc == "claim-carol-coast---d8caca5f"
    assert whose.choose(homes, "carol.coast/big", None) == (homes[2], [])
    with pytest.raises(UsageError, match=r"claim-dan is not a home of carol\.coast"):
        whose.choose(homes, "carol.coast", "claim-dan")
    with pytest.raises(UsageError, match="eve has no home here"):
        whose.choose(homes, "eve", None)


def test_the_spawner_goes_by_the_same_marks() -> None:
    text = source("kubernetes.homes.spawner")
    assert [mark for mark in (USERNAME, SERVER_NAME, SET_ASIDE, HOME) if mark not in text] == []


def test_the_spawner_runs_in_every_hub_image() -> None:
    """Old ones have Python 3.8, and nothing of ours."""
    tree = ast.parse(source("kubernetes.homes.spawner"), feature_version=(3, 8))
    ast.parse(spawner_text(), feature_version=(3, 8))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names | {"kubespawner"}


def test_a_spawner_of_the_sites_own_stays() -> None:
    for own in ("mine.Spawner", object):
        hub = {"spawner_class": own}
        exec(spawner_text(), {"c": SimpleNamespace(JupyterHub=hub)})
        assert hub == {"spawner_class": own}


def test_which_hubs_find_homes() -> None:
    ours = {"extraConfig": {"0-tidehub-homes": "x"}}
    assert finds_homes(ours) and not finds_homes({}) and not finds_homes(None)
    assert not finds_homes({**ours, "config": {"JupyterHub": {"spawner_class": "mine"}}})


class Cluster:
    """PVCs, and the hub's Secret; patches are remembered."""

    def __init__(self, finds: bool) -> None:
        self.patched: list[tuple[str, str | None]] = []
        self.finds = finds

    def find(self, *_: Any) -> list[dict[str, Any]]:
        return PVCS

    def get(self, *_: Any) -> dict[str, Any]:
        values = {"hub": {"extraConfig": {"0-tidehub-homes": "x"} if self.finds else {}}, "singleuser": {}}
        return {
            "kind": "Secret",
            "data": {"values.yaml": base64.b64encode(json.dumps(values).encode()).decode()},
        }

    def patch(self, version: str, kind: str, name: str, patch: Any, namespace: str) -> None:
        self.patched.append((name, patch["metadata"]["annotations"][SET_ASIDE]))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    cluster = Cluster(True)
    given = type("Deployed", (), {"cluster": cluster, "namespace": "hub"})
    monkeypatch.setattr("tidehub.cli.deployed.open_deployed", lambda *_: given)
    return cluster


def test_nothing_is_done_without_the_typed_name(asked: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["homes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["two"].keys() == {"carol.coast"}
    assert run(["homes", "--use", "carol.coast", "--dry-run"]) == 0
    assert "set aside: claim-carol-coast---d8caca5f" in capsys.readouterr().out
    assert run(["homes", "--use", "carol.coast"]) == 2
    assert "--yes carol.coast" in capsys.readouterr().err
    assert run(["homes", "--use", "carol.coast", "--yes", "dan"]) == 2
    assert asked.patched == []
    assert run(["homes", "--use", "carol.coast", "--yes", "carol.coast"]) == 0
    assert [name for name, _ in asked.patched] == ["claim-carol-2ecoast", "claim-carol-coast---d8caca5f"]
    assert asked.patched[0][1] is None and asked.patched[1][1]


def test_a_hub_that_would_not_heed_it_is_refused(asked: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    asked.finds = False
    assert run(["homes", "--use", "carol.coast", "--yes", "carol.coast"]) == 1
    assert "would not heed" in capsys.readouterr().err and asked.patched == []
