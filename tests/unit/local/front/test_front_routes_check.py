"""The hub counts as ready when the proxy knows its routes."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_unix_socket
from tornado.web import Application, RequestHandler

from tidehub.local.front.routes import both, routes_check
from tidehub.local.secrets import Secret
from tidehub.local.supervisor.platform import Ready


class Routes(RequestHandler):
    def get(self) -> None:
        if self.request.headers.get("Authorization") != "token t":
            self.send_error(403)
            return
        self.write(json.dumps({"/x/": {}, "/x/services/identity": {}}))


@pytest.fixture
def api() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="th-", dir="/tmp"))
    yield directory / "api.sock"
    shutil.rmtree(directory)


async def test_routes_with_and_without_the_closing_slash_count(api: Path) -> None:
    server = HTTPServer(Application([("/api/routes", Routes)]))
    server.add_socket(bind_unix_socket(str(api)))
    try:
        assert (await routes_check(api, Secret("t"), ["/x/", "/x/services/identity/"])()).ok
        missing = await routes_check(api, Secret("t"), ["/x/", "/x/services/dask-gateway/"])()
        assert (missing.ok, "/x/services/dask-gateway/" in missing.why) == (False, True)
        assert not (await routes_check(api, Secret("wrong"), ["/x/"])()).ok
    finally:
        server.stop()


async def test_no_proxy_is_not_ready(api: Path) -> None:
    assert not (await routes_check(api, Secret("t"), [])()).ok


@pytest.mark.parametrize(
    ("first", "second", "ok"), [(True, True, True), (True, False, False), (False, True, False)]
)
async def test_both(first: bool, second: bool, ok: bool) -> None:
    async def one() -> Ready:
        return Ready(first)

    async def two() -> Ready:
        return Ready(second)

    assert (await both(one, two)()).ok is ok
