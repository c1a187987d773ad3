"""Cookies at the front door: two platforms on one host, one browser. And pages under another name of the machine."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from front_parts import client, open_door, proxy_places
from supervisor_dummies import free_port
from tornado.httpclient import HTTPRequest
from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler, websocket_connect

from tidehub.local.front.proxy import FrontDoor, cookie_mark
from tidehub.local.places import Places
from tidehub.local.secrets import Secret

pytestmark = pytest.mark.real
ONE, OTHER = "0123abcd", "4567ef01"
PAGE = {"Accept": "text/html,*/*", "Sec-Fetch-Mode": "navigate"}


class Hub(RequestHandler):
    """Sets the cookies that the query names, deletes others, and says what it got."""

    def get(self) -> None:
        for name in self.get_arguments("set"):
            self.set_cookie(
                name, self.get_argument("value"), path="/", httponly=name != "_xsrf" and name != "open"
            )
        for name in self.get_arguments("delete"):
            self.clear_cookie(name, path="/")
        for name in self.get_arguments("short"):
            self.set_cookie(name, self.get_argument("value"), path="/", max_age=3600)
        said = {"cookie": self.request.headers.get("Cookie", ""), "uri": self.request.uri}
        self.write(json.dumps(said | {"token": self.request.headers.get("X-Xsrftoken", "")}))


class Socket(WebSocketHandler):
    def open(self) -> None:
        self.write_message(self.request.headers.get("Cookie", ""))


@pytest.fixture
async def doors(program: list[str], places: Places) -> AsyncIterator[tuple[str, str]]:
    """The addresses of two platforms on one host."""
    server = HTTPServer(Application([("/ws", Socket), ("/.*", Hub)]))
    port = free_port()
    server.listen(port, "127.0.0.1")
    urls = []
    async with AsyncExitStack() as stack:
        for mark in (ONE, OTHER):
            kept = places if mark == ONE else stack.enter_context(proxy_places())
            door = FrontDoor("127.0.0.1", free_port())
            await stack.enter_async_context(
                open_door(door, program, kept, f"http://127.0.0.1:{port}", cookie_mark=mark)
            )
            urls.append(door.local_url)
        yield urls[0], urls[1]
    server.stop()
    await server.close_all_connections()


async def seen(browser: httpx.AsyncClient, url: str, **query: str) -> dict[str, str]:
    answer = await browser.get(url, params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, str] = answer.json()
    return found


async def test_two_platforms_keep_their_cookies_apart(doors: tuple[str, str]) -> None:
    one, other = doors
    async with client() as browser:
        await seen(browser, one, set="jupyterhub-session-id", value="a")
        await seen(browser, other, set="jupyterhub-session-id", value="b")
        assert (await seen(browser, one))["cookie"] == "jupyterhub-session-id=a"
        assert (await seen(browser, other))["cookie"] == "jupyterhub-session-id=b"
        request = HTTPRequest(
            one.replace("http", "ws", 1) + "/ws",
            headers={"Cookie": "; ".join(f"{cookie.name}={cookie.value}" for cookie in browser.cookies.jar)},
        )
        socket = await websocket_connect(request)
        assert await socket.read_message() == "jupyterhub-session-id=a"
        socket.close()
        # Signing out of one is signing out of one.
        await seen(browser, other, delete="jupyterhub-session-id")
        assert (await seen(browser, other))["cookie"] == ""
        assert (await seen(browser, one))["cookie"] == "jupyterhub-session-id=a"


async def test_each_platform_has_a_token_of_its_own_in_the_cookie_that_scripts_read(
    doors: tuple[str, str],
) -> None:
    one, other = doors
    async with client() as browser:
        await seen(browser, one, set="_xsrf", value="token-of-one-")
        await seen(browser, other, short="_xsrf", value="token-of-other")
        (cookie,) = browser.cookies.jar
        assert cookie.name == "_xsrf" and cookie.value and cookie.expires is None
        for url, token in ((one, "token-of-one-"), (other, "token-of-other")):
            answer = await browser.get(
                f"{url}/f", params={"a": "1", "_xsrf": cookie.value}, headers={"X-XSRFToken": cookie.value}
            )
            assert answer.json() == {
                "cookie": f"_xsrf={token}",
                "token": token,
                "uri": f"/f?a=1&_xsrf={token}",
            }
        # What a page was given by its own server has no mark, and is its own.
        assert (await seen(browser, one, _xsrf="plain-token"))["uri"] == "/?_xsrf=plain-token"
        # A deletion would take the other's token too. What stays is the server's to judge: it belongs to a session.
        await seen(browser, one, delete="_xsrf")
        assert (await seen(browser, other))["cookie"] == "_xsrf=token-of-other"
        for count in range(9):
            await seen(browser, one, set="_xsrf", value=f"again-{count}")
        assert (await seen(browser, other))["cookie"] == "_xsrf=token-of-other"


async def test_cookies_from_before_and_of_applications_stay_as_they_are(doors: tuple[str, str]) -> None:
    one, _ = doors
    async with client() as browser:
        given = "jupyterhub-hub-login=old; _xsrf=old-token; open=1; flag"
        answer = await browser.get(one, headers={"Cookie": given})
        assert answer.json()["cookie"] == given
        await seen(browser, one, set="open", value="2")
        assert browser.cookies["open"] == "2"
    async with client() as browser:
        browser.cookies.set("jupyterhub-hub-login", "old", domain="127.0.0.1")
        await seen(browser, one, set="jupyterhub-hub-login", value="new")
        assert (await seen(browser, one))["cookie"] == "jupyterhub-hub-login=new"
        await seen(browser, one, delete="jupyterhub-hub-login")
        assert (await seen(browser, one))["cookie"] == ""


def test_the_mark_is_of_the_platforms_secret() -> None:
    marks = {cookie_mark(Secret(word)) for word in ("a" * 64, "b" * 64)}
    assert len(marks) == 2 and all(len(mark) == 8 and set(mark) <= set("0123456789abcdef") for mark in marks)


@pytest.mark.parametrize(
    ("sent", "moved"),
    [
        ({"Host": "localhost:{port}"}, True),
        ({"Host": "LocalHost:{port}"}, True),
        ({"Host": "[::1]:{port}"}, True),
        ({"Host": "machine.example.org"}, True),
        ({"Host": "127.0.0.1:{port}"}, False),
        ({"Host": "localhost:{port}", "Sec-Fetch-Mode": "cors"}, False),
        ({"Host": "localhost:{port}", "Accept": "application/json", "Sec-Fetch-Mode": ""}, False),
        ({"Host": "localhost:{port}", "Sec-Fetch-Mode": ""}, True),
        ({"Host": "localhost:{port}", "X-Forwarded-For": "203.0.113.7"}, False),
        ({"Host": "localhost:{port}", "Forwarded": "for=203.0.113.7"}, False),
        ({"Host": "localhost:{port}", "Via": "1.1 proxy"}, False),
    ],
)
async def test_a_page_under_another_name_moves_to_the_platforms_address(
    sent: dict[str, str], moved: bool, program: list[str], places: Places
) -> None:
    port = free_port()
    own = f"http://127.0.0.1:{port}"
    headers = {name: value.format(port=port) for name, value in (PAGE | sent).items() if value}
    server = HTTPServer(Application([("/.*", Hub)]))
    behind = free_port()
    server.listen(behind, "127.0.0.1")
    try:
        door = FrontDoor("127.0.0.1", port, public_origin=own)
        async with open_door(door, program, places, f"http://127.0.0.1:{behind}"), client() as one:
            for path in ("/hub/login?next=%2Fhub%2Fspawn", "//evil.example.org/", "/\\evil", "/"):
                answer = await one.get(own, headers=headers, extensions={"target": path.encode()})
                assert answer.status_code == (302 if moved else 200), answer.text
                if moved:
                    assert answer.headers["location"] == own + path
            for method in ("POST", "PUT", "DELETE"):
                answer = await one.request(method, f"{own}/hub/login", headers=headers)
                assert answer.status_code == 405
    finally:
        server.stop()
        await server.close_all_connections()


@pytest.mark.parametrize(
    ("public", "trusted", "peer", "port", "moved"),
    [
        # Served by a reverse proxy, which may send its own name for us: nobody is sent round in a circle.
        ("https://hub.example.org", "", "127.0.0.1", 8000, False),
        ("https://hub.example.org", "10.0.0.9", "10.0.0.9", 8000, False),
        ("http://hub.example.org", "", "127.0.0.1", 8000, False),
        # Whoever does not come from the reverse proxy that is known came past it.
        ("https://hub.example.org", "10.0.0.9", "127.0.0.1", 8000, True),
        ("http://hub.example.org", "", "192.0.2.1", 80, True),
    ],
)
def test_nobody_is_sent_round_behind_a_reverse_proxy(
    public: str, trusted: str, peer: str, port: int, moved: bool, program: list[str]
) -> None:
    from tidehub.local.front import proxy

    script = f"""
    require({json.dumps(str(Path(proxy.__file__).with_name("front.cjs")))});
    const http = require("node:http");
    const server = http.createServer(() => console.log("served"));
    const response = {{ writeHead(code, headers) {{ console.log(code, headers.Location); return this; }}, end() {{}},
                       removeHeader() {{}}, setHeader() {{}} }};
    const headers = {{ host: "localhost:8000", accept: "text/html" }};
    const socket = {{ remoteAddress: {json.dumps(peer)}, localPort: {port}, server }};
    server.emit("request", {{ method: "GET", url: "/hub/", httpVersion: "1.1", socket, headers }}, response);
    """
    environment = {"TIDEHUB_PUBLIC": public, "TIDEHUB_TRUSTED_PROXIES": trusted}
    done = subprocess.run(
        [program[0], "-e", script], env=environment, capture_output=True, text=True, timeout=30
    )
    assert done.stdout.strip() == (f"302 {public}/hub/" if moved else "served"), done.stderr
