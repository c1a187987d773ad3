"""Connections of the front door, to clients and to the servers behind: no request is lost because one is closed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import struct
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from front_parts import client, open_door
from supervisor_dummies import free_port

from tidehub.local.front.pages import away_page
from tidehub.local.front.proxy import KEEP_ALIVE, FrontDoor
from tidehub.local.places import Places

pytestmark = pytest.mark.real

NODES_OWN = 6.0
"""Seconds after which Node closes a connection without a request, if nobody says otherwise."""
ROUNDS = 20
TOGETHER = 16


@dataclass
class Away:
    """A hub that is away: its socket is held, so that it takes connections, and nobody answers them."""

    asked: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(3)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")
            await writer.drain()
        writer.close()


async def test_a_hub_that_is_away_is_said_by_a_page_that_asks_again(
    program: list[str], places: Places
) -> None:
    hub = Away()
    server = await asyncio.start_server(hub.serve, "127.0.0.1", 0)
    target = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    places.service_config.mkdir(parents=True, exist_ok=True)
    places.away_page.write_text(away_page("Coast & <Sea>", "help@example.org"))
    door = FrontDoor("127.0.0.1", free_port())
    page = {"Accept": "text/html,application/xhtml+xml"}
    async with server, open_door(door, program, places, target, away_after=0.5), client() as asking:
        away = await asking.get(f"{door.local_url}/hub/home", headers=page)
        assert (away.status_code, away.headers["retry-after"]) == (503, "5")
        assert "Coast &amp; &lt;Sea&gt; does not answer just now" in away.text
        assert "fetch(location.href" in away.text and "help@example.org" in away.text
        # What the hub says later harms nobody, and what must not be asked twice, or may take its time, waits for it.
        late = await asyncio.gather(
            asking.get(f"{door.local_url}/hub/oauth_callback?code=x", headers=page),
            asking.get(f"{door.local_url}/user/ann/files/large.html", headers=page),
            asking.get(f"{door.local_url}/hub/api/users", headers=page),
            asking.get(f"{door.local_url}/hub/home"),
            asking.post(f"{door.local_url}/hub/spawn", headers=page),
        )
        assert [(one.status_code, one.text) for one in late] == [(200, "late")] * 5
        again = await asking.get(f"{door.local_url}/hub/home", headers=page)
        assert again.status_code == 503 and hub.asked == 7


@dataclass
class Fickle:
    """A server that promises to keep each connection, and closes it shortly after the answer.

    What every server does at the end of its patience; here so soon that a proxy which kept the connection sends its
    next request in that moment again and again.
    """

    delays: tuple[float, ...] = (0.0, 0.0, 0.0005, 0.001, 0.002, 0.005)
    said: str = "keep-alive"
    taken: int = 0
    answered: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.taken += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next(
                (
                    int(line.partition(":")[2])
                    for line in head.lower().splitlines()
                    if "content-length" in line
                ),
                0,
            )
            await reader.readexactly(length)
            self.answered.append(head.split(" ", 1)[0])
            writer.write(
                f"HTTP/1.1 200 OK\r\nConnection: {self.said}\r\nKeep-Alive: timeout=3600\r\n"
                "Content-Length: 2\r\n\r\nok".encode()
            )
            await writer.drain()
            await asyncio.sleep(self.delays[self.taken % len(self.delays)])
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def fickle() -> AsyncIterator[tuple[Fickle, str]]:
    server, port = Fickle(), free_port()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", port)
    async with listening:
        yield server, f"http://127.0.0.1:{port}"


async def test_no_request_is_lost_when_the_server_behind_closes_a_connection(
    program: list[str], places: Places, fickle: tuple[Fickle, str]
) -> None:
    server, hub = fickle
    door = FrontDoor("127.0.0.1", free_port())
    async with open_door(door, program, places, hub), client() as http:

        async def one(number: int) -> list[int]:
            codes = []
            for round_ in range(ROUNDS):
                method = "GET" if (number + round_) % 2 else "POST"
                body = {"content": b"x" * 100} if method == "POST" else {}
                codes.append((await http.request(method, f"{door.local_url}/{number}", **body)).status_code)
            return codes

        found = await asyncio.gather(*(one(number) for number in range(TOGETHER)))
    codes = [code for codes in found for code in codes]
    assert codes == [200] * (ROUNDS * TOGETHER), f"{len(codes) - codes.count(200)} of {len(codes)} were lost"
    # Each reached the server once: what cannot be lost needs no second try, which a POST must not get.
    asked = [method for method in server.answered if method in ("GET", "POST")]
    assert asked.count("POST") == ROUNDS * TOGETHER // 2


def answer_at_once(listening: socket.socket) -> None:
    """A server that answers within microseconds, and closes the connection there and then if it is asked to."""
    with contextlib.suppress(OSError):
        while True:
            with listening.accept()[0] as one:
                got, more = b"", b"-"
                while more and not got.endswith((b"the end", b"\r\n\r\n") if got[:1] == b"G" else b"the end"):
                    got += (more := one.recv(65536))
                one.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                if b"connection: close" not in got.lower():
                    one.recv(1)


async def test_no_answer_of_a_unix_socket_is_lost_when_it_comes_before_the_request_has_ended(
    program: list[str], places: Places
) -> None:
    """To write to a Unix socket that its other end has closed fails at once, with an answer still unread in it."""
    path, door = places.run / "prompt", FrontDoor("127.0.0.1", free_port())
    hub = f"127.0.0.1:{free_port()}"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(64)
        threading.Thread(target=answer_at_once, args=(listening,), daemon=True).start()
        async with open_door(door, program, places, f"http://{hub}", inside={hub: path}), client() as http:
            codes = [
                (await http.post(f"{door.local_url}/{number}", content=b"the end")).status_code
                for number in range(400)
            ]
        listening.shutdown(socket.SHUT_RDWR)
    assert codes == [200] * 400, f"{400 - codes.count(200)} of 400 answers were lost"


async def test_a_client_keeps_its_connection_whatever_the_server_behind_says_of_its_own(
    program: list[str], places: Places, fickle: tuple[Fickle, str]
) -> None:
    server, hub = fickle
    server.said = "close"
    door = FrontDoor("127.0.0.1", free_port())
    async with open_door(door, program, places, hub):
        with socket.create_connection(("127.0.0.1", door.port), timeout=20) as connection:
            for method in ("GET", "HEAD", "GET"):
                head = await asyncio.to_thread(ask, connection, method)
                assert "\r\nconnection: keep-alive\r\n" in head, head
                assert f"\r\nkeep-alive: timeout={KEEP_ALIVE:.0f}\r\n" in head, head
            head = await asyncio.to_thread(ask, connection, "GET", "Connection: close\r\n")
            assert "\r\nconnection: close\r\n" in head and "\r\nkeep-alive:" not in head, head
            assert await asyncio.to_thread(connection.recv, 1) == b""


async def test_a_client_finds_its_connection_open_for_longer_than_it_is_told(
    program: list[str], places: Places, fickle: tuple[Fickle, str]
) -> None:
    _, hub = fickle
    door = FrontDoor("127.0.0.1", free_port())
    async with open_door(door, program, places, hub):
        with socket.create_connection(("127.0.0.1", door.port), timeout=NODES_OWN + 2) as connection:
            await asyncio.to_thread(ask, connection, "GET")
            with pytest.raises(TimeoutError):
                assert await asyncio.to_thread(connection.recv, 1) != b"", (
                    "closed while the client was silent"
                )
            await asyncio.to_thread(ask, connection, "GET")
    assert KEEP_ALIVE > 120, "reverse proxies keep connections for up to two minutes"


async def test_a_body_that_nobody_reads_ends_the_connection(program: list[str], places: Places) -> None:
    """A server that answers before the body is there, and closes: the rest of the body is no next request."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    port = free_port()
    async with await asyncio.start_server(refuse, "127.0.0.1", port):
        door = FrontDoor("127.0.0.1", free_port())
        async with open_door(door, program, places, f"http://127.0.0.1:{port}"):
            reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\nbeginning")
            head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).decode().lower()
            assert head.startswith("http/1.1 413"), head
            assert "\r\nconnection: close\r\n" in head, head
            with contextlib.suppress(ConnectionError):  # what was not read is reset
                assert await asyncio.wait_for(reader.read(), 10) == b""
            writer.close()


def ask(connection: socket.socket, method: str, more: str = "") -> str:
    """One request; the headers of its answer, in small letters."""
    connection.sendall(f"{method} / HTTP/1.1\r\nHost: x\r\n{more}\r\n".encode())
    said = b""
    while b"\r\n\r\n" not in said:
        piece = connection.recv(4096)
        assert piece, f"closed: {said!r}"
        said += piece
    head, _, body = said.partition(b"\r\n\r\n")
    while method != "HEAD" and body != b"ok":
        piece = connection.recv(4096)
        assert piece, "closed within the body"
        body += piece
    return head.decode().lower() + "\r\n"


METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")


async def test_the_body_of_a_request_is_never_the_next_request(program: list[str], places: Places) -> None:
    """The server behind reads all that comes on a connection, as one does that keeps it."""
    arrived: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        read = bytearray()
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(0.5):
                while some := await reader.read(2**16):
                    read.extend(some)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()
        arrived.put_nowait(bytes(read))

    hidden = b"POST /hidden HTTP/1.1\r\nHost: here\r\nX-Forwarded-For: 192.0.2.6\r\nContent-Length: 0\r\n\r\n"
    sent = b"%x\r\n%b\r\n0\r\n\r\n" % (len(hidden), hidden)
    door, port = FrontDoor("127.0.0.1", free_port()), free_port()
    listening = await asyncio.start_server(serve, "127.0.0.1", port)
    async with listening, open_door(door, program, places, f"http://127.0.0.1:{port}"):
        for method, said in itertools.product(METHODS, ("", "keep-alive", "X-Forwarded-For")):
            reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
            connection = f"Connection: {said}\r\n" if said else ""
            head = f"{method} /seen HTTP/1.1\r\nHost: here\r\n{connection}Transfer-Encoding: chunked\r\n\r\n"
            writer.write(head.encode() + sent)
            status = (await asyncio.wait_for(reader.readline(), 10)).split()[1]
            writer.close()
            if method in ("DELETE", "OPTIONS"):
                assert status == b"411" and arrived.empty(), (method, said, status)
                continue
            found = await asyncio.wait_for(arrived.get(), 10)
            start, _, body = found.lower().partition(b"\r\n\r\n")
            assert start.startswith(f"{method} /seen ".lower().encode()), found
            assert b"\r\nconnection: close" in start, found
            # What is hidden is in a chunk, and so it is no request.
            assert b"\r\ntransfer-encoding: chunked" in start, found
            assert body == sent.lower(), found


async def test_a_request_without_a_chunked_body_is_handed_on_with_it(
    program: list[str], places: Places, fickle: tuple[Fickle, str]
) -> None:
    server, hub = fickle
    door = FrontDoor("127.0.0.1", free_port())
    async with open_door(door, program, places, hub), client() as http:
        for method in ("DELETE", "OPTIONS"):
            for body in ({}, {"content": b"{}"}):
                assert (await http.request(method, f"{door.local_url}/one", **body)).status_code == 200
    assert server.answered.count("DELETE") == server.answered.count("OPTIONS") == 2


ODD = {
    "a cookie without a name": b"HTTP/1.1 200 OK\r\nSet-Cookie: ;\r\nContent-Length: 2\r\n\r\nok",
    "an empty cookie": b"HTTP/1.1 200 OK\r\nSet-Cookie: \r\nContent-Length: 2\r\n\r\nok",
    "a status that is none": b"HTTP/1.1 099 Odd\r\nContent-Length: 2\r\n\r\nok",
    "a control character beside the status": b"HTTP/1.1 200 a\x01b\r\nContent-Length: 2\r\n\r\nok",
    "trailers after a body that has none": b"HTTP/1.1 200 OK\r\nTrailer: X\r\nContent-Length: 2\r\n\r\nok",
    "a switch of protocols that nobody asked for": b"HTTP/1.1 101 Odd\r\nContent-Length: 2\r\n\r\nok",
}


@pytest.mark.parametrize("answer", ODD.values(), ids=ODD)
async def test_an_odd_answer_of_a_server_is_answered_and_ends_nothing(
    program: list[str], places: Places, answer: bytes
) -> None:
    """Users write servers. What cannot be handed on is an error of that server, and not one of the proxy's own."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    target = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    door = FrontDoor("127.0.0.1", free_port())
    async with (
        server,
        open_door(door, program, places, target, cookie_mark="0123abcd") as (supervisor, _),
        client() as asking,
    ):
        process = supervisor.parts()[0].pid
        got = await asking.get(f"{door.local_url}/user/ann/odd")
        sayable = not answer.startswith((b"HTTP/1.1 0", b"HTTP/1.1 1"))
        assert got.status_code == (200 if sayable else 502), got
        assert got.text == ("" if b" 101 " in answer else "ok")
        assert supervisor.parts()[0].pid == process
    assert "Uncaught" not in (places.logs / "proxy.log").read_text()


async def test_who_asks_for_an_upgrade_and_resets_is_no_uncaught_exception(
    program: list[str], places: Places
) -> None:
    door = FrontDoor("127.0.0.1", free_port())
    asked = b"GET /%zz HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    async with open_door(door, program, places, "http://127.0.0.1:1"), client() as asking:
        for _ in range(100):
            with socket.create_connection((door.address, door.port)) as one:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                one.send(asked)
        # It is served after them.
        assert (await asking.get(f"{door.local_url}/%zz")).status_code == 400
    assert "Uncaught" not in (places.logs / "proxy.log").read_text()
