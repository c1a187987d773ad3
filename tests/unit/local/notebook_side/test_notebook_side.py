from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from tidehub.local import notebook_side


class Connection:
    """jupyter_server's, as far as ours builds on it: who it speaks to, and what it says."""

    def __init__(self, kernel_id: str, *, state: str = "idle", code: int | None = None) -> None:
        self.kernel_id = kernel_id
        process = types.SimpleNamespace(poll=lambda: code)
        provisioner = types.SimpleNamespace(process=process)
        self.kernel_manager = types.SimpleNamespace(provisioner=provisioner, execution_state=state)
        self.log = types.SimpleNamespace(warning=lambda *words: None, debug=lambda *words, **more: None)
        self.said: list[tuple[str, Any]] = []

    def write_stderr(self, text: str, cell: Any) -> None:
        self.said.append((text, cell))

    def handle_outgoing_message(self, stream: Any, message: list[bytes]) -> None:
        self.said.append(("passed on", None))

    def on_kernel_restarted(self) -> None:
        self.said.append(("restarted", None))


@pytest.fixture
def kernel_words(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, with stand-ins for jupyter_server, which lives in the notebook's environment only."""
    base = types.ModuleType("base")
    base.deserialize_msg_from_ws_v1 = lambda message: message  # type: ignore[attr-defined]
    channels = types.ModuleType("channels")
    channels.ZMQChannelsWebsocketConnection = Connection  # type: ignore[attr-defined]
    prefix = "jupyter_server.services.kernels.connection"
    for name in ("jupyter_server", "jupyter_server.services", "jupyter_server.services.kernels", prefix):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, f"{prefix}.base", base)
    monkeypatch.setitem(sys.modules, f"{prefix}.channels", channels)
    path = Path(notebook_side.__file__).with_name("kernel_words.py")
    spec = importlib.util.spec_from_file_location("kernel_words_under_test", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_files_are_copied_once_readable_for_all(tmp_path: Path) -> None:
    source = tmp_path / "a.py"
    source.write_text("x = 1\n")
    source.chmod(0o600)
    first = notebook_side.install(tmp_path / "side", (source,))
    assert (first / "a.py").read_text() == "x = 1\n"
    assert (first / "a.py").stat().st_mode & 0o777 == 0o644
    assert first.stat().st_mode & 0o777 == 0o755
    assert notebook_side.install(tmp_path / "side", (source,)) == first
    source.write_text("x = 2\n")
    second = notebook_side.install(tmp_path / "side", (source,))
    assert second != first and first.is_dir()


def test_memory_events_of_cgroup_v1(tmp_path: Path, kernel_words: Any) -> None:
    mount = tmp_path / "memory"
    own = mount / "tidehub" / "server-alice"
    own.mkdir(parents=True)
    (own / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    (tmp_path / "cgroup").write_text("4:memory:/tidehub/server-alice\n3:cpu,cpuacct:/\n0::/\n")
    (tmp_path / "mountinfo").write_text(f"30 20 0:1 / {mount} rw - cgroup cgroup rw,memory\n")
    found = kernel_words.memory_events_file(tmp_path / "cgroup", tmp_path / "mountinfo")
    assert found == own / "memory.oom_control"
    assert kernel_words.memory_kills(found) == 2


def test_memory_events_of_cgroup_v2(tmp_path: Path, kernel_words: Any) -> None:
    own = tmp_path / "unified" / "tidehub.slice"
    own.mkdir(parents=True)
    (own / "memory.events").write_text("low 0\nhigh 0\nmax 7\noom 1\noom_kill 1\n")
    (tmp_path / "cgroup").write_text("0::/tidehub.slice\n")
    (tmp_path / "mountinfo").write_text(f"30 20 0:1 / {tmp_path / 'unified'} rw - cgroup2 cgroup2 rw\n")
    found = kernel_words.memory_events_file(tmp_path / "cgroup", tmp_path / "mountinfo")
    assert kernel_words.memory_kills(found) == 1


def test_without_cgroups_nothing_is_reservationed(tmp_path: Path, kernel_words: Any) -> None:
    assert kernel_words.memory_events_file(tmp_path / "none", tmp_path / "none") is None
    assert kernel_words.memory_kills(None) == 0


def test_the_words_name_the_limit(kernel_words: Any) -> None:
    assert "memory limit of 2 GiB" in kernel_words.words(str(2 * 2**30))
    assert "memory limit." in kernel_words.words(None)


@pytest.mark.parametrize(
    ("limit", "said"), [(600 * 2**20, "of 600 MiB"), (2**30, "of 1 GiB"), (5 * 2**29, "of 2.5 GiB")]
)
def test_the_memory_limit_is_said_as_a_user_would(kernel_words: Any, limit: int, said: str) -> None:
    assert f"memory limit {said}." in kernel_words.words(str(limit))


def idle(cell: dict[str, str]) -> list[bytes]:
    return [
        b"sign",
        b"{}",
        b'{"msg_id": "%s"}' % cell["msg_id"].encode(),
        b"{}",
        b'{"execution_state": "idle"}',
    ]


@pytest.fixture
def counter(tmp_path: Path, kernel_words: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets how many kills the kernel has counted; no kill was told yet."""
    file = tmp_path / "memory.events"
    file.write_text("oom_kill 0\n")
    monkeypatch.setenv("MEM_LIMIT", str(2**30))
    kind = kernel_words.WordsOnMemoryKill
    kind._events, kind._kills_told = file, 0
    return lambda kills: file.write_text(f"oom_kill {kills}\n")


def opened(kernel_words: Any, name: str, **more: Any) -> Any:
    one = kernel_words.WordsOnMemoryKill(name, **more)
    one._running_cell = {"msg_id": f"cell of {name}"}
    one._open.add(one)
    return one


def test_a_killed_child_is_told_before_the_end_of_its_cell_and_once(kernel_words: Any, counter: Any) -> None:
    one = opened(kernel_words, "a")
    one.handle_outgoing_message("iopub", idle(one._running_cell))
    counter(2)
    one.handle_outgoing_message("iopub", idle({"msg_id": "another request"}))
    one.handle_outgoing_message("iopub", [b"x" * 100] * 5)
    one.handle_outgoing_message("iopub", idle(one._running_cell))
    one.handle_outgoing_message("iopub", idle(one._running_cell))
    told = [text for text, _ in one.said]
    assert told[:3] == ["passed on"] * 3 and told[4:] == ["passed on"] * 2
    assert "A process was killed" in told[3] and "of 1 GiB" in told[3]
    assert one.said[3][1] is one._running_cell


def test_a_cell_that_waits_is_told_and_one_that_is_over_is_not(kernel_words: Any, counter: Any) -> None:
    waits, rests = opened(kernel_words, "a", state="busy"), opened(kernel_words, "b")
    counter(1)
    kernel_words.WordsOnMemoryKill._look()
    kernel_words.WordsOnMemoryKill._look()
    assert len(waits.said) == 1 and not rests.said


def test_a_kill_while_no_cell_runs_is_told_in_the_next_one(kernel_words: Any, counter: Any) -> None:
    one = opened(kernel_words, "a")
    counter(1)
    kernel_words.WordsOnMemoryKill._look()
    assert not one.said
    one.handle_outgoing_message("iopub", idle(one._running_cell))
    assert "A process was killed" in one.said[0][0]


def test_a_killed_kernel_is_told_by_its_restart_alone(kernel_words: Any, counter: Any) -> None:
    died, other = opened(kernel_words, "a", state="busy", code=-9), opened(kernel_words, "b", state="busy")
    counter(1)
    kernel_words.WordsOnMemoryKill._look()
    assert not died.said and not other.said
    died.on_kernel_restarted()
    died.kernel_manager.provisioner.process.poll = lambda: None
    kernel_words.WordsOnMemoryKill._look()
    other.handle_outgoing_message("iopub", idle(other._running_cell))
    assert "The kernel was stopped" in died.said[0][0] and other.said == [("passed on", None)]


def test_a_kernel_that_dies_of_something_else_is_not_blamed_on_an_older_kill(
    kernel_words: Any, counter: Any
) -> None:
    one = opened(kernel_words, "a", state="busy")
    one._kills_seen["a"] = 0
    counter(1)
    kernel_words.WordsOnMemoryKill._look()
    one.on_kernel_restarted()
    assert [text for text, _ in one.said if "kernel was stopped" in text] == []
