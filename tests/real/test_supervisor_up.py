"""`tidehub up` as a process of its own: the lock, the end by signals and by `down`, the daemon, the crash."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from supervisor_dummies import Up, alive, environment, two_free_ports, until

from tidehub.local.isolation.launches import Launches, ProcessHandle
from tidehub.local.isolation.model import LaunchSpec, Limits, User
from tidehub.local.isolation.trees import Ground
from tidehub.local.isolation.users import Users
from tidehub.local.places import Places
from tidehub.local.supervisor.state import Locked, hold, holder
from tidehub.local.supervisor.status import platform_status
from tidehub.local.supervisor.stopping import leave_platform, stop_platform
from tidehub.system.processes import boot_id, read_stat

pytestmark = pytest.mark.real


class Ups:
    """Starts supervisors on one state and ends what a test left of them."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.ports = two_free_ports()
        self._started: list[Up] = []

    def __call__(self, *arguments: str, under: Sequence[str] = ()) -> Up:
        started = Up(self.state, self.ports, *arguments, under=under)
        self._started.append(started)
        return started

    def running(self, *arguments: str, under: Sequence[str] = ()) -> Up:
        started = self(*arguments, under=under)
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
    assert (up.state / "users-ended").read_text() == "10"
    assert not (up.state / "private" / "platform.json").exists()
    assert not (up.state / "private" / "control.sock").exists()
    assert platform_status(Places.of(up.state))["state"] == "stopped"


def test_sigterm_ends_everything_cleanly(up: Ups) -> None:
    started = up.running()
    started.process.terminate()
    assert started.end() == 0


def test_a_second_ctrl_c_hurries(up: Ups) -> None:
    started = up.running("--slow-users", "--extra=--deaf")
    parts = started.parts()
    interrupt(started)
    started.until_said("stopping users' servers")
    begun = time.monotonic()
    interrupt(started)
    assert started.end() == 1
    assert time.monotonic() - begun < 8
    assert (up.state / "users-ended").read_text() == "0"
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
    assert not (up.state / "users-ended").exists(), (
        "users of an earlier run must not be ended by a failed start"
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


def test_status_tells_parts_users_and_gaps(up: Ups) -> None:
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


async def test_kill_9_of_the_supervisor_takes_the_parts_but_not_users(up: Ups, tmp_path: Path) -> None:
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
        again = up.running()
        assert platform_status(places)["healthy"] is True
        interrupt(again)
        assert again.end() == 0
    finally:
        os.kill(orphan, signal.SIGKILL)


def start_of_user(up: Ups) -> subprocess.Popen[bytes]:
    """A process as a server of a user: in the table of launches, of a session of its own."""
    process = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    places = Places.of(up.state)
    ground = Ground(places.private, places.homes, places.run, places.logs, places.log_pipes)
    found = read_stat(process.pid)
    assert found is not None
    Launches(Users(ground.users_file, homes=places.homes)).record(
        LaunchSpec(name="s", user=User("ana", 0, 0, places.homes / "ana"), argv=["sleep"], env={},
                   cwd=places.homes, log=places.logs / "x.log", limits=Limits(), parent="servers"),
        ProcessHandle(process.pid, found.started, boot=boot_id()),
    )  # fmt: skip
    return process


@pytest.mark.parametrize("now", [False, True])
def test_down_after_a_crash_ends_what_still_runs_without_a_new_start(up: Ups, now: bool) -> None:
    started = up.running()
    users = start_of_user(up)
    started.process.kill()
    started.end()
    said: list[str] = []
    places = Places.of(up.state)
    assert platform_status(places)["state"] == "crashed"
    assert stop_platform(places, said.append, now=now) == 0
    assert users.wait(5) in (-signal.SIGTERM, -signal.SIGKILL)
    assert "gone without a clean stop" in said[0]
    assert platform_status(places)["state"] == "stopped"


@pytest.mark.parametrize("now", [False, True])
def test_down_ends_a_supervisor_that_is_stopped(up: Ups, now: bool) -> None:
    started = up.running()
    parts, users = started.parts(), start_of_user(up)
    started.process.send_signal(signal.SIGSTOP)
    said: list[str] = []
    begun = time.monotonic()
    places = Places.of(up.state)
    code = stop_platform(places, said.append, now=now)
    took = time.monotonic() - begun
    assert "does not answer" in said[0]
    assert started.process.wait(5) == (-signal.SIGKILL if now else 0)
    assert code == (1 if now else 0)
    assert took < (10 if now else 25)
    assert not any(alive(pid) for pid in parts.values())
    # One that wakes up ends users' processes itself, by its hook, which these dummies only write down.
    assert now or (up.state / "users-ended").read_text() == "10"
    if not now:
        users.kill()
    assert users.wait(5) < 0
    assert platform_status(places)["state"] == "stopped"


def test_down_kills_a_supervisor_whose_loop_hangs(up: Ups) -> None:
    started = up.running("--hang")
    parts, users = started.parts(), start_of_user(up)
    said: list[str] = []
    begun = time.monotonic()
    assert stop_platform(Places.of(up.state), said.append) == 1
    assert time.monotonic() - begun < 40
    assert any("is killed" in text for text in said)
    assert started.process.wait(5) == -signal.SIGKILL
    assert not any(alive(pid) for pid in parts.values())
    assert users.wait(5) in (-signal.SIGTERM, -signal.SIGKILL)


def test_a_supervisor_that_is_slow_to_stop_is_waited_for(up: Ups, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says nothing for longer than one that hangs may be silent, because it works."""
    monkeypatch.setattr("tidehub.local.supervisor.conversation.LOOK", 0.3)
    monkeypatch.setattr("tidehub.local.supervisor.conversation.HUNG", 0.6)
    started = up.running("--busy", "4")
    said: list[str] = []
    assert stop_platform(Places.of(up.state), said.append) == 0
    assert started.process.wait(5) == 0
    assert not any("answer" in text or "killed" in text for text in said), said


def test_a_supervisor_that_freezes_while_it_stops_is_ended(up: Ups) -> None:
    started = up.running("--slow-users")
    said: list[str] = []

    def freeze(text: str) -> None:
        said.append(text)
        if "stopping" in text:
            started.process.send_signal(signal.SIGSTOP)

    begun = time.monotonic()
    assert stop_platform(Places.of(up.state), freeze) == 1
    assert time.monotonic() - begun < 40
    assert any("does not answer any more" in text for text in said)
    assert started.process.wait(5) == -signal.SIGKILL


@pytest.mark.parametrize("command", [["nohup"], ["sh", "-c", 'trap \'\' HUP; exec "$0" "$@"']])
def test_an_ignored_sighup_stays_ignored(up: Ups, command: list[str]) -> None:
    started = up.running(under=command)
    started.process.send_signal(signal.SIGHUP)
    places = Places.of(up.state)
    # It answers twice after the signal, so it has had it.
    assert platform_status(places)["state"] == platform_status(places)["state"] == "running"
    assert stop_platform(places, lambda text: None) == 0


def test_without_nohup_a_sighup_ends_it_cleanly(up: Ups) -> None:
    started = up.running()
    started.process.send_signal(signal.SIGHUP)
    assert started.end() == 0


def test_a_daemon_never_ends_by_sighup(up: Ups) -> None:
    started = up("--detach")
    assert started.end() == 0
    places = Places.of(up.state)
    daemon = platform_status(places)["pid"]
    assert isinstance(daemon, int)
    os.kill(daemon, signal.SIGHUP)
    assert platform_status(places)["state"] == platform_status(places)["state"] == "running"
    assert stop_platform(places, lambda text: None) == 0


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


_HANDS_ON = """
import os, sys
from pathlib import Path
from tidehub.local.supervisor.state import held_by_another, hold
lock, again = Path(sys.argv[1]), len(sys.argv) == 2
with hold(lock) as held:
    assert not held_by_another(lock) and "TIDEHUB_LOCK" not in os.environ
    print(sys.stdin.readline() and os.getpid(), flush=True)
    again or sys.stdin.read()
    held.hand_on()
if again:
    os.execv(sys.executable, [sys.executable, "-I", "-c", CODE, str(lock), "again"])
"""


def test_the_lock_goes_on_into_the_program_that_its_process_becomes(tmp_path: Path) -> None:
    """Somebody who looks all the time never finds it free."""
    lock = tmp_path / "private" / "lock"
    lock.parent.mkdir()
    code = f"CODE = {_HANDS_ON!r}\n{_HANDS_ON}"
    program = subprocess.Popen(
        [sys.executable, "-I", "-c", code, str(lock)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdin is not None and program.stdout is not None
    try:
        program.stdin.write("on\n")
        program.stdin.flush()
        assert program.stdout.readline() == f"{program.pid}\n"
        ready, looks = False, 0
        program.stdin.write("on\n")
        while not ready:
            assert holder(lock) == program.pid
            with pytest.raises(Locked), hold(lock):
                pass
            looks += 1
            if looks == 50:
                program.stdin.flush()
            ready = bool(select.select([program.stdout], [], [], 0)[0])
        assert program.stdout.readline() == f"{program.pid}\n" and looks > 50
        program.stdin.close()
        assert program.wait(30) == 0
        assert holder(lock) is None
    finally:
        program.kill()
        program.wait()
        program.stdout.close()


def test_the_lock_of_a_process_that_ended_is_free(tmp_path: Path) -> None:
    lock = tmp_path / "private" / "lock"
    lock.parent.mkdir()
    with hold(lock):
        assert holder(lock) == os.getpid()
        with pytest.raises(Locked, match=f"process {os.getpid()}"):
            with hold(lock):
                pass
    assert holder(lock) is None


def test_asking_who_holds_the_lock_never_refuses_a_start(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.touch()
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            holder(lock)

    asking = [threading.Thread(target=ask) for _ in range(3)]
    for thread in asking:
        thread.start()
    try:
        for _ in range(300):
            with hold(lock):
                assert holder(lock) == os.getpid()
    finally:
        over.set()
        for thread in asking:
            thread.join()


def test_who_holds_the_lock_is_found_without_its_number(tmp_path: Path) -> None:
    """On a full disk the file stays empty."""
    lock = tmp_path / "lock"
    with hold(lock):
        os.truncate(lock, 0)
        assert holder(lock) == os.getpid()


def test_leaving_stops_the_parts_and_nothing_of_the_users(up: Ups) -> None:
    started = up.running("--table")
    parts, users = started.parts(), start_of_user(up)
    said: list[str] = []
    places = Places.of(up.state)
    assert leave_platform(places, said.append) == 0
    assert started.end() == 0
    assert not any(alive(pid) for pid in parts.values())
    assert alive(users.pid)
    assert platform_status(places)["state"] == "kept"
    assert leave_platform(places, said.append) == 0
    assert "No parts" in said[-1]
    assert stop_platform(places, said.append) == 0
    assert users.wait(5) < 0
    assert platform_status(places)["state"] == "stopped"


def test_leaving_a_supervisor_that_is_stopped_ends_nobody(up: Ups) -> None:
    """It gets no SIGTERM, which would end everything once it is awake."""
    started = up.running("--table")
    parts, users = started.parts(), start_of_user(up)
    started.process.send_signal(signal.SIGSTOP)
    said: list[str] = []
    assert leave_platform(Places.of(up.state), said.append) == 1
    assert started.process.wait(5) == -signal.SIGKILL
    assert any("does not answer" in text for text in said)
    assert not any(alive(pid) for pid in parts.values())
    assert alive(users.pid)
    users.kill()
    assert users.wait(5) < 0


def test_a_supervisor_of_an_earlier_tidehub_is_left_by_killing_it(
    up: Ups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not know the word, and must not be asked with another one that would end everybody's work."""
    started = up.running("--table")
    users = start_of_user(up)
    from tidehub.local.supervisor import stopping

    monkeypatch.setattr(stopping, "LEAVE", "depart")
    said: list[str] = []
    assert leave_platform(Places.of(up.state), said.append) == 1
    assert any("earlier version of tidehub" in text for text in said)
    assert started.process.wait(5) == -signal.SIGKILL
    assert alive(users.pid)
    users.kill()
    assert users.wait(5) < 0
