"""What flows through the front door: readers who do not read, servers that do not answer, clients that reset.

Users write servers and clients, and may have many of them; the proxy is everybody's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from front_parts import client, open_door
from supervisor_dummies import free_port

from tidehub.local.front.proxy import FrontDoor
from tidehub.local.places import Places

pytestmark = pytest.mark.real

FIRST, MORE = 10, 100
"""Readers who stall, before the proxy is measured and between the two measurements."""
MOST = 240 * 2**10
"""Bytes that each of them may cost: a few times what one read(2) brings (64 KiB), on both sides."""

_MEASURE = """
const fs = require("node:fs");
process.on("SIGUSR2", () => {
  gc(); gc();
  const { heapUsed, external } = process.memoryUsage();
  fs.writeFileSync(%(to)s + ".new", JSON.stringify(heapUsed + external));
  fs.renameSync(%(to)s + ".new", %(to)s);
});
"""

UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKS = b"8\r\nchunk...\r\n" * 1000


@dataclass
class Server:
    """A user's: what it does with a request is said by each test."""

    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    heads: list[bytes] = field(default_factory=list)
    connected: int = 0
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connected += 1
        task = asyncio.current_task()
        assert task is not None
        self.tasks.append(task)
        try:
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            await self.answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.connected -= 1
            writer.transport.abort()


@dataclass
class Door:
    """The proxy before a server, and what it holds."""

    address: tuple[str, int]
    pid: int
    server: Server
    log: Path
    measured: Path

    async def holds(self) -> int:
        """Bytes that are in use in the proxy, without what waits to be collected."""
        self.measured.unlink(missing_ok=True)
        os.kill(self.pid, signal.SIGUSR2)
        async with asyncio.timeout(20):
            while not self.measured.exists():
                await asyncio.sleep(0.02)
        return int(json.loads(self.measured.read_text()))

    def descriptors(self) -> int:
        return sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir())

    async def has_descriptors(self, most: int) -> None:
        """Raises `TimeoutError` when it does not come down to so many."""
        async with asyncio.timeout(20):
            while self.descriptors() > most:
                await asyncio.sleep(0.05)

    def connect(self) -> socket.socket:
        one = narrow(socket.socket())
        one.connect(self.address)
        one.setblocking(False)
        return one

    async def works(self) -> None:
        async with client() as asking:
            url = f"http://{self.address[0]}:{self.address[1]}/_chp_healthz"
            assert (await asking.get(url)).status_code == 200
        assert "Uncaught" not in self.log.read_text(), self.log.read_text()[-2000:]


def narrow(one: socket.socket) -> socket.socket:
    """With small buffers of the kernel's at both ends: little data fills them."""
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1000)
    return one


@asynccontextmanager
async def door_to(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    program: list[str],
    places: Places,
) -> AsyncIterator[Door]:
    server = Server(answer)
    measured, script = places.run / "measured", places.run / "measure.cjs"
    script.write_text(_MEASURE % {"to": json.dumps(str(measured))})
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as listening:
        narrow(listening)
        target = f"http://127.0.0.1:{listening.getsockname()[1]}"
        front = FrontDoor("127.0.0.1", free_port())
        options = f"--expose-gc --require {script}"
        serving = await asyncio.start_server(server.serve, sock=listening)
        async with serving, open_door(front, program, places, target, node_options=options) as (found, _):
            pid = found.parts()[0].pid
            assert pid is not None
            try:
                yield Door((front.address, front.port), pid, server, places.logs / "proxy.log", measured)
            finally:
                for task in server.tasks:
                    task.cancel()
                await asyncio.gather(*server.tasks, return_exceptions=True)


class Stalled:
    """Counts those who can send no more."""

    def __init__(self) -> None:
        self.ones = asyncio.Semaphore(0)

    async def send(self, write: Callable[[], Awaitable[None]]) -> None:
        """Call `write` until it takes longer than a second, then never return."""
        with contextlib.suppress(TimeoutError):
            while True:
                await asyncio.wait_for(write(), 1)
        self.ones.release()
        await asyncio.Event().wait()

    async def wait(self, count: int) -> None:
        async with asyncio.timeout(120):
            for _ in range(count):
                await self.ones.acquire()


def request(path: str, more: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n{more}\r\n".encode()


KINDS = {
    "an answer": (b"", CHUNKED, CHUNKS),
    "an answer to who asked for a websocket": (UPGRADE.encode(), CHUNKED, CHUNKS),
    "a websocket": (UPGRADE.encode(), SWITCHED, b"x" * 1000),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_small_pieces_for_readers_who_do_not_read_take_little_memory(
    program: list[str], places: Places, kind: str
) -> None:
    headers, answer, piece = KINDS[kind]
    stalled = Stalled()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def write() -> None:
            writer.write(piece)
            await writer.drain()

        writer.transport.set_write_buffer_limits(0)
        writer.write(answer)
        await stalled.send(write)

    async with door_to(serve, program, places) as door:
        with contextlib.ExitStack() as asking:
            for count in (FIRST, MORE):
                before = await door.holds()
                for _ in range(count):
                    one = asking.enter_context(door.connect())
                    one.sendall(request("/user/ann/pieces", headers.decode()))
                await stalled.wait(count)
            each = (await door.holds() - before) / MORE
            await door.works()
        assert each < MOST, f"{each / 2**10:.0f} KiB for each reader"


@pytest.mark.parametrize("headers", ["", UPGRADE], ids=["a body", "a websocket"])
async def test_small_pieces_for_servers_that_do_not_read_take_little_memory(
    program: list[str], places: Places, headers: str
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reader._transport.pause_reading()  # type: ignore[attr-defined]  # StreamReader reads up to twice its limit
        if headers:
            writer.write(SWITCHED)
        await asyncio.Event().wait()

    loop, stalled = asyncio.get_running_loop(), Stalled()
    head = request("/user/ann/deaf", headers or "Transfer-Encoding: chunked\r\n").replace(
        b"GET", b"GET" if headers else b"PUT"
    )
    piece = b"x" * 1000 if headers else CHUNKS
    async with door_to(serve, program, places) as door:
        with contextlib.ExitStack() as asking:
            sending = []
            for count in (FIRST, MORE):
                before = await door.holds()
                for _ in range(count):
                    one = asking.enter_context(door.connect())
                    one.sendall(head)
                    if headers:
                        assert await loop.sock_recv(one, 100)

                    async def write(one: socket.socket = one) -> None:
                        await loop.sock_sendall(one, piece)

                    sending.append(asyncio.ensure_future(stalled.send(write)))
                await stalled.wait(count)
            each = (await door.holds() - before) / MORE
            await door.works()
            for task in sending:
                task.cancel()
            await asyncio.gather(*sending, return_exceptions=True)
        assert each < MOST, f"{each / 2**10:.0f} KiB for each client"


@pytest.mark.parametrize("headers", ["", UPGRADE], ids=["an answer", "a websocket"])
async def test_what_is_small_arrives_at_once_and_whole(
    program: list[str], places: Places, headers: str
) -> None:
    """Events and messages of kernels: each is there before the next one is sent, also after the reader has stalled."""
    sent = b"".join(b"%d\n" % number for number in range(200_000))
    go = asyncio.Event()

    def piece(words: bytes) -> bytes:
        return words if headers else b"%x\r\n%b\r\n" % (len(words), words)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(SWITCHED if headers else CHUNKED)
        for _ in range(100):
            await go.wait()
            go.clear()
            writer.write(piece(b"!"))
        await go.wait()
        for line in sent.splitlines(keepends=True):
            writer.write(piece(line))
            await writer.drain()
        writer.write(b"" if headers else b"0\r\n\r\n")
        writer.write_eof()
        await reader.read()

    async with door_to(serve, program, places) as door:
        reader, writer = await asyncio.open_connection(sock=door.connect(), limit=2**26)
        writer.write(request("/user/ann/events", headers))
        took = []  # the first one with the headers

        for _ in range(100):
            begin = time.monotonic()
            go.set()
            assert await asyncio.wait_for(reader.readuntil(b"!"), 10)
            took.append(time.monotonic() - begin)
            if not headers:
                assert await reader.readexactly(2) == b"\r\n"
        assert sorted(took)[50] < 0.02, f"half of them took {sorted(took)[50] * 1000:.0f} ms or more"
        go.set()
        await asyncio.sleep(1)  # all of it waits somewhere
        got = bytearray()
        while headers and len(got) < len(sent):
            got += await asyncio.wait_for(reader.read(2**16), 10)
        while not headers and (size := int(await asyncio.wait_for(reader.readline(), 10), 16)):
            got += await reader.readexactly(size)
            assert await reader.readexactly(2) == b"\r\n"
        assert got == sent
        writer.close()


async def test_who_resets_a_websocket_is_no_uncaught_exception_and_leaves_nothing(
    program: list[str], places: Places
) -> None:
    """In each moment: before the server behind has answered, in the middle, and where it never ends or answers."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = door.server.heads[-1]
        if b"/answers" in head:
            writer.write(SWITCHED)
        if b"/refuses" in head:
            writer.write(CHUNKED)
        while b"/silent" not in head:
            writer.write(CHUNKS)
            await writer.drain()
            await asyncio.sleep(0.01)
        await asyncio.Event().wait()

    async with door_to(serve, program, places) as door:
        await door.works()
        before = door.descriptors()
        for number in range(400):
            path = ("/answers", "/refuses", "/silent")[number % 3]
            with door.connect() as one:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                one.sendall(request(path, UPGRADE))
                if number % 4 > 1:
                    await asyncio.sleep(0.001 * (number % 30))
                if number % 2:
                    with contextlib.suppress(ConnectionError):
                        one.sendall(b"some words")
        await door.has_descriptors(before + 2)
        await door.works()
        assert len(door.server.heads) > 100


async def test_a_server_that_does_not_end_a_websocket_does_not_keep_it(
    program: list[str], places: Places
) -> None:
    """Neither what it has still to say nor what it does not read keeps the connection of a client that has gone."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(SWITCHED + b"x" * 2**20)
        await asyncio.Event().wait()

    async with door_to(serve, program, places) as door:
        await door.works()
        before = door.descriptors()
        with contextlib.ExitStack() as asking:
            for _ in range(50):
                one = asking.enter_context(door.connect())
                one.sendall(request("/user/ann/stays", UPGRADE))
                assert await asyncio.get_running_loop().sock_recv(one, 100)
                with contextlib.suppress(BlockingIOError):
                    while one.send(b"y" * 2**16):
                        pass
        await door.has_descriptors(before + 2)
        await door.works()


async def test_requests_that_do_not_wait_for_answers_take_their_turn(
    program: list[str], places: Places
) -> None:
    """One connection of a client's is not thousands to a server that does not answer."""
    most = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal most
        most = max(most, door.server.connected)
        if b"/never" in door.server.heads[-1]:
            await asyncio.Event().wait()
        name = door.server.heads[-1].split()[1][-1:]
        await asyncio.sleep(0.05)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" + name)
        await writer.drain()

    async with door_to(serve, program, places) as door:
        reader, writer = await asyncio.open_connection(*door.address)
        writer.write(b"".join(request(f"/{name}") for name in "abcdefgh"))
        got = b""
        while got.count(b"HTTP/1.1 200") < 8 or got[-1:] != b"h":
            got += (some := await asyncio.wait_for(reader.read(4096), 10))
            assert some, got
        assert [one.split()[1][-1:] for one in door.server.heads] == [
            *map(bytes, zip(b"abcdefgh", strict=False))
        ]
        assert most == 1
        writer.close()
        reader, writer = await asyncio.open_connection(*door.address)
        writer.write(request("/never") * 5000)
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 10) == b""
        assert most <= 2 and len(door.server.heads) < 10
        await door.works()
