"""The Helm engine's contract, with both programs, against a real API server."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cluster_api import Refused
from given_cluster import GivenCluster
from local_cluster import LocalCluster
from tiny_chart import SECRET, tiny_chart

from tidehub.helm import problems, process
from tidehub.helm.command_line import HelmCommandLine
from tidehub.helm.program import HelmProgram, checked
from tidehub.helm.records import TYPE, marked_failed, newest, selector, stored
from tidehub.kubernetes.objects import read_manifest
from tidehub.secrets.secret import Secret

Cluster = LocalCluster | GivenCluster


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_chart(tmp_path_factory.mktemp("chart") / "tiny")


@pytest.fixture(scope="module")
def program(helm_program: Path) -> HelmProgram:
    return checked(str(helm_program))


@pytest.fixture
def helm(program: HelmProgram, cluster: Cluster) -> HelmCommandLine:
    return HelmCommandLine(program, kubeconfig=str(cluster.kubeconfig))


class Secrets:
    """What `records` asks of a cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._api = cluster.api

    def find(
        self,
        api_version: str,
        kind: str,
        namespace: str | None = None,
        *,
        labels: Mapping[str, str] | str = "",
        fields: str = "",
    ) -> list[dict[str, Any]]:
        query = {"labelSelector": str(labels), "fieldSelector": fields}
        found = self._api.call("GET", f"/api/v1/namespaces/{namespace}/secrets", query=query)
        return [{"apiVersion": api_version, "kind": kind, **each} for each in found["items"]]

    def replace(
        self, obj: dict[str, Any], namespace: str | None = None, *, dry_run: bool = False
    ) -> dict[str, Any]:
        path = f"/api/v1/namespaces/{namespace}/secrets/{obj['metadata']['name']}"
        return self._api.call("PUT", path, obj)  # type: ignore[no-any-return]


def install(
    helm: HelmCommandLine, chart: Path, namespace: str, values: Mapping[str, Any] | None = None, **more: Any
) -> Any:
    given: dict[str, Any] = {"release": "app", "timeout": 60.0, **more}
    return helm.upgrade_install(chart, values or {}, namespace=namespace, **given)


# -- a release's life


def test_a_release_from_its_installation_to_its_end(
    helm: HelmCommandLine, cluster: Cluster, namespace: str, tiny: Path
) -> None:
    assert helm.status("app", namespace) is None
    assert helm.history("app", namespace) == () == helm.list(namespace)
    assert helm.uninstall("app", namespace, timeout=30) is False
    with pytest.raises(problems.ReleaseNotFound):
        helm.manifest("app", namespace)

    first = install(
        helm, tiny, namespace, {"token": Secret(SECRET), "hook": "example.invalid/a:1"}, description="first"
    )
    assert (first.record.revision, first.record.status, first.record.description) == (1, "deployed", "first")
    assert (first.record.chart, first.record.chart_version, first.record.app_version) == (
        "tiny",
        "1.2.3",
        "9",
    )
    assert {each["kind"] for each in read_manifest(first.manifest)} == {"ConfigMap", "Secret", "Job"}
    assert helm.status("app", namespace) == first.record
    (listed,) = helm.list(namespace)
    assert (listed.name, listed.revision, listed.chart, listed.status) == ("app", 1, "tiny", "deployed")
    assert helm.values("app", namespace) == {"token": SECRET, "hook": "example.invalid/a:1"}
    assert helm.values("app", namespace, all=True)["data"] == "one"
    assert [each["kind"] for each in read_manifest(helm.hooks("app", namespace))] == ["Job"]
    assert {each["kind"] for each in read_manifest(helm.manifest("app", namespace))} == {
        "ConfigMap",
        "Secret",
    }

    second = install(helm, tiny, namespace, {"data": "two", "app": "a"}, wait=True)
    assert second.record.revision == 2
    assert helm.values("app", namespace) == {"data": "two", "app": "a"}, (
        "nothing of the earlier values is kept"
    )
    assert cluster.api.get("ConfigMap", "app-data", namespace)["data"]["upgrade"] == "true"  # type: ignore[index]
    assert helm.values("app", namespace, 1)["token"] == SECRET

    back = helm.rollback("app", namespace, 1, timeout=60, wait=True)
    assert (back.revision, back.status) == (3, "deployed")
    assert cluster.api.get("ConfigMap", "app-data", namespace)["data"]["data"] == "one"  # type: ignore[index]
    assert [each.status for each in helm.history("app", namespace)] == [
        "superseded",
        "superseded",
        "deployed",
    ]
    with pytest.raises(problems.ReleaseNotFound):
        helm.rollback("app", namespace, 77, timeout=30)

    assert helm.uninstall("app", namespace, timeout=60, keep_history=True) is True
    assert cluster.api.get("ConfigMap", "app-data", namespace) is None
    gone = helm.status("app", namespace)
    assert gone is not None and gone.status == "uninstalled"
    again = install(helm, tiny, namespace)
    assert again.record.status == "deployed"
    assert helm.uninstall("app", namespace, timeout=60) is True
    assert helm.list(namespace) == ()


def test_a_dry_run_sees_the_cluster_and_writes_nothing(
    helm: HelmCommandLine, cluster: Cluster, namespace: str, tiny: Path
) -> None:
    began = time.time()
    would = install(
        helm, tiny, namespace, {"hook": "example.invalid/a:1", "token": Secret(SECRET)}, dry_run="server"
    )
    config = next(each for each in read_manifest(would.manifest) if each["kind"] == "ConfigMap")
    assert config["data"]["found"] == namespace
    assert helm.status("app", namespace) is None
    install(helm, tiny, namespace)
    middle = time.time()
    install(helm, tiny, namespace, {"data": "two"}, dry_run="server")
    assert [each.number for each in helm.history("app", namespace)] == [1]
    if cluster.given:
        return

    def ours(since: float, until: float) -> list[str]:
        return [
            f"{each['verb']} {each['objectRef']['resource']}"
            for each in cluster.writes(since)
            if (each.get("objectRef") or {}).get("namespace") == namespace
            and "Helm" in each.get("userAgent", "")
            and each["requestReceivedTimestamp"] < time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(until + 1))
        ]

    assert ours(began, began - 1) == []
    assert ours(middle, time.time()) == []
    assert ours(began, time.time()), "an installation is seen, so a dry run would have been"


def test_what_a_user_changed_by_hand_is_set_back(
    helm: HelmCommandLine, cluster: Cluster, namespace: str, tiny: Path
) -> None:
    """Helm 4 would stop half-way at a field that somebody else applied, if it were not told to force it."""
    install(helm, tiny, namespace)
    mine = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "app-data"},
        "data": {"data": "mine"},
    }
    cluster.apply(mine, namespace)
    install(helm, tiny, namespace, {"data": "theirs"})
    assert cluster.api.get("ConfigMap", "app-data", namespace)["data"]["data"] == "theirs"  # type: ignore[index]
    helm.rollback("app", namespace, 1, timeout=60)


def test_one_version_of_helm_goes_on_with_a_release_of_the_other(
    helm: HelmCommandLine, helm_program: Path, cluster: Cluster, namespace: str, tiny: Path
) -> None:
    """Helm 3 wrote objects as a client, Helm 4 applies them on the server: a rollback crosses that line twice."""
    beside = [helm_program.parent.parent / name / "helm" for name in ("helm3", "helm4")]
    others = [path for path in beside if path != helm_program and path.is_file()]
    if not others:
        pytest.skip("there is only one version of helm")
    other = HelmCommandLine(checked(str(others[0])), kubeconfig=str(cluster.kubeconfig))
    install(other, tiny, namespace, {"data": "one", "app": "a"})
    install(helm, tiny, namespace, {"data": "two", "app": "a"})
    assert helm.rollback("app", namespace, 1, timeout=60).status == "deployed"
    install(other, tiny, namespace, {"data": "three", "app": "a"})
    assert cluster.api.get("ConfigMap", "app-data", namespace)["data"]["data"] == "three"  # type: ignore[index]
    assert [each.number for each in other.history("app", namespace)] == [1, 2, 3, 4]
    assert other.history("app", namespace) == helm.history("app", namespace)


# -- refusals


def refusal(
    helm: HelmCommandLine, chart: Path, namespace: str, values: Mapping[str, Any] | None = None, **more: Any
) -> Any:
    with pytest.raises(problems.HelmProblem) as caught:
        install(helm, chart, namespace, values, **more)
    assert SECRET not in str(caught.value)
    return caught.value


def test_objects_that_are_somebody_elses(
    helm: HelmCommandLine, cluster: Cluster, namespace: str, tiny: Path
) -> None:
    made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "app-data"}}
    cluster.api.create(made, namespace)
    found = refusal(helm, tiny, namespace)
    assert isinstance(found, problems.OwnershipConflict)
    assert (found.kind, found.name, found.owner) == ("ConfigMap", "app-data", None)
    of_release = {"meta.helm.sh/release-name": "old", "meta.helm.sh/release-namespace": namespace}
    labels = {"app.kubernetes.io/managed-by": "Helm"}
    cluster.api.patch(
        "ConfigMap", "app-data", {"metadata": {"annotations": of_release, "labels": labels}}, namespace
    )
    assert refusal(helm, tiny, namespace).owner == "old"
    taken = install(helm, tiny, namespace, take_ownership=True)
    assert taken.record.status == "deployed"
    assert install(helm, tiny, namespace).record.status == "deployed"


def test_what_the_cluster_refuses(
    helm: HelmCommandLine, cluster: Cluster, namespace: str, tiny: Path
) -> None:
    assert isinstance(refusal(helm, tiny, "no-such-namespace"), problems.NamespaceMissing)
    install(helm, tiny, namespace, {"app": "a"})
    immutable = refusal(helm, tiny, namespace, {"app": "b", "token": Secret(SECRET)})
    assert isinstance(immutable, problems.Invalid) and "immutable" in str(immutable)
    failed = helm.status("app", namespace)
    assert failed is not None and failed.status == "failed" and len(failed.description) < 2_000
    unknown = refusal(helm, tiny, namespace, {"kind": "Gone"})
    assert isinstance(unknown, problems.KindUnknown)
    assert (unknown.kind, unknown.version) == ("Gone", "gone.example.org/v1")
    assert install(helm, tiny, namespace, {"app": "a"}).record.status == "deployed", (
        "it goes on from a failed one"
    )


def test_a_quota(helm: HelmCommandLine, cluster: Cluster, namespace: str, tiny: Path) -> None:
    quota = {
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"},
        "spec": {"hard": {"configmaps": "0"}},
    }  # fmt: skip
    cluster.api.create(quota, namespace)
    cluster.api.wait(
        "the quota counts",
        lambda: (cluster.api.get("ResourceQuota", "small", namespace) or {}).get("status", {}).get("hard"),
    )
    found = refusal(helm, tiny, namespace)
    assert isinstance(found, problems.QuotaExceeded) and found.quota == "small"


def test_a_user_without_rights(
    program: HelmProgram, cluster: Cluster, namespace: str, tiny: Path, tmp_path: Path
) -> None:
    nobody = HelmCommandLine(program, kubeconfig=str(cluster.kubeconfig_for("nobody")))
    found = refusal(nobody, tiny, namespace)
    assert isinstance(found, problems.Forbidden) and (found.verb, found.resource) == ("list", "secrets")
    for text, kind in (("{not yaml", problems.Unreachable), ("", problems.Unreachable)):
        (tmp_path / "kubeconfig").write_text(text)
        with pytest.raises(kind):
            HelmCommandLine(program, kubeconfig=str(tmp_path / "kubeconfig")).list(namespace)
    with pytest.raises(problems.Unreachable, match="nowhere"):
        HelmCommandLine(program, kubeconfig=str(cluster.kubeconfig), context="nowhere").list(namespace)


# -- what does not end


def test_a_hook_that_does_not_end(helm: HelmCommandLine, namespace: str, tiny: Path) -> None:
    found = refusal(helm, tiny, namespace, {"hook": "endless.invalid/a:1"}, timeout=3)
    assert isinstance(found, problems.TimedOut)
    failed = helm.status("app", namespace)
    assert failed is not None and failed.status == "failed"
    assert install(helm, tiny, namespace).record.status == "deployed"


def test_a_pod_that_does_not_get_ready(helm: HelmCommandLine, namespace: str, tiny: Path) -> None:
    values = {"app": "a", "image": "unready.invalid/a:1"}
    assert isinstance(refusal(helm, tiny, namespace, values, wait=True, timeout=3), problems.TimedOut)


KILLED = """\
import sys
from pathlib import Path
from tidehub.helm.command_line import HelmCommandLine
from tidehub.helm.program import HelmProgram
helm = HelmCommandLine(HelmProgram(sys.argv[1], sys.argv[2]), kubeconfig=sys.argv[3])
helm.upgrade_install(Path(sys.argv[4]), {"hook": "endless.invalid/a:1", "data": "cut off"}, release="app",
                     namespace=sys.argv[5], timeout=120)
"""


@pytest.mark.parametrize("installed", [False, True], ids=["first installation", "upgrade"])
def test_a_killed_operation_is_unlocked_and_goes_on(
    helm: HelmCommandLine, program: HelmProgram, cluster: Cluster, namespace: str, tiny: Path, installed: bool
) -> None:
    if installed:
        install(helm, tiny, namespace, {"data": "before"})
    source = str(Path(process.__file__).parents[2])
    tidehub = subprocess.Popen(
        [
            sys.executable,
            "-c",
            KILLED,
            program.path,
            program.version,
            str(cluster.kubeconfig),
            str(tiny),
            namespace,
        ],
        env={"PYTHONPATH": source, "PATH": "/usr/bin:/bin", "HOME": str(tiny.parent)},
    )
    try:
        cluster.api.wait(
            "the hook is there", lambda: cluster.api.get("Job", "app-hook", namespace, version="batch/v1")
        )
    finally:
        tidehub.kill()
        tidehub.wait(timeout=30)
    found = helm.status("app", namespace)
    assert found is not None and found.pending
    assert isinstance(refusal(helm, tiny, namespace), problems.OperationInProgress)

    secrets = Secrets(cluster)
    there = newest(secrets.find("v1", "Secret", namespace, labels=selector("app"), fields=f"type={TYPE}"))
    assert there is not None
    assert (stored(there).status, stored(there).revision) == (found.status, found.revision)
    secrets.replace(marked_failed(there, "killed by a test"), namespace)
    after = helm.status("app", namespace)
    assert after is not None and after.status == "failed" and "killed by a test" in after.description
    went_on = install(helm, tiny, namespace, {"data": "after"})
    assert went_on.record.status == "deployed" and went_on.record.revision == found.revision + 1
    assert cluster.api.get("ConfigMap", "app-data", namespace)["data"]["data"] == "after"  # type: ignore[index]
    kept = [
        stored(each)
        for each in secrets.find("v1", "Secret", namespace, labels=selector("app"), fields=f"type={TYPE}")
    ]
    assert {each.revision: each.status for each in kept}[found.revision] in {"failed", "superseded"}


def test_unlocking_loses_against_a_helm_that_is_at_work(
    helm: HelmCommandLine, cluster: Cluster, namespace: str, tiny: Path
) -> None:
    """Its write is guarded by the resource version that it read."""
    install(helm, tiny, namespace)
    secrets = Secrets(cluster)
    (before,) = secrets.find("v1", "Secret", namespace, labels=selector("app"), fields=f"type={TYPE}")
    cluster.api.patch(
        "Secret", before["metadata"]["name"], {"metadata": {"labels": {"note": "x"}}}, namespace
    )
    with pytest.raises(Refused) as caught:
        secrets.replace(before, namespace)
    assert caught.value.status == 409


def test_stopping_leaves_a_definite_state(
    helm: HelmCommandLine, cluster: Cluster, namespace: str, tiny: Path
) -> None:
    caught: list[BaseException] = []

    def work() -> None:
        try:
            install(helm, tiny, namespace, {"hook": "endless.invalid/a:1"})
        except problems.HelmProblem as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    cluster.api.wait(
        "the hook is there", lambda: cluster.api.get("Job", "app-hook", namespace, version="batch/v1")
    )
    helm.stop()
    thread.join(timeout=60)
    assert [type(each) for each in caught] == [problems.Interrupted]
    found = helm.status("app", namespace)
    assert found is not None and found.status == "failed"


def test_a_server_that_hangs_or_is_gone(
    program: HelmProgram, cluster: Cluster, namespace: str, tiny: Path
) -> None:
    helm = HelmCommandLine(program, kubeconfig=str(cluster.kubeconfig), seconds=3)
    cluster.freeze()
    try:
        began = time.monotonic()
        with pytest.raises((problems.TimedOut, problems.Unreachable)):
            helm.list(namespace)
        assert time.monotonic() - began < 3 + process.GRACE + 6
    finally:
        cluster.thaw()
    cluster.kill_api()
    try:
        with pytest.raises(problems.Unreachable):
            helm.list(namespace)
    finally:
        cluster.start_api()
    assert helm.list(namespace) == ()
