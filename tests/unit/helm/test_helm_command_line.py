"""The adapter against a program that records how it was called, and that hangs or dies when told to."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tidehub.helm import command_line
from tidehub.helm.command_line import HelmCommandLine
from tidehub.helm.problems import HelmMissing, HelmProblem, Interrupted, ReleaseNotFound, TimedOut
from tidehub.helm.program import HelmProgram
from tidehub.secrets.secret import Secret

PROGRAM = """\
#!{python}
import json, os, signal, sys, time
told = json.load(open({told!r}))
call = {{"argv": sys.argv[1:], "env": dict(os.environ), "pid": os.getpid(), "session": os.getsid(0)}}
if "--values" in sys.argv:
    path = sys.argv[sys.argv.index("--values") + 1]
    found = os.stat(path)
    call["values"], call["mode"] = json.load(open(path)), found.st_mode
with open({calls!r}, "a") as stream:
    stream.write(json.dumps(call) + "\\n")
if told.get("child"):
    os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "600")
if told.get("deaf"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, lambda *_: open({asked!r}, "w").close())
if told.get("default"):
    signal.signal(signal.SIGINT, signal.SIG_DFL)
if told.get("graceful"):
    def end(*_):
        sys.exit("Error: release failed: context canceled")
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
sys.stderr.write(told.get("complaint", ""))
sys.stderr.flush()
if told.get("hang"):
    open({ready!r}, "w").close()
    end = time.monotonic() + 600
    while time.monotonic() < end:
        time.sleep(1)
if told.get("kill"):
    os.kill(os.getpid(), signal.SIGKILL)
sys.stdout.write(told.get("output", ""))
sys.exit(told.get("code", 0))
"""


class Fake:
    """A `helm` that does what it is told and writes down how it was called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._told, self._calls = folder / "told", folder / "calls"
        self.ready, self.asked = folder / "ready", folder / "asked"
        self.path = folder / "helm"
        names = {"told": self._told, "calls": self._calls, "ready": self.ready, "asked": self.asked}
        self.path.write_text(
            PROGRAM.format(python=sys.executable, **{name: str(path) for name, path in names.items()})
        )
        self.path.chmod(0o755)
        self.tell()

    def tell(self, **what: Any) -> None:
        self._told.write_text(json.dumps(what))

    @property
    def calls(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._calls.read_text().splitlines()]

    def engine(self, version: str = "4.2.4", **more: Any) -> HelmCommandLine:
        return HelmCommandLine(HelmProgram(str(self.path), version), **more)


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    return Fake(tmp_path)


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "Chart.yaml").write_text("{apiVersion: v2, name: tiny, version: 1.2.3}")
    return tmp_path / "tiny"


INSTALLED = json.dumps(
    {"name": "a", "namespace": "ns", "version": 1, "info": {"status": "deployed"}, "manifest": "kind: X\n"}
)


def values_of(secret: str) -> dict[str, Any]:
    return {"hub": {"cookie": Secret(secret), "names": ("a", Secret(secret)), "word": "grüße"}}


@pytest.fixture(params=["in memory", "on disk"])
def nameless(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where values wait for Helm: on Linux, and as on macOS."""
    if request.param == "on disk":
        monkeypatch.delattr(os, "memfd_create")


@pytest.mark.usefixtures("nameless")
def test_values_come_by_a_private_file_and_never_as_arguments(fake: Fake, chart: Path) -> None:
    fake.tell(output="kind: X\n")
    logged: list[str] = []
    engine = fake.engine(log=logged.append)
    assert engine.render(chart, values_of("s3cret-text"), release="a", namespace="ns") == "kind: X\n"
    (call,) = fake.calls
    assert call["values"] == {
        "hub": {"cookie": "s3cret-text", "names": ["a", "s3cret-text"], "word": "grüße"}
    }
    assert stat.S_IMODE(call["mode"]) == 0o600 and stat.S_ISREG(call["mode"])
    assert "s3cret" not in json.dumps([call["argv"], call["env"], logged])
    assert logged == [f"helm template a {chart} --namespace ns --values a/values.yaml"]


@pytest.mark.usefixtures("nameless")
def test_nothing_is_left_behind(
    fake: Fake, chart: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    for code in (0, 1):
        fake.tell(code=code, output=INSTALLED, complaint="Error: release: not found")
        try:
            fake.engine().render(chart, values_of("s3cret"), release="a", namespace="ns")
        except HelmProblem:
            pass
    assert list(scratch.iterdir()) == []
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
    homes = {call["env"][f"HELM_{kind}_HOME"] for call in fake.calls for kind in ("CONFIG", "CACHE", "DATA")}
    assert len(homes) == 6 and all(home.startswith(str(scratch)) for home in homes)


def test_rendering_knows_nothing_of_the_cluster_or_the_surroundings(fake: Fake, chart: Path) -> None:
    environ = {
        "PATH": os.environ["PATH"], "HOME": "/h", "KUBECONFIG": "/k", "OS_PASSWORD": "p", "TIDEHUB_SECRET_X": "s",
        "HELM_DRIVER": "sql", "HELM_PLUGINS": "/p",
    }  # fmt: skip
    engine = fake.engine(environ=environ, kubeconfig="/given", context="there")
    engine.render(
        chart, {}, release="a", namespace="ns", kube_version="1.34.4", api_versions=["a/v1", "b/v1/B"],
        include_crds=True, is_upgrade=True,
    )  # fmt: skip
    rendering = fake.calls[0]
    env = {name: value for name, value in rendering["env"].items() if not name.startswith(("HELM_", "LC_"))}
    assert env == {"PATH": os.environ["PATH"], "HOME": "/h", "KUBECONFIG": os.devnull}
    assert rendering["argv"][3:12] == [
        "--kube-version", "1.34.4", "--api-versions", "a/v1,b/v1/B", "--include-crds", "--is-upgrade", "--namespace",
        "ns", "--values",
    ]  # fmt: skip


def test_a_cluster_is_named_and_credential_plugins_find_their_variables(fake: Fake) -> None:
    fake.tell(output="[]")
    environ = {
        "PATH": os.environ["PATH"], "HOME": "/h", "KUBECONFIG": "/ambient", "OS_CLOUD": "egi", "TIDEHUB_SECRET_X": "s",
        "HELM_DRIVER": "sql", "HELM_KUBETOKEN": "t", "PYTHONPATH": "/x",
    }  # fmt: skip
    logged: list[str] = []
    fake.engine(environ=environ, kubeconfig="/my conf", context="there", log=logged.append).list("ns")
    fake.engine(environ=environ).list("ns")
    first, second = fake.calls
    assert first["env"]["KUBECONFIG"] == "/my conf" and second["env"]["KUBECONFIG"] == "/ambient"
    assert first["env"]["OS_CLOUD"] == "egi" and first["env"]["HOME"] == "/h"
    kept = {name for name in first["env"] if name.startswith(("HELM_", "TIDEHUB_", "PYTHON"))}
    assert kept == {"HELM_CONFIG_HOME", "HELM_CACHE_HOME", "HELM_DATA_HOME"}
    assert first["argv"][-2:] == ["--kube-context", "there"] and "--kube-context" not in second["argv"]
    assert logged == [
        "KUBECONFIG='/my conf' helm list --max 1000 --output json --namespace ns --kube-context there"
    ]


@pytest.mark.parametrize(
    ("version", "write", "waiting", "everything", "gone"),
    [
        ("3.19.5", [], ["--wait"], ["--all"], ["--wait"]),
        ("4.2.4", ["--server-side=true", "--force-conflicts"], ["--wait=watcher"], [], ["--wait=watcher"]),
    ],
)
def test_each_version_in_its_own_words(
    fake: Fake,
    chart: Path,
    version: str,
    write: list[str],
    waiting: list[str],
    everything: list[str],
    gone: list[str],
) -> None:
    fake.tell(output=INSTALLED)
    engine = fake.engine(version)
    engine.upgrade_install(
        chart, {}, release="a", namespace="ns", timeout=90, wait=True, take_ownership=True, description="d e",
        dry_run="server", skip_crds=False,
    )  # fmt: skip
    engine.upgrade_install(chart, {}, release="a", namespace="ns", timeout=0.1)
    fake.tell(output="[]")
    engine.list("ns")
    engine.uninstall("a", "ns", timeout=30, keep_history=True)
    first, second, listing, removal = (call["argv"] for call in fake.calls)
    for option in (*write, *waiting, "--install", "--reset-values", "--take-ownership", "--dry-run=server"):
        assert option in first, option
    assert first[first.index("--timeout") + 1] == "90s" and first[first.index("--description") + 1] == "d e"
    assert "--skip-crds" not in first and "--skip-crds" in second
    assert second[second.index("--timeout") + 1] == "1s", "0 would mean at once"
    for option in (*waiting, "--take-ownership", "--dry-run=server", "--description"):
        assert option not in second, option
    assert listing[:1] + everything == listing[: 1 + len(everything)]
    assert gone[0] in removal and "--keep-history" in removal


def test_what_is_not_there(fake: Fake) -> None:
    fake.tell(code=1, complaint="Error: release: not found\n")
    engine = fake.engine()
    assert engine.status("a", "ns") is None and engine.history("a", "ns") == ()
    assert engine.uninstall("a", "ns", timeout=5) is False
    for read in (engine.values, engine.manifest, engine.hooks):
        with pytest.raises(ReleaseNotFound) as caught:
            read("a", "ns", 3)
        assert caught.value.release == "a" and caught.value.doing == "get"
    assert fake.calls[-1]["argv"][:5] == ["get", "hooks", "a", "--revision", "3"]


def test_values_of_a_release_without_any(fake: Fake) -> None:
    fake.tell(output="null\n")
    assert fake.engine().values("a", "ns") == {}


def test_a_complaint_never_repeats_a_secret(fake: Fake, chart: Path) -> None:
    fake.tell(code=1, complaint="Error: token s3cret-text and other-one are bad")
    with pytest.raises(HelmProblem) as caught:
        fake.engine(secrets=["other-one"]).render(
            chart, values_of("s3cret-text"), release="a", namespace="ns"
        )
    assert "s3cret" not in str(caught.value) and "other-one" not in str(caught.value)


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def session_is_empty(session: int) -> bool:
    """Whether no process of a session is left."""
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            try:
                if os.getsid(int(each.name)) == session and alive(int(each.name)):
                    return False
            except OSError:
                continue
    return True


def until(what: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("deaf", [False, True])
def test_a_deadline_ends_everything_that_was_started(
    fake: Fake, deaf: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidehub.helm.process.GRACE", 0.3)
    fake.tell(hang=True, child=True, deaf=deaf, complaint="Error: still waiting for the pod s3cret\n")
    began = time.monotonic()
    with pytest.raises(TimedOut) as caught:
        fake.engine(seconds=1.0, secrets=["s3cret"]).list("ns")
    assert time.monotonic() - began < 15
    assert "did not end within 1 s" in str(caught.value) and "s3cret" not in str(caught.value)
    assert "still waiting for the pod" in str(caught.value)
    (call,) = fake.calls
    assert call["session"] == call["pid"] != os.getsid(0)
    until(lambda: session_is_empty(call["session"]))


INTERRUPTED = """\
import sys
from tidehub.helm.command_line import HelmCommandLine
from tidehub.helm.problems import Interrupted
from tidehub.helm.program import HelmProgram
try:
    HelmCommandLine(HelmProgram(sys.argv[1], "4.2.4")).uninstall("a", "ns", timeout=60)
except Interrupted as error:
    print(error)
    sys.exit(error.exit_code)
"""


@pytest.mark.parametrize(("told", "says"), [("graceful", "wrote down"), ("deaf", "had to be killed")])
def test_ctrl_c_is_passed_on_and_the_end_is_known(fake: Fake, told: str, says: str) -> None:
    fake.tell(hang=True, child=True, **{told: True})
    source = str(Path(command_line.__file__).parents[2])
    ours = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(fake.path)],
        env={**os.environ, "PYTHONPATH": source},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until(fake.ready.exists)
    os.kill(ours.pid, signal.SIGINT)
    if told == "deaf":
        until(fake.asked.exists)
        os.kill(ours.pid, signal.SIGINT)
    said, _ = ours.communicate(timeout=30)
    assert ours.returncode == 130 and says in said
    (call,) = fake.calls
    until(lambda: session_is_empty(call["session"]))


def test_its_end_counts_and_not_that_of_what_it_left_behind(fake: Fake) -> None:
    fake.tell(child=True, output="[]")
    began = time.monotonic()
    assert fake.engine(seconds=30).list("ns") == ()
    assert time.monotonic() - began < 10
    until(lambda: session_is_empty(fake.calls[0]["session"]))


def test_who_is_killed_from_outside_says_so(fake: Fake) -> None:
    fake.tell(kill=True)
    with pytest.raises(HelmProblem, match="ended by signal 9"):
        fake.engine().list("ns")


def test_a_program_that_is_gone(fake: Fake) -> None:
    engine = fake.engine()
    fake.path.unlink()
    with pytest.raises(HelmMissing):
        engine.list("ns")


def test_threads_have_files_of_their_own(fake: Fake, chart: Path) -> None:
    fake.tell(output="kind: X\n")
    engine = fake.engine()
    work = [
        threading.Thread(
            target=engine.render, args=(chart, {"n": n}), kwargs={"release": f"r{n}", "namespace": "ns"}
        )
        for n in range(6)
    ]
    for each in work:
        each.start()
    for each in work:
        each.join()
    assert {call["argv"][1]: call["values"]["n"] for call in fake.calls} == {f"r{n}": n for n in range(6)}


def test_values_that_no_chart_takes(fake: Fake, chart: Path) -> None:
    with pytest.raises(TypeError):
        fake.engine().render(chart, {"a": object()}, release="a", namespace="ns")


def test_interrupted_is_a_problem_with_its_own_exit_code() -> None:
    assert Interrupted("x").exit_code == 130


def test_it_dies_with_who_started_it(fake: Fake) -> None:
    fake.tell(hang=True)
    source = str(Path(command_line.__file__).parents[2])
    ours = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(fake.path)], env={**os.environ, "PYTHONPATH": source}
    )
    until(fake.ready.exists)
    ours.kill()
    ours.wait(timeout=30)
    until(lambda: not alive(fake.calls[0]["pid"]))


@pytest.mark.parametrize("handled", [True, False])
def test_what_runs_in_another_thread_can_be_stopped(fake: Fake, handled: bool) -> None:
    fake.tell(hang=True, graceful=handled, default=not handled)
    engine = fake.engine()
    caught: list[BaseException] = []

    def work() -> None:
        try:
            engine.list("ns")
        except HelmProblem as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    until(fake.ready.exists)
    engine.stop()
    thread.join(timeout=30)
    assert [type(each) for each in caught] == [Interrupted]
    engine.stop()
