"""`tidehub plan` as it is typed: its words, its exit codes, and that no secret is in them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_api import Api
from local_cluster import LocalCluster
from rendered_sites import SECRETS, set_namespace, site_folder
from standin_charts import RELEASES, Release, StandinCharts

from tidehub.errors import FAILED, USAGE
from tidehub.helm.command_line import HelmCommandLine
from tidehub.helm.program import checked

pytestmark = pytest.mark.parametrize("helm_program", [4], indirect=True, ids=["helm4"])
PLAN = [sys.executable, "-m", "tidehub", "plan"]
WITHOUT_LINUX = Path(__file__).parent / "without_linux.py"
UNKNOWN = "4.3.0"
"""A version whose digest no release set has: a stand-in of a known one is refused, as it should be."""
ONLY_THE_HUB = ["--set", "dask.engine=none", "--set", f"kubernetes.charts={{jupyterhub: {UNKNOWN}}}"]


class Command:
    """Runs `tidehub plan` in a folder with a site."""

    def __init__(self, folder: Path, cluster: LocalCluster, namespace: str, helm: Path, charts: Path) -> None:
        self.folder, self.cluster, self.namespace, self.helm = folder, cluster, namespace, helm
        self.argv = [*PLAN, *ONLY_THE_HUB, "--set", f"kubernetes.namespace={namespace}"]
        self.argv += ["--charts", str(charts), "--offline"]
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": os.pathsep.join(sys.path),
            "TIDEHUB_HELM": str(helm),
            "KUBECONFIG": str(cluster.kubeconfig),
        }

    def __call__(self, *argv: str, code: int = 0) -> str:
        ended = subprocess.run(
            [*self.argv, *argv],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert ended.returncode == code, ended.stdout + ended.stderr
        assert not [name for name, value in SECRETS.items() if value in ended.stdout + ended.stderr]
        return ended.stdout + (ended.stderr if code else "")


@pytest.fixture
def command(
    cluster: LocalCluster,
    namespace: str,
    helm_program: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Command]:
    if not isinstance(cluster, LocalCluster):
        pytest.skip("storage classes of a given cluster are its own")
    cluster.storage_class("csi-cinder-sc-delete")
    site_folder(tmp_path, "protocoast")
    monkeypatch.setitem(RELEASES, ("jupyterhub", UNKNOWN), Release(">=1.28.0-0"))  # type: ignore[arg-type]
    packed = tmp_path / "charts"
    packed.mkdir()
    charts = StandinCharts(Path(__file__).parent / "charts", packed)
    yield Command(tmp_path, cluster, namespace, helm_program, charts.directory)
    helm = HelmCommandLine(checked(str(helm_program)), kubeconfig=str(cluster.kubeconfig))
    for release in helm.list(namespace):
        helm.uninstall(release.name, namespace, timeout=60)


def test_a_new_site_in_words_and_as_json(command: Command) -> None:
    told = command()
    assert told.startswith(f"ProtoCoast in the namespace {command.namespace} of ")
    assert "jupyterhub: jupyterhub 4.3.0 would be installed" in told
    assert "  + Deployment hub" in told and "  + Secret hub" in told
    read = json.loads(command("--json"))
    assert read["empty"] is False and read["counts"]["add"] > 10
    assert {one["action"] for one in read["releases"]} == {"install"}
    assert command("--exit-code", code=FAILED).startswith("ProtoCoast")


def test_a_conflict_is_a_failure(command: Command) -> None:
    taken = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "hub"}}
    api: Api = command.cluster.api
    api.create(taken, command.namespace)
    told = command(code=FAILED)
    assert "STOP   ServiceAccount hub exists already and belongs to no release" in told
    assert json.loads(command("--json", code=FAILED))["findings"][0]["kind"] == "conflict"


def test_what_cannot_be_planned_is_said_in_a_sentence(command: Command) -> None:
    assert "Traceback" not in command("nowhere.yaml", code=USAGE)
    told = command("--context", "nobody", code=FAILED)
    assert "nobody" in told and "Traceback" not in told
    (command.folder / "tidehub.secrets.yaml").unlink()
    told = command(code=USAGE)
    assert "client_secret" in told and "Traceback" not in told


def test_the_commands_of_an_operator_need_nothing_that_only_linux_has(command: Command) -> None:
    options = command.argv[len(PLAN) :]

    def typed(*words: str) -> str:
        command.argv = [sys.executable, str(WITHOUT_LINUX), *words]
        return command(code=0)

    typed("validate", *options[: len(ONLY_THE_HUB) + 2])
    typed("render", *options, "--output", "rendered")
    assert (command.folder / "rendered" / "values" / "jupyterhub.yaml").is_file()
    planned = typed("plan", *options)
    assert "jupyterhub: jupyterhub 4.3.0 would be installed" in planned
    done = json.loads(typed("deploy", *options, "--no-check", "--json"))
    assert done["ok"] and done["revision"] == 1
    assert "  + Deployment hub" not in typed("plan", *options)
    set_namespace(command.folder / "tidehub.yaml", command.namespace)
    assert "jupyterhub" in typed("status", "--target", "kubernetes", "--json")
