"""tidehub killed at every step, and in the middle of Helm: the same command again comes to the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from deployed_site import CURRENT, SiteOnCluster, home
from local_cluster import LocalCluster
from standin_charts import StandinCharts

from tidehub.kubernetes.deploying.deploy import deploy
from tidehub.kubernetes.deploying.record import Record, read_record
from tidehub.kubernetes.rendering.model import Rendered

HERE = Path(__file__).parent
PROGRAM = HERE / "interrupted_process.py"
ENDLESS = {"prePuller": {"hook": {"enabled": True, "image": {"name": "endless.invalid/awaiter", "tag": "1"}}}}
CHANGED = {"hub": {"db": {"pvc": {"storageClassName": "homes"}}, "config": {"A": {"b": 1}}}}
POLICY: dict[str, Any] = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "tidehub-test"},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
}
BOTH = tuple(name for name, _ in CURRENT)


class Interrupted:
    """A site whose operations run in processes that end early."""

    def __init__(self, site: SiteOnCluster) -> None:
        self.site = site
        self.values: dict[str, Any] = {}
        self.objects: list[Any] = []
        self.releases: tuple[str, ...] = BOTH
        self.running: list[subprocess.Popen[str]] = []

    def start(self, operation: str, tried: Sequence[tuple[str, str]] | None = None) -> subprocess.Popen[str]:
        given = {
            "kubeconfig": str(self.site.kubeconfig),
            "namespace": self.site.namespace,
            "charts": str(self.site.charts),
            "program": str(self.site.program),
            "operation": operation,
            "kills": tried is not None,
            "tried": tried or [],
            "values": self.values,
            "objects": self.objects,
            "releases": self.releases,
        }
        child = subprocess.Popen(
            [sys.executable, str(PROGRAM), json.dumps(given)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.running.append(child)
        return child

    def killed(self, operation: str, tried: Sequence[tuple[str, str]]) -> tuple[str, str] | None:
        """The first moment that was not tried yet, at which the process died; None where it came to its end."""
        child = self.start(operation, tried)
        said, _ = child.communicate(timeout=300)
        if child.returncode == 0:
            return None
        assert child.returncode == -signal.SIGKILL, f"after {tried}:\n{said}"
        step, moment = json.loads(said.rpartition("killed at ")[2])
        return step, moment

    def record(self) -> Record | None:
        return read_record(self.site.cluster(), self.site.namespace)

    def deploy(self) -> None:
        """The same in this process, to its end."""
        deploy(self.wanted(), self.site.work())

    def is_at_rest(self) -> bool:
        """Whether another deployment would do nothing."""
        return not deploy(self.wanted(), self.site.work()).changed

    def wanted(self) -> Rendered:
        self.site.values, self.site.objects = self.values, tuple(self.objects)
        return self.site.rendered([one for one in CURRENT if one[0] in self.releases])


@pytest.fixture
def interrupted(
    cluster: LocalCluster,
    namespace: str,
    standin_charts: StandinCharts,
    helm_program: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[Interrupted]:
    if not isinstance(cluster, LocalCluster):
        pytest.skip("storage and pods of a given cluster are its own")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "data"))
    cluster.storage_class("homes")
    one = Interrupted(SiteOnCluster.on(cluster, namespace, standin_charts, helm_program))
    yield one
    for child in one.running:
        if child.poll() is None:
            child.kill()
            child.wait()


def kill_everywhere(interrupted: Interrupted, operation: str) -> list[str]:
    """Kills the operation at every step: when it is written down, and when it is done. Each run goes on from the last.

    The steps come from the code as it runs: one that is added is killed too. Which there were, in order.
    """
    tried: list[tuple[str, str]] = []
    while (moment := interrupted.killed(operation, tried)) is not None:
        tried.append(moment)
        record = interrupted.record()
        assert record is not None and record.unfinished is not None, moment
        assert record.unfinished.current is not None and record.unfinished.current.step == moment[0]
    assert {moment for _, moment in tried} == {"begins", "worked"}
    return list(dict.fromkeys(step for step, _ in tried))


@pytest.mark.parametrize("helm_program", [4], indirect=True, ids=["helm4"])
def test_an_installation_killed_at_every_step_comes_to_its_end(interrupted: Interrupted) -> None:
    interrupted.objects = [POLICY]
    # What a killed run left half-done must be seen: CRDs are made anew.
    steps = kill_everywhere(interrupted, "deploy")
    assert [one for one in steps if one.startswith("release")] == [
        "release jupyterhub",
        "release dask-gateway",
    ]
    assert "objects" in steps
    record = interrupted.record()
    assert record is not None and record.unfinished is None and record.deployed is not None
    assert record.deployed.charts == dict(CURRENT)
    assert interrupted.is_at_rest()


@pytest.mark.parametrize("helm_program", [4], indirect=True, ids=["helm4"])
def test_a_change_its_rollback_and_the_removal_killed_at_every_step_come_to_their_ends(
    interrupted: Interrupted,
) -> None:
    interrupted.objects = [POLICY]
    interrupted.deploy()
    interrupted.values, interrupted.objects = {"jupyterhub": CHANGED}, []
    assert {"save", "objects", "release jupyterhub"} <= set(kill_everywhere(interrupted, "deploy"))
    assert interrupted.is_at_rest()

    assert {"save", "release jupyterhub", "objects"} <= set(kill_everywhere(interrupted, "rollback"))
    values = interrupted.site.helm().values("jupyterhub", interrupted.site.namespace)
    assert "config" not in values["hub"]
    assert interrupted.site.cluster().get(
        "networking.k8s.io/v1", "NetworkPolicy", "tidehub-test", interrupted.site.namespace
    )

    interrupted.releases, interrupted.values, interrupted.objects = ("jupyterhub",), {}, []
    assert "retire" in kill_everywhere(interrupted, "deploy")
    assert set(interrupted.site.revisions()) == {"jupyterhub"}

    interrupted.site.cluster().create(home("ana"), interrupted.site.namespace)
    assert {"release jupyterhub", "homes", "database"} <= set(kill_everywhere(interrupted, "uninstall"))
    assert interrupted.site.revisions() == {}
    assert interrupted.site.cluster().find("v1", "PersistentVolumeClaim", interrupted.site.namespace) == []


def helm_children(parent: int) -> list[int]:
    """Processes of helm that `parent` started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "stat").read_text().rpartition(")")[2].split()
                name = (entry / "comm").read_text().strip()
            except OSError:
                continue
            if name == "helm" and int(status[1]) == parent:
                found.append(int(entry.name))
    return found


def status_of(interrupted: Interrupted) -> str:
    found = interrupted.site.helm().status("jupyterhub", interrupted.site.namespace)
    return found.status if found else ""


def until(what: str, read: Any, patience: float = 90) -> Any:
    deadline = time.monotonic() + patience
    while not (found := read()):
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.2)
    return found


@pytest.mark.parametrize("there_already", [False, True], ids=["install", "upgrade"])
def test_killed_in_the_middle_of_helm(interrupted: Interrupted, there_already: bool) -> None:
    if there_already:
        interrupted.deploy()
    interrupted.values = {"jupyterhub": ENDLESS}
    child = interrupted.start("deploy")
    pending = "pending-upgrade" if there_already else "pending-install"
    until("helm works", lambda: status_of(interrupted) == pending)
    helms = until("helm is there", lambda: helm_children(child.pid))
    child.kill()
    child.wait()
    # Left alone it would go on, and the next tidehub would take it for dead.
    until("helm has ended", lambda: not any(Path(f"/proc/{one}").exists() for one in helms), 10)
    assert status_of(interrupted) == pending

    interrupted.values = {}
    interrupted.deploy()
    assert status_of(interrupted) == "deployed"
    assert f"it was left {pending}" in interrupted.site.listener.text
    assert interrupted.is_at_rest()


@pytest.mark.parametrize("helm_program", [4], indirect=True, ids=["helm4"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_ctrl_c_in_the_middle_of_helm_says_the_state_and_the_command(
    interrupted: Interrupted, number: signal.Signals
) -> None:
    interrupted.values = {"jupyterhub": ENDLESS}
    child = interrupted.start("deploy")
    until("helm works", lambda: status_of(interrupted) == "pending-install")
    os.kill(child.pid, number)
    said, _ = child.communicate(timeout=60)
    assert child.returncode == 130, said
    assert "not finished: Release jupyterhub" in said and "then: tidehub deploy" in said
    assert "Traceback" not in said
    record = interrupted.record()
    assert record is not None and record.journal is not None and record.journal.outcome == "interrupted"
    interrupted.values = {}
    interrupted.deploy()
    assert interrupted.is_at_rest()
