"""Fixtures of the tests against a real API server: the project's own (`tests/cluster/prepare`), or a given one."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import cluster_programs
import pytest
from given_cluster import WISH, GivenCluster
from local_cluster import LocalCluster
from standin_charts import StandinCharts

from tidehub.program import CHECKOUT

# The messages of the installed program, not of the checkout that runs the tests.
os.environ.pop(CHECKOUT, None)

HERE = Path(__file__).parent
Cluster = LocalCluster | GivenCluster


NEEDS_PROGRAMS = frozenset({"cluster", "helm_program", "prepared_programs"})
NOT_PREPARED = f"no test cluster is prepared: {cluster_programs.PREPARE} makes one (about 10 minutes, once)"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks; and what lacks the programs is skipped here, because that gives one line a file in the summary."""
    ours = [item for item in items if HERE in item.path.parents]
    for item in ours:
        item.add_marker(pytest.mark.kubernetes)
    if not ours or os.environ.get("CI") or os.environ.get(WISH) or cluster_programs.find() is not None:
        return
    for item in ours:
        if NEEDS_PROGRAMS & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.skip(reason=NOT_PREPARED))


def is_given() -> bool:
    """Whether the tests run on the cluster of `KUBECONFIG`."""
    wish = os.environ.get(WISH, "")
    if wish not in ("", "given"):
        pytest.fail(
            f"{WISH} is {wish!r}; expected nothing, or 'given' for the cluster of KUBECONFIG", pytrace=False
        )
    return wish == "given"


def missing(reason: str) -> None:
    """Skip here; fail where everything was to be prepared."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason} (CI is set, so this is not a reason to skip)", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def prepared_programs() -> cluster_programs.Programs:
    """What `tests/cluster/prepare` built, whichever cluster the tests use."""
    return _programs()


def _programs() -> cluster_programs.Programs:
    found = cluster_programs.find()
    if found is None:
        missing(NOT_PREPARED)
        raise AssertionError
    return found


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster that the tests of a file share: what they leave in it, such as CRDs, is nobody else's.

    A test that stops its API server starts it again.
    """
    if is_given():
        yield GivenCluster()
        return
    programs = _programs()
    with LocalCluster(tmp_path_factory.mktemp("cluster"), programs) as started:
        yield started


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of the test's own, deleted at its end; its objects go in the background."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    cluster.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    cluster.api.delete("Namespace", name)


@pytest.fixture(scope="module", params=[3, 4], ids=["helm3", "helm4"])
def helm_program(request: pytest.FixtureRequest) -> Path:
    """The program `helm`, of both major versions; of a given cluster the one on PATH where its version fits."""
    if not is_given():
        return _programs().helm(request.param)
    found = shutil.which("helm")
    if found is None:
        pytest.skip("no helm on PATH")
    said = subprocess.run([found, "version", "--template", "{{.Version}}"], capture_output=True, text=True)
    if not said.stdout.startswith(f"v{request.param}."):
        pytest.skip(f"helm on PATH is {said.stdout}")
    return Path(found)


@pytest.fixture(scope="session")
def charts_dir() -> Path:
    """The real upstream charts, as archives `NAME-VERSION.tgz`."""
    named = os.environ.get("TIDEHUB_CHARTS", "")
    if not named:
        pytest.skip(
            "TIDEHUB_CHARTS names no directory of upstream charts: CONTRIBUTING.md says how to get them"
        )
    folder = Path(named)
    if not any(folder.glob("*.tgz")):
        pytest.fail(f"TIDEHUB_CHARTS={folder} holds no *.tgz", pytrace=False)
    return folder


@pytest.fixture(scope="session")
def standin_charts(tmp_path_factory: pytest.TempPathFactory) -> StandinCharts:
    """Our own small charts with the upstream ones' names and versions, as a directory of archives."""
    return StandinCharts(HERE / "charts", tmp_path_factory.mktemp("charts"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Shows the ends of the components' logs under a failed test."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.failed and report.when in ("setup", "call"):
        used = getattr(item, "funcargs", {}).get("cluster")
        if isinstance(used, LocalCluster):
            report.sections.append(("logs of the test cluster", used.log_tails()))
