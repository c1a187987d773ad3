"""Dashboards on Kubernetes open for their owners only: the gate that the hub runs, and a real gateway server.

What is behind the gate stands in for a scheduler's dashboard, and tells what reaches it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import cluster_programs
import httpx
import pytest
from gated_hub import ADMIN, HubAndProxy
from gateway_on_cluster import SITE, TOKEN, GatewayOnCluster
from identity_process import free_port
from tornado import httpserver, web, websocket
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tidehub.site.reading.load import load_text

VERSION = "2026.3.0"


class Behind:
    """A dashboard that answers with what it was asked, in a thread of its own."""

    def __init__(self) -> None:
        self.port = free_port()
        started = threading.Event()

        class Page(web.RequestHandler):
            def get(self) -> None:
                self.set_header("Set-Cookie", "stolen=1")
                self.finish(json.dumps({"path": self.request.uri, "headers": dict(self.request.headers)}))

        class Echo(websocket.WebSocketHandler):
            def on_message(self, message: str | bytes) -> None:
                self.write_message(message)

        async def serve() -> None:
            server = httpserver.HTTPServer(web.Application([(r".*/ws", Echo), (r"/.*", Page)]))
            server.listen(self.port, "127.0.0.1")
            started.set()
            await asyncio.Event().wait()

        threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
        started.wait(10)


class Gated:
    """The whole, with a running cluster of ann's."""

    def __init__(self, hub: HubAndProxy, server: GatewayOnCluster) -> None:
        self.hub, self.server = hub, server
        self.tokens = {name: hub.token(name) for name in ("ann", "bob")}
        status, said = self.asked("ann", "POST", "clusters/", {"cluster_options": {}})
        assert status == 201, (said, hub.said(), server.log())
        self.cluster = str(said["name"])
        server.api.wait(
            "the cluster runs",
            lambda: self.asked("ann", "GET", f"clusters/{self.cluster}")[1]["status"] == "RUNNING",
        )
        self.page = f"{hub.dask}clusters/{self.cluster}/status"

    def asked(self, name: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """As a laptop asks the gateway, through proxy and gate."""
        headers = {"Authorization": f"jupyterhub {self.tokens[name]}"}
        found = httpx.request(method, f"{self.hub.dask}api/v1/{path}", json=body, headers=headers, timeout=60)
        return found.status_code, found.json() if found.content else None


@pytest.fixture(scope="module")
def gated(cluster: Any, charts_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gated]:
    programs = cluster_programs.find()
    if programs is None:
        pytest.skip("needs the helm of the prepared test cluster")
    name, folder = f"test-{uuid.uuid4().hex[:8]}", tmp_path_factory.mktemp("gated")
    cluster.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    site = load_text(SITE.format(namespace=name, version=VERSION), "tidehub.yaml").site
    address = f"127.0.0.1:{free_port()}"
    hub = HubAndProxy(folder, site, TOKEN, f"http://{address}")
    behind = Behind()
    more = f"c.DaskGateway.address = {address!r}\nc.SiteBackend.dashboard_address = 'http://127.0.0.1:{behind.port}'\n"
    # Nobody here has a notebook server, for want of which a cluster is ended.
    more += "c.SiteBackend.reap_period = 3600\n"
    server = GatewayOnCluster(
        cluster,
        name,
        folder,
        helm=programs.helm(4),
        charts=charts_dir,
        version=VERSION,
        python=sys.executable,
        hub=hub,
        more=more,
    )
    server.address = address
    with server:
        hub.wait(f"{hub.dask}health")
        yield Gated(hub, server)
        print(server.log(), hub.said())
    cluster.api.delete("Namespace", name)


def test_nobody_sees_a_dashboard_without_signing_in(gated: Gated) -> None:
    answer = httpx.get(gated.page)
    assert answer.status_code == 302 and "/hub/api/oauth2/authorize" in answer.headers["Location"]
    assert httpx.get(gated.page, headers={"Sec-Fetch-Mode": "cors"}).status_code == 403
    assert httpx.get(gated.page, headers={"Authorization": "token 0123"}).status_code in (302, 403)


def test_the_owner_sees_it_and_it_sees_nothing_of_theirs(gated: Gated) -> None:
    with closing(gated.hub.browser("ann")) as ann:
        answer = ann.get(gated.page)
        assert answer.status_code == 200, answer.text
        seen = answer.json()
        assert seen["path"] == "/status"
        assert not {"cookie", "authorization"} & {name.lower() for name in seen["headers"]}
        assert "stolen" not in ann.cookies
        assert "frame-ancestors" in answer.headers["Content-Security-Policy"]
        cookies = "; ".join(f"{one.name}={one.value}" for one in ann.cookies.jar)
        with connect(
            gated.page.replace("http", "ws") + "/ws", additional_headers={"Cookie": cookies}
        ) as socket:
            socket.send("there and back")
            assert socket.recv(timeout=10) == "there and back"
    token = {"Authorization": f"token {gated.tokens['ann']}"}
    assert httpx.get(gated.page, headers=token).status_code == 200


def test_others_do_not_but_administrators_may(gated: Gated) -> None:
    with closing(gated.hub.browser("bob")) as bob:
        answer = bob.get(gated.page)
        assert answer.status_code == 403 and "belongs to another user" in answer.text
        cookies = "; ".join(f"{one.name}={one.value}" for one in bob.cookies.jar)
        with pytest.raises(InvalidStatus) as refused:
            connect(gated.page.replace("http", "ws") + "/ws", additional_headers={"Cookie": cookies})
        assert refused.value.response.status_code == 403
    assert httpx.get(gated.page, headers={"Authorization": f"token {gated.tokens['bob']}"}).status_code == 403
    with closing(gated.hub.browser(ADMIN)) as admin:
        assert admin.get(gated.page).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "clusters/%2e%2e/api/v1/clusters/",
        "clusters/{cluster}/../../api/v1/clusters/",
        "clusters//{cluster}/status",
        "clusters/{cluster}%2fstatus",
        "api/v1/clusters/{cluster}",
        "api/tidehub/v1/gate/clusters/{cluster}",
    ],
)
def test_no_way_round(gated: Gated, path: str) -> None:
    """Whatever the path is like, nobody who is not signed in is told anything of a cluster."""
    url = httpx.URL(gated.hub.dask + path.format(cluster=gated.cluster))
    answer = httpx.get(url)
    assert answer.status_code in (302, 400, 401, 403, 404), answer.text
    assert "127.0.0.1" not in answer.text and '"headers"' not in answer.text


def test_a_users_clusters_are_listed(gated: Gated) -> None:
    with closing(gated.hub.browser("ann")) as ann:
        page = ann.get(gated.hub.dask)
        assert page.status_code == 200 and f"clusters/{gated.cluster}/status" in page.text
    with closing(gated.hub.browser("bob")) as bob:
        assert gated.cluster not in bob.get(gated.hub.dask).text


def test_the_hub_starts_it_again(gated: Gated) -> None:
    os.kill(gated.hub.gate_process(), signal.SIGKILL)
    gated.hub.wait(f"{gated.hub.dask}health", seconds=30)


def test_an_ended_cluster_has_no_dashboard(gated: Gated) -> None:
    assert gated.asked("ann", "DELETE", f"clusters/{gated.cluster}")[0] == 204
    token = {"Authorization": f"token {gated.tokens['ann']}"}
    gated.server.api.wait(
        "the dashboard is gone", lambda: httpx.get(gated.page, headers=token).status_code == 404
    )
