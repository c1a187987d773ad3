"""The front door with the real proxy: its API, forwarded headers, certificates, ports."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from front_parts import TOKEN, client, open_door
from supervisor_dummies import alive, free_port, until
from tornado.httpclient import HTTPRequest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_unix_socket
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler, websocket_connect

from tidehub.errors import TidehubError, UsageError
from tidehub.local.front import proxy
from tidehub.local.front.ports import first_free_for_all, listen_on
from tidehub.local.front.proxy import FrontDoor, front_door
from tidehub.local.front.tls import TlsFiles
from tidehub.local.hub.http_unix import socket_url
from tidehub.local.places import Places
from tidehub.local.secrets import Secret

pytestmark = pytest.mark.real

WAITING = 700
"""Connections at once; more than Node's own queue takes (511)."""
PROXY_UID = 64124
OTHER_UID = 64125
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


ARRIVED: list[str] = []
"""Clients' addresses as the hub was told them."""


class Headers(RequestHandler):
    def get(self) -> None:
        ARRIVED.append(self.request.headers["X-Forwarded-For"])
        self.set_header("Server", "a server with a version")
        self.write(json.dumps(dict(self.request.headers)))

    def post(self) -> None:
        self.write(str(len(self.request.body)))


class Echo(WebSocketHandler):
    def open(self) -> None:
        ARRIVED.append(self.request.headers["X-Forwarded-For"])
        self.write_message(json.dumps(dict(self.request.headers)))

    def on_message(self, message: str | bytes) -> None:
        self.write_message(message)


@pytest.fixture
async def hub() -> AsyncIterator[str]:
    """Stands for the hub: answers with the headers that it got."""
    server = HTTPServer(Application([("/ws", Echo), ("/.*", Headers)]))
    port = free_port()
    server.listen(port, "127.0.0.1")
    yield f"http://127.0.0.1:{port}"
    server.stop()
    await server.close_all_connections()


async def seen(url: str, headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that reach the hub by a request, lower case."""
    async with client() as one:
        answer = await one.get(f"{url}/anything", headers=dict(headers))
    assert answer.status_code == 200
    return {name.lower(): value for name, value in answer.json().items()}


async def seen_by_upgrade(url: str, headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that reach the hub by a websocket."""
    request = HTTPRequest(url.replace("http", "ws", 1) + "/ws", headers=dict(headers))
    connection = await websocket_connect(request)
    first = await connection.read_message()
    connection.close()
    assert isinstance(first, str)
    return {name.lower(): value for name, value in json.loads(first).items()}


FORGED = {
    "X-Forwarded-For": "203.0.113.7",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "elsewhere.example",
    "X-Forwarded-Prefix": "/x",
    "Forwarded": "for=203.0.113.7;proto=https",
    "X-Real-IP": "203.0.113.7",
    "X-Scheme": "https",
}


@pytest.mark.parametrize("way", [seen, seen_by_upgrade])
async def test_forwarded_headers_of_strangers_are_not_believed(
    way: object, program: list[str], places: Places, hub: str
) -> None:
    door = FrontDoor("127.0.0.1", free_port())
    async with open_door(door, program, places, hub):
        found = await way(door.local_url, FORGED)  # type: ignore[operator]
    assert found["x-forwarded-for"] == "127.0.0.1"
    assert found["x-forwarded-proto"] == "http"
    assert found["x-forwarded-port"] == str(door.port)
    assert found["x-forwarded-host"] == f"127.0.0.1:{door.port}"
    assert not {"forwarded", "x-real-ip", "x-scheme", "x-forwarded-prefix"} & set(found)


@pytest.mark.parametrize(
    ("headers", "client_address", "scheme"),
    [
        ({"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}, "203.0.113.9", "https"),
        # What the client itself put first is not believed.
        ({"X-Forwarded-For": "6.6.6.6, 203.0.113.9", "X-Forwarded-Proto": "https"}, "203.0.113.9", "https"),
        # Two reverse proxies of the operator.
        (
            {"X-Forwarded-For": "203.0.113.9, 10.1.2.3", "X-Forwarded-Proto": "https,http"},
            "203.0.113.9",
            "https",
        ),
        ({"Forwarded": 'for="[2001:db8::1]:4711";proto=https'}, "2001:db8::1", "https"),
        ({"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "wss"}, "203.0.113.9", "https"),
        ({"X-Forwarded-For": "nonsense", "X-Forwarded-Proto": "gopher"}, "127.0.0.1", "http"),
        ({"X-Scheme": "https", "X-Real-IP": "6.6.6.6"}, "127.0.0.1", "http"),
        ({}, "127.0.0.1", "http"),
    ],
)
async def test_forwarded_headers_of_trusted_proxies_are_right(
    headers: dict[str, str], client_address: str, scheme: str, trusting: str
) -> None:
    for way in (seen, seen_by_upgrade):
        found = await way(trusting, {**headers, "Host": "hub.example.org"})
        assert found["x-forwarded-for"] == client_address
        assert found["x-forwarded-proto"] == scheme
        assert found["x-forwarded-port"] == ("443" if scheme == "https" else "80")
        assert not {"forwarded", "x-real-ip", "x-scheme"} & set(found)


_FORGING = """
import socket, sys
port, source, path, leave = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4] == "leave"
upgrade = "Connection: Upgrade\\r\\nUpgrade: websocket\\r\\n"
upgrade += "Sec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: AAAA\\r\\n"
with socket.create_connection(("127.0.0.1", port), source_address=(source, 0)) as one:
    more = upgrade if path == "/ws" else ""
    one.sendall(f"GET {path} HTTP/1.1\\r\\nHost: x\\r\\nX-Forwarded-For: 203.0.113.9\\r\\n{more}\\r\\n".encode())
    if not leave:
        one.recv(65536)
"""


def own_addresses() -> list[str]:
    """127.0.0.1, and one by which others reach this machine, if it has any."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one, contextlib.suppress(OSError):
        one.connect(("192.0.2.1", 9))  # sends nothing
        return ["127.0.0.1", str(one.getsockname()[0])]
    return ["127.0.0.1"]


@needs_root
@pytest.mark.root
async def test_an_address_of_this_machine_is_the_operators_proxy_only_by_its_uid(
    program: list[str], places: Places, hub: str
) -> None:
    """Any user can connect from where a reverse proxy on the same machine does, and be gone before anybody looks."""
    sources = own_addresses()
    door, told = FrontDoor("127.0.0.1", free_port(), trusted_proxies=tuple(sources)), []  # type: ignore[var-annotated]

    async def arrives(uid: int, source: str, path: str, then: str) -> str:
        before = len(ARRIVED)
        forging = ["/usr/bin/python3", "-I", "-S", "-c", _FORGING, str(door.port), source, path, then]
        await asyncio.to_thread(subprocess.run, forging, user=uid, group=uid, extra_groups=[], check=True)
        if then == "stay":
            await until(lambda: len(ARRIVED) > before)
        return ARRIVED[-1] if ARRIVED else ""

    async with open_door(door, program, places, hub, told=told):
        for uid, believed in ((70_321, False), (1_234, False), (69_998, False), (33, True), (0, True)):
            for source in sources:
                for path in ("/a", "/ws"):
                    found = await arrives(uid, source, path, "stay")
                    assert found == ("203.0.113.9" if believed else source), (uid, source, path)
        believed_until_here = ARRIVED.count("203.0.113.9")
        for _ in range(20):
            await arrives(70_321, "127.0.0.1", "/a", "leave")
        await arrives(70_321, "127.0.0.1", "/a", "stay")
        assert ARRIVED.count("203.0.113.9") == believed_until_here
    log = (places.logs / "proxy.log").read_text()
    assert log.count("uid 70321 on this machine are not believed") == 1


@pytest.fixture
async def trusting(program: list[str], places: Places, hub: str) -> AsyncIterator[str]:
    door = FrontDoor("127.0.0.1", free_port(), trusted_proxies=("127.0.0.1", "10.0.0.0/8"))
    async with open_door(door, program, places, hub):
        yield door.local_url


async def test_the_word_for_the_identity_provider_goes_with_the_sign_in_form_and_nowhere_else(
    program: list[str], places: Places, hub: str
) -> None:
    door, word = FrontDoor("127.0.0.1", free_port()), Secret("a-word-that-nobody-else-knows")
    path = "/services/identity/login"
    async with open_door(door, program, places, hub, sign_in=(path, word)), client() as http:
        said = {"X-Tidehub-Front": "mine", "x_tidehub_front": "mine"}

        async def arrived(target: str) -> str | None:
            # As raw bytes: a client of good manners would resolve the dots itself.
            url = httpx.URL(door.local_url).copy_with(raw_path=target.encode())
            answer = (await http.get(url, headers=said)).json()
            return next((value for name, value in answer.items() if name.lower() == "x-tidehub-front"), None)

        # With it goes the uid of who connects from this machine.
        assert await arrived(path) == f"{word.reveal()} {os.getuid()}"
        assert await arrived(f"{path}?a=b") == f"{word.reveal()} {os.getuid()}"
        for other in (
            "/",
            "/user/alice/",
            f"{path}/../../../user/mallory/",
            f"{path}/",
            f"/x{path}",
            f"{path}%2f..",
            f"/user/mallory/?{path}",
            f"//{path}",
        ):
            assert await arrived(other) is None, other


async def test_answers_do_not_name_the_server_behind(program: list[str], places: Places, hub: str) -> None:
    door = FrontDoor("127.0.0.1", free_port())
    async with open_door(door, program, places, hub), client() as one:
        answer = await one.get(door.local_url)
    assert answer.status_code == 200
    assert "server" not in answer.headers


async def test_who_offers_another_protocol_is_answered_in_this_one(
    program: list[str], places: Places, hub: str
) -> None:
    """`curl --http2` and Java's client ask for HTTP/2 by an upgrade, which a server may decline (RFC 9110, 7.8)."""
    door = FrontDoor("127.0.0.1", free_port())
    asks = {
        "Connection": "Upgrade, HTTP2-Settings",
        "Upgrade": "h2c",
        "HTTP2-Settings": "AAMAAABkAAQAoAAAAAIAAAAA",
    }
    async with open_door(door, program, places, hub), client() as one:
        for said in (asks, asks | {"Upgrade": "TLS/1.0, HTTP/1.1"}):
            answer = await one.get(door.local_url, headers=said)
            assert answer.status_code == 200
            assert not {"upgrade", "http2-settings"} & {name.lower() for name in answer.json()}
            body = await one.post(door.local_url, headers=said | {"Upgrade": "websocket"}, content=b"12345")
            assert (body.status_code, body.text) == (200, "5")


def test_plain_http_from_elsewhere_is_for_the_reverse_proxy_alone(program: list[str]) -> None:
    script = f"""
    require({json.dumps(str(Path(proxy.__file__).with_name("front.cjs")))});
    const http = require("node:http");
    const server = http.createServer(() => console.log("served"));
    for (const remoteAddress of ["192.0.2.1", "::ffff:10.0.0.9", "127.0.0.1", "::1"]) {{
      const response = {{ writeHead(code) {{ console.log(code); return this; }}, end() {{}}, removeHeader() {{}} }};
      server.emit("request", {{ socket: {{ remoteAddress }}, headers: {{}} }}, response);
    }}
    server.emit("upgrade", {{ socket: {{ remoteAddress: "192.0.2.1" }}, headers: {{}} }},
                {{ on() {{}}, end(text) {{ console.log(text.split("\\r")[0]); }} }});
    """
    environment = {"TIDEHUB_ONLY_TRUSTED": "1", "TIDEHUB_TRUSTED_PROXIES": "10.0.0.0/8"}
    done = subprocess.run(
        [program[0], "-e", script], env=environment, capture_output=True, text=True, timeout=30
    )
    assert done.stdout.split("\n")[:5] == ["403", "served", "served", "served", "HTTP/1.1 403 Forbidden"], (
        done.stderr
    )


async def test_half_sent_headers_are_cut_off_and_slow_bodies_and_websockets_are_not(
    program: list[str], places: Places, hub: str
) -> None:
    door = FrontDoor("127.0.0.1", free_port())
    async with open_door(door, program, places, hub, headers_timeout=1.0):
        request = HTTPRequest(door.local_url.replace("http", "ws", 1) + "/ws")
        talk = await websocket_connect(request)
        await talk.read_message()
        slow, upload = [await asyncio.open_connection("127.0.0.1", door.port) for _ in range(2)]
        silent = await asyncio.open_connection("127.0.0.1", door.port)
        slow[1].write(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        upload[1].write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na")
        for reader, _ in (slow, silent):
            answer = await asyncio.wait_for(reader.read(), 10)
            assert answer == b"" or b" 408 " in answer
        upload[1].write(b"b")
        assert (await asyncio.wait_for(upload[0].readuntil(b"\r\n\r\n2"), 10)).startswith(b"HTTP/1.1 200")
        await talk.write_message("still here")
        assert await asyncio.wait_for(talk.read_message(), 10) == "still here"
        for _, writer in (slow, upload, silent):
            writer.close()
        talk.close()


async def test_a_path_that_cannot_be_decoded_is_the_askers_fault(
    program: list[str], places: Places, hub: str
) -> None:
    door = FrontDoor("127.0.0.1", free_port())
    async with open_door(door, program, places, hub):
        for path, status in (
            ("/%ff", b"400"),
            ("/a/%E0%A4%A", b"400"),
            ("/%", b"400"),
            ("/%C3%A4?x=%ff", b"200"),
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
            writer.write(b"GET " + path.encode() + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP/1.1 " + status), path
            writer.close()


async def test_what_connects_while_the_proxy_is_away_is_served_by_the_next_one(
    program: list[str], places: Places, hub: str
) -> None:
    door = FrontDoor("127.0.0.1", free_port())
    async with open_door(door, program, places, hub) as (supervisor, restored):
        process = supervisor.parts()[0].pid
        assert process is not None
        os.kill(process, signal.SIGKILL)
        await until(lambda: not alive(process))
        assert (await seen(door.local_url, {}))["x-forwarded-for"] == "127.0.0.1"
        await until(lambda: restored == ["restored"])


async def test_a_servers_socket_is_connected_to_and_a_link_in_its_place_is_not(
    program: list[str], places: Places
) -> None:
    """Whoever owns the directory could lead the proxy to any socket that it may connect to."""
    theirs, secret = (places.state / name for name in ("theirs", "secret"))
    for directory in (theirs, secret):
        directory.mkdir()
    server = HTTPServer(Application([("/.*", Headers)]))
    for directory in (theirs, secret):
        server.add_socket(bind_unix_socket(str(directory / "nb.sock:80")))
    door = FrontDoor("127.0.0.1", free_port())
    target = socket_url(str(theirs / "nb.sock")) + ":80"
    try:
        async with open_door(door, program, places, target), client() as one:
            assert (await one.get(f"{door.local_url}/x")).status_code == 200
            (theirs / "nb.sock:80").rename(theirs / "own")
            for put in (
                lambda: (theirs / "nb.sock:80").symlink_to(secret / "nb.sock:80"),
                lambda: os.mkfifo(theirs / "nb.sock:80"),
                lambda: (theirs / "nb.sock:80").mkdir(),
            ):
                put()
                assert (await one.get(f"{door.local_url}/x")).status_code >= 500
                (theirs / "nb.sock:80").rename(theirs / os.urandom(4).hex())
            (theirs / "own").rename(theirs / "nb.sock:80")
            assert (await one.get(f"{door.local_url}/x")).status_code == 200
            if os.geteuid() == 0:
                # Not a link: a socket of somebody else under a name in their directory.
                os.chown(theirs, OTHER_UID, OTHER_UID)
                assert (await one.get(f"{door.local_url}/x")).status_code >= 500
    finally:
        server.stop()
        await server.close_all_connections()


@needs_root
@pytest.mark.root
async def test_the_proxy_runs_as_its_user_and_its_api_is_closed_to_others(
    program: list[str], places: Places, hub: str
) -> None:
    door = FrontDoor("127.0.0.1", free_port())
    async with open_door(door, program, places, hub, uid=PROXY_UID) as (supervisor, _):
        process = supervisor.parts()[0].pid
        assert f"Uid:\t{PROXY_UID}\t{PROXY_UID}" in Path(f"/proc/{process}/status").read_text()
        for uid, reached in ((PROXY_UID, "reached"), (OTHER_UID, "Permission denied")):
            code = (
                "import socket,sys; one = socket.socket(socket.AF_UNIX)\n"
                "try: one.connect(sys.argv[1]); print('reached')\n"
                "except OSError as error: print(error.strerror)"
            )
            done = subprocess.run(
                ["/usr/bin/python3", "-c", code, str(places.proxy_api_socket)],
                user=uid,
                group=uid,
                extra_groups=[],
                cwd="/",
                capture_output=True,
                text=True,
                timeout=30,
            )
            assert done.stdout.strip() == reached, done.stderr
        api = httpx.AsyncHTTPTransport(uds=str(places.proxy_api_socket))
        async with client(transport=api) as one:
            assert (await one.get("http://localhost/api/routes")).status_code == 403
            headers = {"Authorization": f"token {TOKEN.reveal()}"}
            assert (await one.get("http://localhost/api/routes", headers=headers)).status_code == 200


async def test_after_kill_9_it_is_back_over_its_old_socket_and_routes_are_restored(
    program: list[str], places: Places, hub: str
) -> None:
    door = FrontDoor("127.0.0.1", free_port())
    async with open_door(door, program, places, hub) as (supervisor, restored):
        process = supervisor.parts()[0].pid
        assert process is not None
        assert restored == []
        os.kill(process, signal.SIGKILL)
        await until(lambda: restored == ["restored"])
        assert not alive(process)
        assert (await seen(door.local_url, {}))["x-forwarded-for"] == "127.0.0.1"
    assert TOKEN.reveal() not in (places.logs / "proxy.log").read_text()


def certificate(directory: Path, name: str) -> TlsFiles:
    """A fresh self-signed certificate for `name`, in the same two files each time."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=90))
        .sign(key, hashes.SHA256())
    )
    directory.mkdir(exist_ok=True)
    files = TlsFiles(directory / "fullchain.pem", directory / "privkey.pem")
    files.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    files.key.chmod(0o600)
    return files


def presented(port: int) -> str:
    """The name in the certificate that a new connection gets."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain) as one,
    ):
        raw = one.getpeercert(binary_form=True)
    assert raw is not None
    value = (
        x509.load_der_x509_certificate(raw).subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value
    )
    assert isinstance(value, str)
    return value


@pytest.mark.parametrize("uid", [None, pytest.param(PROXY_UID, marks=[needs_root, pytest.mark.root])])
async def test_a_renewed_certificate_is_taken_up_without_dropping_a_connection(
    uid: int | None, program: list[str], places: Places, hub: str
) -> None:
    files = certificate(places.state.parent / "tls", "first.example")
    door = FrontDoor("127.0.0.1", free_port(), tls=files)
    told: list[str] = []
    async with open_door(door, program, places, hub, uid=uid, told=told) as (supervisor, _):
        process = supervisor.parts()[0].pid
        assert await asyncio.to_thread(presented, door.port) == "first.example"
        request = HTTPRequest(f"wss://127.0.0.1:{door.port}/ws", validate_cert=False)
        websocket = await websocket_connect(request)
        headers = json.loads(str(await websocket.read_message()))
        assert {name.lower(): value for name, value in headers.items()}["x-forwarded-proto"] == "https"

        half = files.key.read_bytes()
        certificate(files.key.parent, "second.example")
        whole = files.key.read_bytes()
        # A renewal caught between its two files changes nothing.
        files.key.write_bytes(half)
        await until(lambda: any("is not the key of" in text for text in told))
        assert await asyncio.to_thread(presented, door.port) == "first.example"
        files.key.write_bytes(whole)
        async with asyncio.timeout(10):
            while await asyncio.to_thread(presented, door.port) != "second.example":
                await asyncio.sleep(0.05)

        await websocket.write_message("still here")
        assert await websocket.read_message() == "still here"
        websocket.close()
        assert supervisor.parts()[0].pid == process
        copy = places.proxy_key.stat()
        assert copy.st_uid == os.geteuid()
        if uid is None:
            assert copy.st_mode & 0o777 == 0o600
        else:
            assert (copy.st_gid, copy.st_mode & 0o777) == (uid, 0o640)


@needs_root
@pytest.mark.root
async def test_a_low_port_as_root(program: list[str], places: Places, hub: str) -> None:
    if first_free_for_all() < 1024:
        pytest.skip("this machine has no privileged ports")
    port = next(port for port in range(700, 1023) if is_free(port))
    door = FrontDoor("127.0.0.1", port)
    async with open_door(door, program, places, hub, uid=PROXY_UID) as (supervisor, _):
        assert (await seen(door.local_url, {}))["x-forwarded-port"] == str(port)
        status = Path(f"/proc/{supervisor.parts()[0].pid}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    # The supervisor opened the port: the proxy needs no capability for it.
    assert fields["CapEff"] == fields["CapPrm"] == fields["CapAmb"] == f"{0:016x}"
    assert fields["Uid"].split()[0] == str(PROXY_UID)


def is_free(port: int) -> bool:
    with socket.socket() as one, contextlib.suppress(OSError):
        one.bind(("127.0.0.1", port))
        return True
    return False


def test_a_taken_port_names_the_process() -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        with pytest.raises(TidehubError) as refused:
            listen_on("127.0.0.1", one.getsockname()[1])
    text = str(refused.value)
    assert f"(process {os.getpid()})" in text
    assert "--port" in text


async def test_a_port_that_cannot_be_listened_on_ends_the_proxy(
    program: list[str], places: Places, hub: str
) -> None:
    door = FrontDoor("127.0.0.1", free_port())
    async with open_door(door, program, places, hub):
        component = front_door(
            door,
            program=program,
            places=places,
            # Not given to it below: it listens by itself.
            listener=listen_on("127.0.0.1", 0),
            token=TOKEN,
            hub_target=hub,
            hub_path="/hub/",
            restore=asyncio.Event().wait,  # type: ignore[arg-type]
        )
        argv = [part.replace("api.sock", "other.sock") for part in component.argv]
        other = replace(component, argv=argv)
        done = await asyncio.create_subprocess_exec(
            *other.argv, env=dict(other.env), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        output, _ = await asyncio.wait_for(done.communicate(), 20)
    assert done.returncode == 1
    assert "cannot listen" in output.decode()


def test_plain_http_beyond_this_machine_is_refused() -> None:
    with pytest.raises(UsageError, match="plain HTTP") as refused:
        FrontDoor("0.0.0.0", 8000).check()
    assert "machine.tls" in str(refused.value)
    assert "trusted_proxies" in str(refused.value)


def test_an_unprivileged_user_reads_what_to_do_about_a_low_port() -> None:
    if first_free_for_all() < 1024:
        pytest.skip("this machine has no privileged ports")
    code = (
        "from tidehub.local.front.ports import listen_on\n"
        "from tidehub.errors import TidehubError\n"
        # A Python below root's home cannot import any more once it is another user.
        "import encodings.idna, os\n"
        "if os.geteuid() == 0: os.setresuid(64125, 64125, 64125)\n"
        "try: listen_on('127.0.0.1', 81)\n"
        "except TidehubError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": ":".join(sys.path), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "port 81 needs root" in done.stdout, done.stderr


async def test_as_many_wait_as_the_supervisors_socket_lets(
    program: list[str], places: Places, hub: str
) -> None:
    """Who connects as fast as they can fills a short queue, and others' connections are dropped."""
    door = FrontDoor("127.0.0.1", free_port())
    most = min(WAITING, int(Path("/proc/sys/net/core/somaxconn").read_text()))
    async with open_door(door, program, places, hub) as (supervisor, _):
        process = supervisor.parts()[0].pid
        assert process is not None
        os.kill(process, signal.SIGSTOP)
        try:
            with contextlib.ExitStack() as stack:
                tried = [stack.enter_context(socket.socket()) for _ in range(most)]
                for one in tried:
                    one.setblocking(False)
                    one.connect_ex((door.address, door.port))
                # 1: TCP_ESTABLISHED (net/tcp_states.h)
                made = sum(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == 1 for one in tried)
            assert made == most
        finally:
            os.kill(process, signal.SIGCONT)
