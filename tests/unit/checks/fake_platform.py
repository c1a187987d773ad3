"""A platform that answers as a hub, an identity provider and a notebook server do, with faults on request.

Only for the words of a check's report: the real platform is checked in `tests/real`.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler

PASSWORD = "correct horse"


@dataclass
class FakePlatform:
    """What goes wrong, and what was asked of it."""

    address: str = ""
    profiles: tuple[str, ...] = ("main", "develop")
    selected: tuple[str, ...] = ("main",)
    refuse: str = ""
    busy: tuple[str, ...] = ()
    events: list[dict[str, Any]] = field(
        default_factory=lambda: [{"progress": 100, "ready": True, "message": "ready"}]
    )
    hang_progress: bool = False
    lab: str = '<title>JupyterLab</title><script id="jupyter-config-data"></script>'
    cell_error: tuple[str, str] | None = None
    kernel_dies: bool = False
    dashboard_for_all: bool = False
    signed_in: str = ""
    running: bool = False
    asked: list[str] = field(default_factory=list)
    cells: list[str] = field(default_factory=list)


class _Handler(RequestHandler):
    fake: FakePlatform

    def initialize(self, fake: FakePlatform) -> None:
        self.fake = fake

    def prepare(self) -> None:
        self.fake.asked.append(f"{self.request.method} {self.request.path}")

    def user(self) -> str:
        return self.get_cookie("session", "") or ""


class Api(_Handler):
    def get(self) -> None:
        self.write({"version": "5.5.4"})


class Login(_Handler):
    def get(self) -> None:
        self.write('<a class="btn" href="/x/hub/oauth_login?next=">Sign in</a>')


class ToProvider(_Handler):
    def get(self) -> None:
        self.redirect("/x/services/identity/login")


class Provider(_Handler):
    def get(self, alert: str = "") -> None:
        said = f'<p role="alert">{alert}</p>' if alert else ""
        self.write(
            f'{said}<form method="post" action="login"><input type="hidden" name="csrf" value="c1">'
            '<input name="username"><input type="password" name="password"></form>'
        )

    def post(self) -> None:
        assert self.get_argument("csrf") == "c1"
        if self.get_argument("password") != PASSWORD:
            self.set_status(401)
            self.get("The name or the password is wrong.")
            return
        self.redirect(f"/x/hub/oauth_callback?who={self.get_argument('username')}")


class Callback(_Handler):
    def get(self) -> None:
        if self.fake.refuse:
            self.set_status(403)
            self.write(f'<div class="error"><h1>no entry</h1><p>{self.fake.refuse}</p></div>')
            return
        self.set_cookie("session", self.get_argument("who"))
        self.redirect("/x/hub/home")


class Home(_Handler):
    def get(self) -> None:
        self.write("home")


class Logout(_Handler):
    def get(self) -> None:
        self.clear_cookie("session")
        self.redirect("/x/hub/login")


class Who(_Handler):
    def get(self) -> None:
        name = self.user()
        if not name:
            self.set_status(403)
            self.write({"message": "no"})
            return
        running = name in self.fake.busy or self.fake.running
        self.write({"name": name, "kind": "user", "server": "/x/user/" if running else None, "pending": None})


class Spawn(_Handler):
    def get(self) -> None:
        radios = "".join(
            f'<input type="radio" name="profile" value="{slug}"{" checked" if slug in self.fake.selected else ""}>'
            for slug in self.fake.profiles
        )
        self.write(f'<form enctype="multipart/form-data" method="post" action="/x/hub/spawn">{radios}</form>')

    def post(self) -> None:
        assert self.get_argument("profile") in self.fake.profiles
        self.fake.running = True
        self.redirect("/x/hub/home")


class Progress(_Handler):
    async def get(self, name: str) -> None:
        self.set_header("Content-Type", "text/event-stream")
        for event in self.fake.events:
            self.write(f"data: {json.dumps(event)}\n\n")
            await self.flush()
        if self.fake.hang_progress:
            await asyncio.Event().wait()


class Server(_Handler):
    def delete(self, name: str) -> None:
        self.fake.running = False
        self.set_status(204)


class Lab(_Handler):
    def get(self, name: str) -> None:
        self.write(self.fake.lab)


class Kernels(_Handler):
    def post(self, name: str) -> None:
        self.set_status(201)
        self.write({"id": "k1"})


class Kernel(_Handler):
    def delete(self, name: str) -> None:
        self.set_status(204)


class Channels(WebSocketHandler):
    def initialize(self, fake: FakePlatform) -> None:
        self.fake = fake

    def on_message(self, message: str | bytes) -> None:
        request = json.loads(message)
        code = request["content"]["code"]
        self.fake.cells.append(code)
        if self.fake.kernel_dies:
            self._say(request, "stream", {"name": "stderr", "text": "The kernel was stopped for memory.\n"})
            self._say({"header": {}}, "status", {"execution_state": "restarting"})
            return
        if self.fake.cell_error and "GatewayCluster()" in code:
            name, value = self.fake.cell_error
            self._say(request, "error", {"ename": name, "evalue": value, "traceback": []})
        else:
            result = {
                "sum": 332833500, "python": "3.11", "name": "c1", "dashboard": "/x/clusters/c1/status",
                "processes": 2, "gone": True,
            }  # fmt: skip
            self._say(request, "stream", {"name": "stdout", "text": json.dumps(result) + "\n"})
        self._say(request, "execute_reply", {"status": "ok"})
        self._say(request, "status", {"execution_state": "idle"})

    def _say(self, request: dict[str, Any], kind: str, content: dict[str, Any]) -> None:
        self.write_message(
            json.dumps({"header": {"msg_type": kind}, "parent_header": request["header"], "content": content})
        )


class Dashboard(_Handler):
    def get(self) -> None:
        if self.user() or self.fake.dashboard_for_all:
            self.write("<script src='bokeh.min.js'></script>")
        else:
            self.redirect("/x/hub/login")


@asynccontextmanager
async def serve(fake: FakePlatform) -> Any:
    """Serves `fake` on a free loopback port."""
    given = {"fake": fake}
    routes = [
        (r"/x/hub/api/", Api), (r"/x/hub/login", Login), (r"/x/hub/oauth_login", ToProvider),
        (r"/x/services/identity/login", Provider), (r"/x/hub/oauth_callback", Callback), (r"/x/hub/home", Home),
        (r"/x/hub/logout", Logout), (r"/x/hub/api/user", Who), (r"/x/hub/spawn", Spawn),
        (r"/x/hub/api/users/(\w+)/server/progress", Progress), (r"/x/hub/api/users/(\w+)/server", Server),
        (r"/x/user/(\w+)/lab", Lab), (r"/x/user/(\w+)/api/status", Lab), (r"/x/user/(\w+)/api/kernels", Kernels),
        (r"/x/user/(\w+)/api/kernels/k1", Kernel), (r"/x/user/\w+/api/kernels/k1/channels", Channels),
        (r"/x/clusters/c1/status", Dashboard),
    ]  # fmt: skip
    [socket] = bind_sockets(0, "127.0.0.1")
    server = HTTPServer(Application([(path, handler, given) for path, handler in routes]))
    server.add_sockets([socket])
    fake.address = f"http://127.0.0.1:{socket.getsockname()[1]}/x/"
    try:
        yield fake
    finally:
        server.stop()
        await server.close_all_connections()
