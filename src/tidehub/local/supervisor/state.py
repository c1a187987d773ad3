"""How other commands learn that a state is in use, and by whom, all in the private directory: a lock that ends with
its process, `platform.json`, and a socket on which the supervisor answers `status` and `down` in JSON lines.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tidehub import __version__
from tidehub.errors import TidehubError
from tidehub.local.places import command
from tidehub.system.files import os_fault, read_private, write_private
from tidehub.system.processes import boot_id, start_ticks
from tidehub.system.unix_sockets import peer_uid

_LOCK = struct.Struct("@hhqqi4x")
"""`struct flock` of fcntl(2) on 64-bit Linux, for locks of the open file description: type, whence, start, length
(0: all), pid (always 0)."""
_INHERITED = "TIDEHUB_LOCK"
"""The number of the lock's descriptor, for the program that this process becomes."""
KEPT = "kept"
"""What `state` says when the parts have been stopped and users' servers and clusters go on without them."""
ANSWER_TIMEOUT = 15.0
HEARTBEAT = 2.0
"""Seconds after which whoever waits for an end is told at the latest that the supervisor still works on it."""

Answer = Mapping[str, object]
Handler = Callable[[Mapping[str, object]], AsyncIterator[Answer]]


class Locked(TidehubError):
    """Another process holds the state. `pid` is its number, or None when it could not be read."""

    def __init__(self, path: Path, pid: int | None) -> None:
        self.pid = pid
        holder = f"process {pid}" if pid else "another process"
        super().__init__(
            f"{path.parent.parent} is in use: tidehub runs there already ({holder})",
            expected="one tidehub for one state directory",
            fix=f"see it with: {command(path.parent.parent, 'status')}; stop it with: "
            f"{command(path.parent.parent, 'down')}; or choose another directory with --state",
        )


class Held:
    """The lock that this process holds."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._handed_on = False

    def hand_on(self) -> None:
        """Keep it beyond the block, for the program that this process becomes: its `hold` goes on with it. So nobody
        finds the state free between the two.
        """
        os.set_inheritable(self._descriptor, True)
        os.environ[_INHERITED] = str(self._descriptor)
        self._handed_on = True

    def let_go(self) -> None:
        """Let it go, unless it was handed on."""
        if not self._handed_on:
            os.close(self._descriptor)


@contextlib.contextmanager
def hold(path: Path) -> Iterator[Held]:
    """Hold the lock for as long as the block runs. Raises `Locked`, `TidehubError`."""
    inherited = _inherited(path)
    descriptor = _open(path) if inherited is None else inherited
    held = Held(descriptor)
    try:
        _take(descriptor, path)
        # A full disk has no room for the pid either; then who holds the lock has no number, and is held all the same.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield held
    finally:
        # The file stays: removing it would let two processes lock two files of one name.
        held.let_go()


def held_by_another(path: Path) -> bool:
    """Whether another process holds the lock: not this one, which may have been handed it."""
    return holder(path) not in (None, os.getpid())


def holder(path: Path) -> int | None:
    """The pid that holds the lock now; None when nobody does; 0 when it could not be read.

    Only asks: a lock taken for a moment to find out would refuse an `up` that comes at that moment.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise os_fault(error, path, "open") from error
    try:
        answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        return None if _LOCK.unpack(answer)[0] == fcntl.F_UNLCK else _written(descriptor) or 0
    except OSError as error:
        raise os_fault(error, path, "ask for the lock on") from error
    finally:
        os.close(descriptor)


def _inherited(path: Path) -> int | None:
    """The descriptor of this lock that the program before this one in the same process has handed on, if any."""
    with contextlib.suppress(OSError, ValueError):
        descriptor = int(os.environ.pop(_INHERITED, ""))
        if os.path.samestat(os.fstat(descriptor), path.stat(follow_symlinks=False)):
            os.set_inheritable(descriptor, False)
            return descriptor
    return None


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise os_fault(error, path, "open") from error


def _take(descriptor: int, path: Path) -> None:
    try:
        # The first is what earlier versions of tidehub take and ask for.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise os_fault(error, path, "lock") from error
        raise Locked(path, _written(descriptor)) from error


def _written(descriptor: int) -> int | None:
    text = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
    return int(text) if text.isascii() and text.isdigit() else _known_to_the_kernel(descriptor)


def _known_to_the_kernel(descriptor: int) -> int | None:
    """Who took the flock of this file by proc_locks(5), where a full disk left no room for the number in it."""
    found = os.fstat(descriptor)
    file = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()
            if words[1] == "FLOCK" and words[5] == file:
                return int(words[4]) or None
    return None


@dataclass(frozen=True)
class PlatformState:
    """The file's content. `started`: the start of `pid` in clock ticks since boot; `since`: epoch seconds."""

    pid: int
    started: int
    since: float
    state: str
    address: str = ""
    version: str = __version__
    parts: Sequence[dict[str, object]] = ()
    gaps: Sequence[str] = ()
    groups: Sequence[Sequence[str]] = ()
    """The control groups of the parts, each by its directories."""
    run: str = ""
    boot: str = ""
    """The kernel's boot id; empty in what an earlier version wrote."""
    extra: dict[str, object] = field(default_factory=dict)

    @property
    def alive(self) -> bool:
        """Whether that very process still runs."""
        return not self.before_reboot and start_ticks(self.pid) == self.started

    @property
    def before_reboot(self) -> bool:
        """Whether the machine was restarted since: then no process of that run is left."""
        return bool(self.boot and boot_id() and self.boot != boot_id())


def own_state(*, state: str, since: float | None = None, **more: object) -> PlatformState:
    """The state of this process."""
    pid = os.getpid()
    return PlatformState(
        pid=pid,
        started=start_ticks(pid) or 0,
        boot=boot_id(),
        since=time.time() if since is None else since,
        state=state,
        **more,  # type: ignore[arg-type]
    )


def write_state(path: Path, content: PlatformState) -> None:
    write_private(path, json.dumps(content.__dict__, indent=2) + "\n")


def read_state(path: Path) -> PlatformState | None:
    """None when nothing runs, or it was stopped cleanly. Raises `TidehubError` when damaged."""
    text = read_private(path)
    if text is None:
        return None
    try:
        content = json.loads(text)
        known = {name: content[name] for name in PlatformState.__dataclass_fields__ if name in content}
        found = PlatformState(**known)
        if not (isinstance(found.pid, int) and isinstance(found.started, int)):
            raise TypeError("pid and started must be numbers")
        if not all(isinstance(text, str) for text in (found.state, found.address, found.run, found.boot)):
            raise TypeError("state, address, run and boot must be text")
        return found
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise TidehubError(
            f"{path} is damaged: {error}",
            fix=f"remove it: it only tells what runs. Then: {command(path.parent.parent, 'status')}",
        ) from error


def forget_state(path: Path) -> None:
    """Remove it after a clean stop."""
    path.unlink(missing_ok=True)


@contextlib.contextmanager
def reachable(path: Path) -> Iterator[str]:
    """A name of `path` short enough for a socket, however long it is: through the open directory."""
    try:
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise os_fault(error, path.parent, "open") from error
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


class ControlServer:
    """Answers each request line by the lines that `handle` yields."""

    def __init__(self, path: Path, handle: Handler) -> None:
        self._path = path
        self._handle = handle
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listen. The lock is held, so a socket that is there is a dead one. Raises `TidehubError`."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._path.unlink(missing_ok=True)
            with reachable(self._path) as name:
                listener.bind(name)
            self._path.chmod(0o600)
            self._server = await asyncio.start_unix_server(self._serve, sock=listener)
        except OSError as error:
            listener.close()
            raise os_fault(error, self._path, "listen on") from error

    async def close(self) -> None:
        """Stop listening and let running answers end."""
        if self._server is not None:
            self._server.close()
        for talk in list(self._talks):
            with contextlib.suppress(asyncio.CancelledError, TimeoutError):
                await asyncio.wait_for(talk, 1.0)
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = asyncio.current_task()
        assert talk is not None
        self._talks.add(talk)
        try:
            if not is_ours(writer.get_extra_info("socket")):
                return
            line = await reader.readline()
            if not line:
                return
            try:
                request = json.loads(line)
                if not isinstance(request, dict):
                    raise ValueError("not an object")
            except ValueError as error:
                await _send(writer, {"ok": False, "error": f"not understood: {error}"})
                return
            async for answer in self._handle(request):
                await _send(writer, answer)
        except (ConnectionError, ValueError):
            pass
        finally:
            self._talks.discard(talk)
            writer.close()


class Publisher:
    """What happens, told to everybody who waits for its end."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[Answer]] = set()

    def publish(self, answer: Answer) -> None:
        for queue in self._queues:
            queue.put_nowait(answer)

    async def follow(self, last: str) -> AsyncIterator[Answer]:
        """What is published from now on, to an answer with the key `last`, or `done`, which is the end of everything;
        in silence, that we are there.
        """
        queue: asyncio.Queue[Answer] = asyncio.Queue()
        self._queues.add(queue)
        try:
            while True:
                try:
                    answer = await asyncio.wait_for(queue.get(), HEARTBEAT)
                except TimeoutError:
                    answer = {"ok": True}
                yield answer
                if last in answer or "done" in answer:
                    return
        finally:
            self._queues.discard(queue)


async def _send(writer: asyncio.StreamWriter, answer: Answer) -> None:
    writer.write(json.dumps(answer).encode() + b"\n")
    await writer.drain()


def is_ours(connection: socket.socket) -> bool:
    """Whether root or our own user is at the other end of a unix socket."""
    return peer_uid(connection) in (0, os.geteuid())


def ask_supervisor(
    path: Path,
    request: Answer,
    *,
    timeout: float = ANSWER_TIMEOUT,
    while_silent: Callable[[], None] | None = None,
) -> Iterator[Answer]:
    """The supervisor's answers to `request`, as they come; ends when it closes.

    Raises `ConnectionError` when nobody listens, `TimeoutError` when no answer came in `timeout` seconds, and
    `TidehubError` when what comes is not understood. `while_silent` is called instead of raising `TimeoutError`: who
    waits on as long as it raises nothing.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        _patiently(while_silent, lambda: _connect(connection, path, timeout))
        connection.sendall(json.dumps(request).encode() + b"\n")
        rest = b""
        while read := _patiently(while_silent, lambda: connection.recv(65536)):
            *lines, rest = (rest + read).split(b"\n")
            for line in lines:
                try:
                    answer = json.loads(line)
                except ValueError as error:
                    raise TidehubError(f"the supervisor's answer is not understood: {error}") from error
                if isinstance(answer, dict):
                    yield answer


def _connect(connection: socket.socket, path: Path, timeout: float) -> bytes:
    try:
        with reachable(path) as name:
            connection.connect(name)
    except FileNotFoundError as error:
        raise ConnectionError(f"no supervisor listens on {path}") from error
    except BlockingIOError:
        # unix(7): more wait already than it lets wait.
        time.sleep(timeout)
        raise TimeoutError(f"{path} takes no more connections") from None
    return b""


def _patiently(while_silent: Callable[[], None] | None, work: Callable[[], bytes]) -> bytes:
    while True:
        try:
            return work()
        except TimeoutError:
            if while_silent is None:
                raise
            while_silent()
