"""`tidehub up` as a process of its own: the lock, the end by signals and by `down`, the daemon, the crash."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervisor_dummies import Up, alive, environment, two_free_ports, until

from tidehub.errors import TidehubError
from tidehub.local.places import Places
from tidehub.local.supervisor.client import platform_status, stop_platform
from tidehub.local.supervisor.lock import Locked, hold, holder

pytestmark = pytest.mark.real


class Ups:
    """Starts supervisors on one state and ends what a test left of them."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.ports = two_free_ports()
        self._started: list[Up] = []

    def __call__(self, *arguments: str) -> Up:
        started = Up(self.state, self.ports, *arguments)
        self._started.append(started)
        return started

    def running(self, *arguments: str) -> Up:
        started = self(*arguments)
        started.until_said("all is ready")
        return started

    def clean(self) -> None:
        pid = holder(self.state / "private" / "lock")
        for number in [pid] if pid else []:
            os.kill(number, signal.SIGKILL)
        for started in self._started:
            if started.process.poll() is None:
                started.process.kill()
            started.process.wait()
            if started.process.stdout is not None:
                started.process.stdout.close()


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Ups]:
    # As long as a state's path can be: the control socket's name must not depend on it.
    ups = Ups(tmp_path / ("state-" + "x" * 100))
    yield ups
    ups.clean()


def interrupt(started: Up) -> None:
    """Ctrl-C: the terminal signals the whole foreground process group."""
    os.killpg(started.process.pid, signal.SIGINT)


def test_ctrl_c_ends_everything_cleanly(up: Ups) -> None:
    started = up.running()
    parts = started.parts()
    assert set(parts) == {"first", "second"}
    interrupt(started)
    assert started.end() == 0
    assert not any(alive(pid) for pid in parts.values())
    assert (up.state / "people-ended").read_text() == "10"
    assert not (up.state / "private" / "platform.json").exists()
    assert not (up.state / "private" / "control.sock").exists()
    assert platform_status(Places.of(up.state))["state"] == "stopped"


def test_sigterm_ends_everything_cleanly(up: Ups) -> None:
    started = up.running()
    started.process.terminate()
    assert started.end() == 0


def test_a_second_ctrl_c_hurries(up: Ups) -> None:
    started = up.running("--slow-people", "--extra=--deaf")
    parts = started.parts()
    interrupt(started)
    started.until_said("stopping people's servers")
    begun = time.monotonic()
    interrupt(started)
    assert started.end() == 1
    assert time.monotonic() - begun < 8
    assert (up.state / "people-ended").read_text() == "0"
    assert not any(alive(pid) for pid in parts.values())


def test_ctrl_c_during_the_start_is_130(up: Ups) -> None:
    started = up("--extra=--delay 1000")
    started.until_said("starting second")
    first = started.parts()["first"]
    interrupt(started)
    assert started.end() == 130
    assert not alive(first)


def test_ctrl_c_during_the_preparation_is_130(up: Ups) -> None:
    started = up("--prepare", "1000")
    started.until_said("preparing")
    assert platform_status(Places.of(up.state))["state"] == "preparing"
    interrupt(started)
    assert started.end() == 130
    assert platform_status(Places.of(up.state))["state"] == "stopped"


def test_a_failed_start_stops_what_was_started_and_says_why(up: Ups) -> None:
    started = up("--extra=--fail broken")
    assert started.end() == 1
    said = "\n".join(started.said)
    assert "second did not start: exit code 3" in said
    assert "Error: broken" in said
    assert "Traceback" not in said
    assert not (up.state / "people-ended").exists(), (
        "people of an earlier run must not be ended by a failed start"
    )
    assert platform_status(Places.of(up.state))["state"] == "stopped"


def test_a_second_up_names_the_process_that_holds_the_state(up: Ups) -> None:
    first = up.running()
    second = up()
    assert second.end() == 1
    said = "\n".join(second.said)
    assert f"process {first.process.pid}" in said
    assert "tidehub down" in said
    assert first.process.poll() is None


def test_down_stops_through_the_control_socket(up: Ups) -> None:
    started = up.running()
    said: list[str] = []
    assert stop_platform(Places.of(up.state), said.append) == 0
    assert started.end() == 0
    assert "stopping the parts" in said
    assert stop_platform(Places.of(up.state), said.append) == 0
    assert "Nothing runs" in said[-1]


def test_status_tells_parts_people_and_gaps(up: Ups) -> None:
    started = up.running()
    status = platform_status(Places.of(up.state))
    assert status["state"] == "running"
    assert status["healthy"] is True
    assert status["pid"] == started.process.pid
    assert status["gaps"] == ["nothing is limited here"]
    assert status["servers"] == [{"user": "alice", "server": "default"}]
    parts = status["parts"]
    assert isinstance(parts, list)
    assert {part["name"]: part["state"] for part in parts} == {"first": "ready", "second": "ready"}


async def test_kill_9_of_the_supervisor_takes_the_parts_but_not_people(up: Ups, tmp_path: Path) -> None:
    file = tmp_path / "orphan"
    started = up.running(f"--extra=--orphan {file}")
    parts, orphan = started.parts(), int(file.read_text())
    started.process.kill()
    started.end()
    await until(lambda: not any(alive(pid) for pid in parts.values()), 5)
    assert alive(orphan)
    try:
        places = Places.of(up.state)
        assert platform_status(places)["state"] == "crashed"
        with pytest.raises(TidehubError, match="without a clean stop"):
            stop_platform(places, lambda text: None)
        again = up.running()
        assert platform_status(places)["healthy"] is True
        interrupt(again)
        assert again.end() == 0
    finally:
        os.kill(orphan, signal.SIGKILL)


def test_detach_returns_when_ready_and_the_platform_goes_on(up: Ups) -> None:
    started = up("--detach")
    assert started.end() == 0
    assert started.said[-2:] == ["all is ready", f"state {up.state}"]
    places = Places.of(up.state)
    status = platform_status(places)
    assert status["healthy"] is True
    daemon = status["pid"]
    assert isinstance(daemon, int)
    assert daemon != started.process.pid
    assert os.getsid(daemon) != os.getsid(0)
    log = places.supervisor_log.read_text()
    assert "all is ready" not in log, "closing lines carry passwords"
    assert stop_platform(places, lambda text: None) == 0
    assert not alive(daemon)


def test_detach_tells_why_the_start_failed(up: Ups) -> None:
    started = up("--detach", "--extra=--fail broken")
    assert started.end() == 1
    said = "\n".join(started.said)
    assert "Error: broken" in said
    assert "Traceback" not in said
    assert holder(up.state / "private" / "lock") is None


async def test_ctrl_c_while_detaching_stops_the_daemon(up: Ups) -> None:
    started = up("--detach", "--extra=--delay 1000")
    started.until_said("starting second")
    interrupt(started)
    assert started.end() == 130
    await until(lambda: holder(up.state / "private" / "lock") is None, 5)


def test_down_falls_back_to_sigterm(up: Ups) -> None:
    started = up.running()
    (up.state / "private" / "control.sock").unlink()
    assert stop_platform(Places.of(up.state), lambda text: None) == 0
    assert started.end() == 0


def test_commands_from_another_directory(up: Ups, tmp_path: Path) -> None:
    up.running()
    (tmp_path / "elsewhere").mkdir()

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*tidehub, *arguments, "--state", str(up.state)],
            env=environment(),
            cwd=tmp_path / "elsewhere",
            capture_output=True,
            text=True,
            timeout=60,
        )

    import sys

    tidehub = [sys.executable, "-m", "tidehub"]
    shown = command("status")
    assert shown.returncode == 0, shown.stderr
    assert "first" in shown.stdout
    assert "\x1b" not in shown.stdout
    assert json.loads(command("status", "--json").stdout)["healthy"] is True
    assert command("logs", "second").returncode == 0
    assert command("logs", "nobody").returncode == 2
    ended = command("down")
    assert ended.returncode == 0, ended.stderr
    assert str(up.state / "homes") in ended.stdout
    assert command("status").returncode == 1


def test_the_lock_of_a_process_that_ended_is_free(tmp_path: Path) -> None:
    lock = tmp_path / "private" / "lock"
    lock.parent.mkdir()
    with hold(lock):
        assert holder(lock) == os.getpid()
        with pytest.raises(Locked, match=f"process {os.getpid()}"):
            with hold(lock):
                pass
    assert holder(lock) is None
