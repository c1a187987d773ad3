"""Dashboards open for the owner of the cluster only: by link, by WebSocket, and through the lab extension."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import aiohttp
import httpx
import pytest
from gateway_platform import Platform, free_ports, wait_for
from lab_panel import clusters_made_elsewhere, find_reply, plots_of

from tidehub.gateway.dashboards.serving import LAST_WORDS
from tidehub.local.isolation import choose_isolation

pytestmark = pytest.mark.real

HOLD = """
import sys
from dask_gateway import GatewayCluster
cluster = GatewayCluster()
cluster.scale(1)
client = cluster.get_client()
client.wait_for_workers(1, timeout=90)
info = client.scheduler_info()
worker = next(iter(info["workers"].values()))
print("LINK", cluster.dashboard_link, info["services"]["dashboard"], worker["services"]["dashboard"], flush=True)
sys.stdin.read()
client.close(); cluster.close()
"""


class Held:
    """A cluster of alice, held by a notebook of hers."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.process = platform.notebook_process(HOLD, "alice")
        words: list[str] = []
        assert self.process.stdout is not None
        for line in self.process.stdout:
            words = line.split()
            if words[:1] == ["LINK"]:
                break
        assert words[:1] == ["LINK"], platform.tails()
        self.link, self.scheduler_port, self.worker_port = words[1], int(words[2]), int(words[3])
        self.name = self.link.split("/clusters/")[1].split("/")[0]

    @property
    def url(self) -> str:
        return f"{self.platform.public}{self.link}"

    def end(self) -> None:
        try:
            self.process.communicate("", timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    running = Platform(base="/hubs/sea/")
    try:
        yield running.start()
    finally:
        running.stop()


@pytest.fixture(scope="module")
def held(platform: Platform) -> Iterator[Held]:
    cluster = Held(platform)
    yield cluster
    cluster.end()


@contextmanager
def browser(platform: Platform, user: str) -> Iterator[httpx.Client]:
    """A browser in which `user` has logged in at the hub."""
    with httpx.Client(follow_redirects=True, timeout=30, headers={"Accept": "text/html,*/*"}) as client:
        page = client.get(f"{platform.public}{platform.base}hub/login")
        token = re.search(r'name="_xsrf" value="([^"]+)"', page.text)
        assert token, page.text
        form = {"username": user, "password": "x", "_xsrf": token.group(1)}
        answer = client.post(
            f"{platform.public}{platform.base}hub/login?next={platform.base}hub/home", data=form
        )
        assert answer.status_code == 200, answer.text
        yield client


def test_the_owner_sees_it_after_a_login_by_redirect(platform: Platform, held: Held) -> None:
    with browser(platform, "alice") as alice:
        page = alice.get(held.url)
        assert page.status_code == 200
        assert "bokeh" in page.text
        assert page.headers["Content-Security-Policy"] == "frame-ancestors 'self'"
        static = alice.get(f"{platform.public}{platform.prefix}/clusters/{held.name}/static/js/bokeh.min.js")
        assert static.status_code == 200
        assert len(static.content) > 100_000


def test_nobody_else_sees_it_and_reads_why(platform: Platform, held: Held) -> None:
    with browser(platform, "bob") as bob:
        page = bob.get(held.url)
        assert page.status_code == 403
        assert "belongs to another user" in page.text
        assert "<h1>" in page.text


def test_an_administrator_may_look(platform: Platform, held: Held) -> None:
    with browser(platform, "root-admin") as admin:
        assert admin.get(held.url).status_code == 200


def test_whoever_is_not_logged_in_is_sent_to_the_login(platform: Platform, held: Held) -> None:
    first = httpx.get(held.url)
    assert first.status_code == 302
    assert f"{platform.base}hub/api/oauth2/authorize" in first.headers["Location"]
    last = httpx.get(held.url, follow_redirects=True)
    assert "/hub/login" in str(last.url)


def test_a_script_without_login_gets_403_and_no_login_page(held: Held) -> None:
    answer = httpx.get(
        f"{held.url[: -len('status')]}individual-plots.json", headers={"Sec-Fetch-Mode": "cors"}
    )
    assert answer.status_code == 403


def test_another_users_page_may_not_open_it(platform: Platform, held: Held) -> None:
    with browser(platform, "alice") as alice:
        assert alice.get(held.url).status_code == 200
        mallory = {"Referer": f"{platform.public}{platform.base}user/mallory/lab"}
        assert alice.get(held.url, headers=mallory).status_code == 403
        own = {"Referer": f"{platform.public}{platform.base}user/alice/lab"}
        assert alice.get(held.url, headers=own).status_code == 200
        assert alice.get(held.url, headers={"Referer": "http://["}).status_code == 400


def test_another_users_page_may_not_open_it_by_saying_who_it_is_in_another_way(
    platform: Platform, held: Held
) -> None:
    """The proxy in front looks up decoded paths."""
    site = f"{platform.public}{platform.base}"
    with browser(platform, "alice") as alice:
        assert alice.get(held.url).status_code == 200
        for hidden in ("%75ser/mallory/lab", "user/%6dallory/lab", "user%2fmallory/lab", "user/alice%2f/x/"):
            expected = 200 if "alice" in hidden else 403
            assert alice.get(held.url, headers={"Referer": site + hidden}).status_code == expected, hidden


def test_a_token_serves_instead_of_a_cookie(platform: Platform, held: Held) -> None:
    for user, expected in (("alice", 200), ("bob", 403)):
        headers = {"Authorization": f"token {platform.token(user)}"}
        assert httpx.get(held.url, headers=headers, timeout=20).status_code == expected
    narrow = {"Authorization": f"token {platform.token('alice', ('read:users:name!user',))}"}
    assert httpx.get(held.url, headers=narrow, timeout=20).status_code == 403


def test_the_ports_themselves_are_closed(held: Held) -> None:
    for port in (held.scheduler_port, held.worker_port):
        for path in ("/status", "/metrics", "/sitemap.json", "/tidehub/notice", "/static/js/bokeh.min.js"):
            answer = httpx.get(f"http://127.0.0.1:{port}{path}")
            assert answer.status_code == 403, (port, path)


def test_the_gateways_proxy_alone_opens_nothing(platform: Platform, held: Held) -> None:
    answer = httpx.get(f"http://{platform.settings.proxy_address}{held.link}")
    assert answer.status_code == 403
    assert "only through the hub" in answer.text


def test_no_secret_of_the_browser_reaches_the_scheduler(platform: Platform, held: Held) -> None:
    """The scheduler is the user's own code: it must not learn an administrator's cookies."""
    code = """
from dask_gateway import Gateway
gateway = Gateway()
name = gateway.list_clusters()[0].name
cluster = gateway.connect(name)
client = cluster.get_client()
def spy(dask_scheduler):
    from tornado import web
    class Echo(web.RequestHandler):
        def get(self):
            self.set_cookie("planted", "1")
            self.write({k.lower(): v for k, v in self.request.headers.get_all()})
    dask_scheduler.http_application.add_handlers(".*$", [("/echo", Echo)])
client.run_on_scheduler(spy)
client.close(); cluster.close(); gateway.close()
"""
    platform.in_notebook(code, "alice")
    with browser(platform, "alice") as alice:
        alice.get(held.url)
        answer = alice.get(f"{platform.public}{platform.prefix}/clusters/{held.name}/echo")
        assert answer.status_code == 200, answer.text
        seen = answer.json()
        assert "cookie" not in seen
        assert "authorization" not in seen
        assert "set-cookie" not in answer.headers


def test_the_websocket_of_the_page_carries_the_document(platform: Platform, held: Held) -> None:
    asyncio.run(_pull_document(platform, held))


async def _pull_document(platform: Platform, held: Held) -> None:
    with browser(platform, "alice") as alice:
        page = alice.get(held.url)
        cookies = "; ".join(
            f"{c.name}={c.value}" for c in alice.cookies.jar if c.path != f"{platform.base}hub/"
        )
    token = re.search(r'"token":"([^"]+)"', page.text)
    assert token, page.text[:2000]
    url = f"{held.url}/ws".replace("http://", "ws://")
    offered = ("bokeh", token.group(1))
    async with aiohttp.ClientSession() as session:
        headers = {"Cookie": cookies, "Origin": platform.public, "Sec-Fetch-Mode": "websocket"}
        async with session.ws_connect(
            url, protocols=offered, headers=headers, compress=15, max_msg_size=0
        ) as socket:
            assert socket.protocol == "bokeh"
            header = {"msgid": "1", "msgtype": "PULL-DOC-REQ"}
            for part in (header, {}, {}):
                await socket.send_str(json.dumps(part))
            assert await find_reply(socket)
        for origin, cookie in ((platform.public, ""), ("http://elsewhere.example", cookies)):
            refused = {"Cookie": cookie, "Origin": origin}
            with pytest.raises(aiohttp.WSServerHandshakeError) as error:
                await session.ws_connect(url, protocols=offered, headers=refused)
            assert error.value.status == 403


def test_what_does_not_run_is_not_here(platform: Platform) -> None:
    with browser(platform, "alice") as alice:
        answer = alice.get(f"{platform.public}{platform.prefix}/clusters/0123456789abcdef/status")
        assert answer.status_code == 404
        assert "no such running cluster" in answer.text


def test_the_service_page_lists_ones_own_clusters(platform: Platform, held: Held) -> None:
    with browser(platform, "alice") as alice:
        page = alice.get(f"{platform.public}{platform.prefix}/")
        assert page.status_code == 200
        assert held.link in page.text
    with browser(platform, "bob") as bob:
        assert held.name not in bob.get(f"{platform.public}{platform.prefix}/").text


def test_the_lab_extension_manages_clusters(platform: Platform) -> None:
    """The server side of dask-labextension, in a jupyter server with what the spawner gives a notebook."""
    code = """
import asyncio, json
from dask_labextension import manager as m
async def main():
    model = await m.manager.start_cluster()
    print("MODEL", json.dumps(model))
    await m.manager.scale_cluster(model["id"], 1)
    for _ in range(300):
        if m.manager.get_cluster(model["id"])["workers"] == 1:
            break
        await asyncio.sleep(0.1)
    print("WORKERS", m.manager.get_cluster(model["id"])["workers"])
    await m.manager.close_cluster(model["id"])
    print("LEFT", len(m.manager.list_clusters()))
from tornado.ioloop import IOLoop
IOLoop.current().run_sync(main)
"""
    said = platform.in_notebook(code, "carol")
    model = json.loads(next(line for line in said.splitlines() if line.startswith("MODEL"))[6:])
    assert model["dashboard_link"].startswith(f"{platform.prefix}/clusters/")
    assert "WORKERS 1" in said
    assert "LEFT 0" in said


def test_plots_open_inside_jupyterlab(platform: Platform, held: Held) -> None:
    """A jupyter server with our extension shows plots of a cluster started in the sidebar, and checks pasted links."""
    import tidehub.local

    side = Path(tidehub.local.__file__).with_name("notebook_side")
    port = free_ports(1)[0]
    env = {**platform.client_env("dave"), "PYTHONPATH": str(side), "JUPYTER_TOKEN": "lab-token"}
    home = Path(env["HOME"])
    home.mkdir(parents=True, exist_ok=True)
    argv = [
        *(f"{platform.notebook}/bin/python", "-m", "jupyter_server", "--no-browser", "--allow-root"),
        *(f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--ServerApp.base_url=/user/dave/"),
        "--ServerApp.jpserver_extensions=dask_dashboards=True",
    ]
    with (platform.root / "lab.log").open("wb") as log:
        server = subprocess.Popen(argv, env=env, cwd=home, stdout=log, stderr=log)
    base = f"http://127.0.0.1:{port}/user/dave"
    lab = httpx.Client(headers={"Authorization": "token lab-token"}, timeout=60)
    try:
        wait_for("jupyter server", lambda: _status(lab, f"{base}/api/status") == 200, 60)
        made = lab.put(f"{base}/dask/clusters/")
        assert made.status_code == 200, made.text + platform.tails()
        model = made.json()
        plots = plots_of(lab, f"{base}/dask/dashboard/{model['id']}")
        link = f"{platform.public}{model['dashboard_link']}"
        for shown, active in ((model["dashboard_link"], True), (link, False)):
            # The page's host is the server's own here, so a link with the hub's host is somebody else's.
            answer = lab.get(f"{base}/dask/dashboard-check/{quote(shown, safe='')}")
            assert answer.json()["isActive"] is active, answer.text
        # What the extension makes of a bare path: one below the notebook server.
        below = base + model["dashboard_link"].removesuffix("/status")
        assert plots_of(lab, below) == plots
        assert lab.post(f"{below}/individual-plots.json").status_code in (403, 405)
        assert httpx.get(f"{below}/individual-plots.json").status_code in (302, 403), "only with a login"
        other = base + held.link.removesuffix("/status")
        assert lab.get(f"{other}/individual-plots.json").status_code == 403, "the cluster of alice"
        assert lab.delete(f"{base}/dask/clusters/{model['id']}").status_code == 204
        clusters_made_elsewhere(lab, base, lambda code: platform.in_notebook(code, "dave"))
    finally:
        lab.close()
        server.terminate()
        server.wait(20)


def _status(client: httpx.Client, url: str) -> int:
    try:
        return client.get(url).status_code
    except httpx.HTTPError:
        return 0


def test_the_gate_ends_at_once_whatever_it_waits_for(platform: Platform, held: Held) -> None:
    """An open plot whose scheduler does not answer, a request that the hub does not answer, and a body on its way."""

    async def hold(cookies: str, token: str) -> float:
        headers = {"Cookie": cookies, "Origin": platform.public}
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{held.url}/ws", protocols=("bokeh", token), headers=headers, max_msg_size=0),
        ):
            stopped = [platform.processes["hub"].pid, *schedulers(platform)]
            host, _, port = platform.gate_address.rpartition(":")
            asking, too, sending = [await asyncio.open_connection(host, int(port)) for _ in range(3)]
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            try:
                path = f"{platform.prefix}/clusters/{held.name}/status"
                request = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: token new\r\n\r\n"
                for _, writer in (asking, too):
                    writer.write(request.encode())
                body = "Content-Type: application/json\r\nContent-Length: 10\r\n\r\n{"
                sending[1].write(
                    f"POST {platform.prefix}/api/v1/clusters/ HTTP/1.1\r\nHost: x\r\n{body}".encode()
                )
                await asyncio.sleep(0.5)
                gate, began = platform.processes["gate"], time.monotonic()
                gate.terminate()
                assert await asyncio.to_thread(gate.wait, 30) == 0, platform.log("gate")[-3000:]
                return time.monotonic() - began
            finally:
                for pid in stopped:
                    os.kill(pid, signal.SIGCONT)
                for _, writer in (asking, too, sending):
                    writer.close()

    with browser(platform, "alice") as alice:
        token = re.search(r'"token":"([^"]+)"', alice.get(held.url).text)
        assert token
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in alice.cookies.jar)
        took = asyncio.run(hold(cookies, token.group(1)))
    platform.run("gate")
    url = f"{platform.public}{platform.prefix}/health"
    wait_for("the gate", lambda: httpx.get(url).status_code == 200)
    assert took < LAST_WORDS + 3, f"it took {took:.1f} s"
    assert "Traceback" not in platform.log("gate"), platform.log("gate")[-3000:]


def test_a_dashboard_ends_with_its_cluster(platform: Platform) -> None:
    cluster = Held(platform)
    headers = {"Authorization": f"token {platform.token('alice')}"}
    assert httpx.get(cluster.url, headers=headers, timeout=20).status_code == 200
    cluster.end()
    wait_for("404", lambda: httpx.get(cluster.url, headers=headers, timeout=20).status_code == 404, 30)


def schedulers(platform: Platform) -> list[int]:
    """The processes of all clusters."""
    return [line.handle.pid for line in choose_isolation(platform.places).running("clusters")]
