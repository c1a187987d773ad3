"""The example sites with the upstream charts, typed as an operator would: from validate to uninstall, in both models.

`TIDEHUB_CHARTS` names the folder of archives. Pods are simulated, so nothing is said of what would run in them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from deployed_site import home, put_database, schema_on_volume
from local_cluster import LocalCluster
from rendered_sites import set_namespace, site_folder

from tidehub.cli.main import run
from tidehub.kubernetes.cluster.connection import connect
from tidehub.kubernetes.deploying.record import read_record

NO_HOOKS = {"jupyterhub": {"prePuller": {"hook": {"enabled": False}}}}
OLD_PAIR = {"jupyterhub": "3.3.8", "dask-gateway": "2022.6.1"}
NEW_PAIR = {"jupyterhub": "4.4.0", "dask-gateway": "2026.3.0"}
OLD_META, NEW_META = {"daskhub": "2022.6.0"}, {"daskhub": "2024.1.1"}


@dataclass(frozen=True)
class Way:
    """A site in one model, from its older charts to the newer ones."""

    example: str
    model: str
    before: Mapping[str, str]
    after: Mapping[str, str]
    schemas: tuple[str, str]
    """Of the hub's database with each."""


WAYS = {
    "protocoast-split": Way("protocoast", "split", OLD_PAIR, NEW_PAIR, ("0eee8c825d24", "4621fec11365")),
    "protocoast-daskhub": Way("protocoast", "daskhub", OLD_META, NEW_META, ("4dc2d5a8c53c", "0eee8c825d24")),
    "pangeo-daskhub": Way("pangeo", "daskhub", OLD_META, NEW_META, ("4dc2d5a8c53c", "0eee8c825d24")),
    "pangeo-split": Way("pangeo", "split", OLD_PAIR, NEW_PAIR, ("0eee8c825d24", "4621fec11365")),
}
Type = Callable[..., str]


@pytest.fixture
def typed(
    cluster: LocalCluster,
    helm_program: Path,
    charts_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Type]:
    """Runs `tidehub ...` in this process; what it printed. `code` is the exit code that is expected."""
    if not isinstance(cluster, LocalCluster):
        pytest.skip("storage classes of a given cluster are its own")
    cluster.storage_class("csi-cinder-sc-delete")
    for name, value in {
        "KUBECONFIG": str(cluster.kubeconfig),
        "TIDEHUB_HELM": str(helm_program),
        "TIDEHUB_CHARTS": str(charts_dir),
        "XDG_STATE_HOME": str(tmp_path / "data"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)

    def type_(*argv: str, code: int = 0) -> str:
        capsys.readouterr()
        ended = run(argv)
        said = capsys.readouterr()
        assert ended == code, f"tidehub {' '.join(argv)}\n{said.out}\n{said.err}"
        return said.out

    yield type_


@pytest.mark.parametrize("helm_program", [4], indirect=True, ids=["helm4"])
@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
def test_the_whole_life_of_an_example(
    typed: Type, cluster: LocalCluster, namespace: str, tmp_path: Path, way: Way
) -> None:
    file = str(site_folder(tmp_path / "site", way.example))
    connection = connect(str(cluster.kubeconfig))

    def settings(charts: Mapping[str, str]) -> list[str]:
        values: dict[str, Any] = {
            "kubernetes.namespace": namespace,
            "kubernetes.model": way.model,
            "kubernetes.charts": dict(charts),
            "overrides.helm": NO_HOOKS,
            # The one that simulated volumes come from; Pangeo's example takes its cluster's default.
            "hub.database.storage_class": "csi-cinder-sc-delete",
        }
        return [part for key, value in values.items() for part in ("--set", f"{key}={json.dumps(value)}")]

    before, after = settings(way.before), settings(way.after)
    releases = {"daskhub"} if way.model == "daskhub" else {"jupyterhub", "dask-gateway"}

    def revisions() -> dict[str, int]:
        record = read_record(connection, namespace)
        assert record is not None and record.unfinished is None
        return {one.name: one.revision for one in record.releases}

    typed("validate", file, *before)
    typed("render", file, *before, "--offline", "--output", str(tmp_path / "rendered"))
    put_database(cluster, way.schemas[0])
    # Something would change, and nothing stands against it.
    typed("plan", file, *before, "--offline", "--exit-code", code=1)
    done = json.loads(typed("deploy", file, *before, "--offline", "--no-check", "--json"))
    assert done["ok"] and done["revision"] == 1
    assert revisions() == dict.fromkeys(releases, 1)
    typed("plan", file, *before, "--offline", "--exit-code")
    again = json.loads(typed("deploy", file, *before, "--offline", "--no-check", "--json"))
    assert not again["changed"] and revisions() == dict.fromkeys(releases, 1)
    connection.create(home("ana", "csi-cinder-sc-delete"), namespace)

    # Not by the way: what cannot be taken back is an upgrade.
    refused = json.loads(typed("deploy", file, *after, "--offline", "--no-check", "--json", code=1))
    assert "this is an upgrade" in refused["what"]
    upgraded = json.loads(typed("upgrade", file, *after, "--offline", "--no-check", "--json"))
    assert upgraded["revision"] == 2 and revisions() == dict.fromkeys(releases, 2)
    typed("plan", file, *after, "--offline", "--exit-code")

    put_database(cluster, way.schemas[1])  # as the newer hub leaves it
    record = read_record(connection, namespace)
    assert record is not None and record.deployed is not None
    saved = record.deployed.saved
    set_namespace(Path(file), namespace)
    refused = json.loads(typed("rollback", file, "--json", code=1))
    assert f"--database {saved}" in refused["fix"]
    back = json.loads(typed("rollback", file, "--database", saved, "--json"))
    assert back["revision"] == 3 and schema_on_volume(cluster) == way.schemas[0]
    # CRDs do not go back: somebody else may need the newer ones, and they serve the older charts too.
    left = json.loads(typed("plan", file, *before, "--offline", "--json"))
    assert {one["kind"] for one in left["changes"]} <= {"CustomResourceDefinition"}
    assert not any(one["weight"] == "refusal" for one in left["findings"])

    gone = json.loads(typed("uninstall", file, "--json"))
    assert gone["left"]["homes"] == ["claim-ana"] and gone["left"]["database"] == ["hub-db-dir"]
    assert connection.get("apps/v1", "Deployment", "hub", namespace) is None
    typed("uninstall", file, "--delete-homes", "--delete-database", "--delete-namespace", "--yes", namespace)
    assert connection.get("v1", "Namespace", namespace) is None
