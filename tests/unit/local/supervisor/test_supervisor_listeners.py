"""Listening sockets outlive parts and supervisors: real processes, real ports, a thief who tries all the time."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tidehub.errors import TidehubError
from tidehub.local.front import ports
from tidehub.local.front.ports import PortTaken, has_listener, listen_on, listeners
from tidehub.local.isolation.launches import ProcessHandle
from tidehub.local.isolation.users import Users
from tidehub.local.places import Places
from tidehub.local.running import refuse_strangers
from tidehub.local.supervisor import holder
from tidehub.local.supervisor.listeners import Listeners
from tidehub.local.supervisor.part import READINESS_TIMEOUT, StartFailed
from tidehub.local.supervisor.platform import Component, Ready, http_check, listened_by
from tidehub.local.supervisor.state import own_state, write_state
from tidehub.local.supervisor.supervisor import Supervisor
from tidehub.system.processes import boot_id, read_stat

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

_SUPERVISOR = """
import sys, time
from tidehub.local.places import Places
from tidehub.local.supervisor.listeners import Listeners
made = Listeners(Places.of(sys.argv[1]))
made.recover()
print(made.open("hub", "127.0.0.1", int(sys.argv[2])), flush=True)
made.keep()
print("kept", flush=True)
time.sleep(600)
"""

_THIEF = """
import errno, socket, sys, time
port, tries = int(sys.argv[1]), 0
print("begun", flush=True)
while True:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
            one.listen()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            print("stolen", flush=True)
            time.sleep(600)
"""


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Places]:
    made = Places.of(tmp_path / "state").ensure(other_users=False)
    Users(made.users, homes=made.homes).everyone()
    yield made
    shutil.rmtree(made.state, ignore_errors=True)


@contextlib.contextmanager
def running(code: str, *words: object, uid: int | None = None) -> Iterator[subprocess.Popen[str]]:
    one = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *(str(word) for word in words)],
        stdout=subprocess.PIPE,
        text=True,
        user=uid,
        group=uid,
        extra_groups=None if uid is None else [],
    )
    try:
        yield one
    finally:
        one.kill()
        one.communicate()


def line(one: subprocess.Popen[str]) -> str:
    assert one.stdout is not None
    return one.stdout.readline().strip()


def write_down(places: Places, pid: int) -> None:
    """As a started process of a user."""
    found = read_stat(pid)
    assert found is not None
    handle = ProcessHandle(pid, found.started, boot=boot_id())
    with Users(places.users, homes=places.homes).transaction() as db:
        db.execute(
            "INSERT INTO launches (pid, started, boot, person, parent, name, handle) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (pid, found.started, boot_id(), "alice", "servers", "s", json.dumps(handle.to_state())),
        )


def holders(places: Places) -> list[int]:
    """Pids of the holders of this state."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = entry.read_bytes().split(b"\0")
            if str(places.holder).encode() in words and any(w.endswith(b"holder.py") for w in words):
                found.append(int(entry.parent.name))
    return found


def the_holder(places: Places) -> int:
    """Its pid. A process shows no command line for a moment in execve(2), after whoever started it was told of it."""
    until(lambda: len(holders(places)) == 1)
    [pid] = holders(places)
    return pid


def until(what: object, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():  # type: ignore[operator]
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)


def can_listen(port: int) -> bool:
    try:
        listen_on("127.0.0.1", port).close()
    except PortTaken:
        return False
    return True


def test_a_port_outlives_kill_9_of_the_supervisor_and_what_connects_meanwhile_is_served(
    places: Places,
) -> None:
    with running("import time; time.sleep(600)") as server, contextlib.ExitStack() as stack:
        write_down(places, server.pid)
        first = stack.enter_context(running(_SUPERVISOR, places.state, 0))
        port = int(line(first))
        assert line(first) == "kept"
        thief = stack.enter_context(running(_THIEF, port))
        assert line(thief) == "begun"
        for patience in (holder.LOOK_EVERY * 1.5, 0.0, 0.0):
            first.kill()
            first.wait()
            # Once longer than the holder's interval: it must not give up while the server lives.
            time.sleep(patience)
            waiting = socket.create_connection(("127.0.0.1", port), timeout=10)
            waiting.sendall(b"token")
            first = stack.enter_context(running(_SUPERVISOR, places.state, port))
            assert (int(line(first)), line(first)) == (port, "kept")
            waiting.close()
        until(lambda: len(holders(places)) == 1)
        first.kill()
        first.wait()
        last = Listeners(places)
        last.recover()
        assert last.open("hub", "127.0.0.1", port) == port
        with socket.create_connection(("127.0.0.1", port), timeout=10):
            last["hub"].setblocking(True)
            assert last["hub"].accept()[0].recv(10) == b"token"
        assert thief.poll() is None
        thief.kill()
        assert "stolen" not in (thief.stdout.read() if thief.stdout else "")
        last.keep()
        last.leave(nothing_runs=True)
        until(lambda: not holders(places))
        # The kernel takes away the memory of an ending process, with its command line, before its sockets.
        until(lambda: can_listen(port))


def test_the_holder_ends_when_the_last_process_of_a_user_has_ended(places: Places) -> None:
    with running("import time; time.sleep(600)") as server:
        write_down(places, server.pid)
        with running(_SUPERVISOR, places.state, 0) as first:
            port = int(line(first))
            assert line(first) == "kept"
        pid = the_holder(places)
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGHUP)
        assert not can_listen(port)
    until(lambda: not holders(places))
    # The kernel takes away the memory of an ending process, with its command line, before its sockets.
    until(lambda: can_listen(port))


def test_a_signal_in_its_first_moment_does_not_end_the_holder(places: Places) -> None:
    one = Listeners(places)
    port = one.open("hub", "127.0.0.1", 0)
    one.keep()
    pid = the_holder(places)
    for number in holder.IGNORED:
        os.kill(pid, number)
    # It answers only when it has begun, so that the signals would have ended it by then.
    again = Listeners(places)
    again.recover()
    assert again.port("hub") == port
    again.leave(nothing_runs=False)
    one.leave(nothing_runs=True)
    until(lambda: not holders(places))


def test_the_holder_ends_when_the_state_is_gone_and_when_a_start_failed_with_nothing_running(
    places: Places,
) -> None:
    failed = Listeners(places)
    port = failed.open("hub", "127.0.0.1", 0)
    failed.keep()
    failed.leave(nothing_runs=False)
    assert can_listen(port), "at once: the next start of another state may want the port"
    with running("import time; time.sleep(600)") as server:
        write_down(places, server.pid)
        with running(_SUPERVISOR, places.state, 0) as first:
            line(first), line(first)
        shutil.rmtree(places.state)
        until(lambda: not holders(places))


def test_a_holder_that_cannot_read_the_table_keeps_the_ports(tmp_path: Path) -> None:
    table = tmp_path / "people.sqlite"
    assert not holder.anything_runs(table)
    table.write_bytes(b"garbage" * 1000)
    assert holder.anything_runs(table)


def test_the_table_is_read_whatever_the_name_of_the_state(tmp_path: Path) -> None:
    """What cannot be read counts as running: the ports of such a state were never free again."""
    state = tmp_path / "100%25 odd? state#1"
    state.mkdir()
    Users(state / "people.sqlite", homes=state).everyone()
    assert not holder.anything_runs(state / "people.sqlite")


def test_another_address_is_listened_on_though_the_holder_has_the_old_one(places: Places) -> None:
    with running("import time; time.sleep(600)") as server:
        write_down(places, server.pid)
        with running(_SUPERVISOR, places.state, 0) as first:
            port = int(line(first))
            assert line(first) == "kept"
        made = Listeners(places)
        made.recover()
        made.open("hub", "0.0.0.0", port)
        assert made["hub"].getsockname() == ("0.0.0.0", port)
        made.open("hub", "127.0.0.1", 0)
        assert can_listen(port), "the old one is closed, whoever else has it open"
        made.keep()
        made.leave(nothing_runs=True)


@needs_root
@pytest.mark.root
def test_the_holder_gives_nothing_to_another_user(places: Places) -> None:
    with running("import time; time.sleep(600)") as server:
        write_down(places, server.pid)
        made = Listeners(places)
        port = made.open("hub", "127.0.0.1", 0)
        made.keep()
        assert places.holder.stat().st_mode & 0o777 == 0o600
        # As if modes did not stand in the way.
        descriptor = os.open(places.private, os.O_PATH)
        places.holder.chmod(0o666)
        places.private.chmod(0o755)
        code = """
            import socket, sys
            one = socket.socket(socket.AF_UNIX)
            one.connect("/proc/self/fd/" + sys.argv[1] + "/holder.sock")
            try:
                one.sendall(b"?")
                print(socket.recv_fds(one, 100, 10)[:2])
            except ConnectionError:
                print((b"", []))
        """
        done = subprocess.run(
            ["/usr/bin/python3", "-c", textwrap.dedent(code), str(descriptor)],
            pass_fds=[descriptor],
            user=64125,
            group=64125,
            extra_groups=[],
            cwd="/",
            capture_output=True,
            text=True,
        )
        os.close(descriptor)
        assert done.stdout.strip() == "(b'', [])", done.stderr
        assert not can_listen(port)
        made.leave(nothing_runs=True)


def ask(port: int) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as one:
        return one.recv(100).decode()


async def test_a_part_serves_on_the_socket_it_is_given_and_its_children_do_not_get_it(tmp_path: Path) -> None:
    listener = listen_on("127.0.0.1", 0)
    port = int(listener.getsockname()[1])
    code = """
        import os, socket, subprocess, sys
        sys.path.insert(0, sys.argv[1])
        from tidehub.listening import inherited
        assert inherited("other") is None
        held = inherited("part")
        name = os.readlink(f"/proc/self/fd/{held.fileno()}")
        child = subprocess.run(["ls", "-l", "/proc/self/fd"], close_fds=False, capture_output=True, text=True)
        assert "fd" not in child.stderr, child.stderr
        leaked = name in child.stdout
        held.setblocking(True)
        while True:
            one, _ = held.accept()
            one.sendall(f"{os.getpid()} {leaked}".encode())
            one.close()
    """

    async def ready() -> Ready:
        return Ready(True)

    import tidehub

    source = str(Path(tidehub.__file__).parents[1])
    part = Component(
        name="part",
        argv=[sys.executable, "-c", textwrap.dedent(code), source],
        env={"PATH": "/usr/bin:/bin"},
        ready=ready,
        probe=None,
        sockets={"part": listener},
    )
    supervisor = Supervisor([part], logs=tmp_path)
    await supervisor.start()
    try:
        said = []
        for _ in range(2):
            pid, leaked = (await asyncio.to_thread(ask, port)).split()
            said.append(pid)
            assert leaked == "False"
            os.kill(int(pid), signal.SIGKILL)
            await asyncio.to_thread(until, lambda: (found := read_stat(int(pid))) is None or found.ended)  # noqa: B023
        assert said[0] != said[1], "what connected while the part was down was served by the next one"
    finally:
        await supervisor.stop()
        listener.close()


def recovered(places: Places) -> int | None:
    """The hub's port as the next supervisor would get it."""
    other = Listeners(places)
    other.recover()
    try:
        return other.port("hub")
    finally:
        other.leave(nothing_runs=False)


async def test_a_lost_holder_is_replaced(places: Places) -> None:
    made = Listeners(places)
    port = made.open("hub", "127.0.0.1", 0)
    made.keep()
    staying = asyncio.create_task(made.stay_kept())
    try:
        for _ in range(2):
            pid = await asyncio.to_thread(the_holder, places)
            os.kill(pid, signal.SIGKILL)
            # Its end first: a process that is being killed might still answer.
            await asyncio.to_thread(until, lambda: pid not in holders(places))  # noqa: B023
            await asyncio.to_thread(until, lambda: recovered(places) == port)
        assert not staying.done()
    finally:
        staying.cancel()
        made.leave(nothing_runs=True)


async def test_a_part_that_ends_before_it_answers_is_told_at_once(tmp_path: Path) -> None:
    """Its port is open all the time: a question waits in the backlog, but not for longer than the part lives."""
    with listen_on("127.0.0.1", 0) as listener:
        part = Component(
            name="part",
            argv=["/bin/sh", "-c", "sleep 0.3; exit 7"],
            env={"PATH": "/usr/bin:/bin"},
            ready=http_check(f"http://127.0.0.1:{listener.getsockname()[1]}/"),
            sockets={"part": listener},
        )
        supervisor = Supervisor([part], logs=tmp_path)
        began = time.monotonic()
        with pytest.raises(StartFailed, match="exit code 7"):
            await supervisor.start()
        assert time.monotonic() - began < READINESS_TIMEOUT / 2
        await supervisor.stop()


@pytest.mark.parametrize("sock_diag", [True, False])
async def test_who_listens_is_told_by_the_kernel(sock_diag: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By files where it has no sock_diag, and only there: they are as long as there are sockets."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EPROTONOSUPPORT, "no sock_diag")

    if sock_diag:
        monkeypatch.setattr(ports, "_listeners_in_files", refuse)
    else:
        monkeypatch.setattr(ports, "Table", refuse)
    with listen_on("127.0.0.1", 0) as ours:
        port = int(ours.getsockname()[1])
        here = [f"127.0.0.1:{port}"]
        assert has_listener(os.getpid(), port, "127.0.0.1")
        assert (await listened_by(None, here)()).ok
        refused = await listened_by(os.geteuid() + 1, here)()
        assert not refused.ok and f"uid {os.geteuid()}" in refused.why
        with socket.socket() as elsewhere:
            # Somebody else on another address of the loopback network is nobody that we could reach.
            elsewhere.bind(("127.0.0.2", port))
            elsewhere.listen()
            assert len(listeners(port, "127.0.0.1")) == 1
        with running("import time; time.sleep(600)") as other:
            assert not has_listener(other.pid, port, "127.0.0.1")
    assert not has_listener(os.getpid(), port, "127.0.0.1")
    assert not (await listened_by(None, here)()).ok


def test_a_port_that_is_only_bound_is_not_taken_for_ours() -> None:
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", 0))
        port = int(squatter.getsockname()[1])
        with listen_on("127.0.0.1", port):
            with pytest.raises(OSError) as refused:
                squatter.listen()
            assert refused.value.errno == errno.EADDRINUSE


def test_the_operators_token_is_sent_only_to_a_port_that_the_supervisor_holds(places: Places) -> None:
    with listen_on("127.0.0.1", 0) as held:
        port = int(held.getsockname()[1])
        with pytest.raises(TidehubError, match="does not listen"):
            refuse_strangers(places, port)
        write_state(places.platform, own_state(state="running"))
        refuse_strangers(places, port)
        with running("import time; time.sleep(600)") as other:
            started = read_stat(other.pid)
            assert started is not None
            # As if the supervisor lived, and somebody else had the port.
            write_state(
                places.platform, replace(own_state(state="running"), pid=other.pid, started=started.started)
            )
            with pytest.raises(TidehubError, match="does not listen"):
                refuse_strangers(places, port)
