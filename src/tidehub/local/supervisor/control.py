"""How `status` and `down` talk to the supervisor: JSON lines over a socket in the private directory."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

from tidehub.errors import TidehubError
from tidehub.system.files import os_fault

ANSWER_TIMEOUT = 15.0
_PEER_CREDENTIALS = struct.Struct("3i")

HEARTBEAT = 2.0
"""Seconds after which whoever waits for an end is told at the latest that the supervisor still works on it."""

Answer = Mapping[str, object]
Handler = Callable[[Mapping[str, object]], AsyncIterator[Answer]]


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
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    _, uid, _ = _PEER_CREDENTIALS.unpack(raw)
    return uid in (0, os.geteuid())


def ask_supervisor(
    path: Path, request: Answer, *, timeout: float | None = ANSWER_TIMEOUT
) -> Iterator[Answer]:
    """The supervisor's answers to `request`, as they come; ends when it closes.

    Raises `ConnectionError` when nobody listens, `TimeoutError` when no answer came in `timeout` seconds, and
    `TidehubError` when what comes is not understood.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        try:
            with reachable(path) as name:
                connection.connect(name)
        except FileNotFoundError as error:
            raise ConnectionError(f"no supervisor listens on {path}") from error
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile("rb") as lines:
            for line in lines:
                try:
                    answer = json.loads(line)
                except ValueError as error:
                    raise TidehubError(f"the supervisor's answer is not understood: {error}") from error
                if isinstance(answer, dict):
                    yield answer
