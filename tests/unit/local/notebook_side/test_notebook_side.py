from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from tidehub.local import notebook_side


@pytest.fixture
def kernel_words(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, with stand-ins for jupyter_server, which lives in the notebook's environment only."""
    base = types.ModuleType("base")
    base.deserialize_msg_from_ws_v1 = lambda message: message  # type: ignore[attr-defined]
    channels = types.ModuleType("channels")
    channels.ZMQChannelsWebsocketConnection = object  # type: ignore[attr-defined]
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


def test_without_cgroups_nothing_is_claimed(tmp_path: Path, kernel_words: Any) -> None:
    assert kernel_words.memory_events_file(tmp_path / "none", tmp_path / "none") is None
    assert kernel_words.memory_kills(None) == 0


def test_the_words_name_the_limit(kernel_words: Any) -> None:
    assert "memory limit of 2 GiB" in kernel_words.words(str(2 * 2**30))
    assert "memory limit." in kernel_words.words(None)


@pytest.mark.parametrize(
    ("limit", "said"), [(600 * 2**20, "of 600 MiB"), (2**30, "of 1 GiB"), (5 * 2**29, "of 2.5 GiB")]
)
def test_the_memory_limit_is_said_as_a_person_would(kernel_words: Any, limit: int, said: str) -> None:
    assert f"memory limit {said}." in kernel_words.words(str(limit))
