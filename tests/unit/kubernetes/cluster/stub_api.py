"""An API server in miniature, over real HTTP and websockets on loopback: it answers as a test tells it."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tornado.httpserver
import tornado.iostream
import tornado.netutil
import tornado.web
import tornado.websocket

from tidehub.kubernetes.cluster.connection import Connection, connect

Script = Callable[["Request"], Any]
CUT = object()
"""A script's item that cuts the connection."""


@dataclass
class Request:
    """What was asked."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any
    count: int
    """How often this method and path were asked before."""


@dataclass
class Reply:
    """What is answered; `parts` one after the other, each as soon as it is there."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    parts: list[Any] | None = None
    pause: float = 0.0


class StubApi:
    """Serves `script(request) -> Reply`; what it does not answer (None) is discovery of core kinds, or 404."""

    def __init__(
        self, script: Script, talk: Callable[[Any, list[bytes]], Any] | None = None, protocols: Any = ()
    ) -> None:
        self.requests: list[Request] = []
        self.script, self.talk, self.protocols = script, talk, list(protocols)
        self.commands: list[list[str]] = []
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    def connect(self, folder: Path, *, seconds: float = 5, user: dict[str, Any] | None = None) -> Connection:
        """A connection to it."""
        return connect(str(self.kubeconfig(folder, user)), seconds=seconds)

    def kubeconfig(self, folder: Path, user: dict[str, Any] | None = None) -> Path:
        """A kubeconfig for it."""
        document = {
            "current-context": "stub",
            "contexts": [{"name": "stub", "context": {"cluster": "stub", "user": "me"}}],
            "clusters": [{"name": "stub", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "me", "user": user or {"token": "a-token"}}],
        }
        path = folder / "kubeconfig"
        path.write_text(json.dumps(document))
        return path

    def asked(self, method: str, path: str) -> int:
        """How often."""
        return sum(1 for one in self.requests if (one.method, one.path) == (method, path))

    def stop(self) -> None:
        """Ends it."""
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(timeout=10)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        sockets = tornado.netutil.bind_sockets(0, "127.0.0.1", family=socket.AF_INET)
        self.port = sockets[0].getsockname()[1]
        handlers = [(r".*/exec", _Exec, {"api": self}), (r".*", _Plain, {"api": self})]
        server = tornado.httpserver.HTTPServer(tornado.web.Application(handlers))  # type: ignore[arg-type]
        server.add_sockets(sockets)
        self._ready.set()
        await self._ended.wait()
        server.stop()
        await server.close_all_connections()


class _Plain(tornado.web.RequestHandler):
    def initialize(self, api: StubApi) -> None:
        self.api = api

    async def get(self) -> None:
        await self._answer()

    async def post(self) -> None:
        await self._answer()

    async def put(self) -> None:
        await self._answer()

    async def patch(self) -> None:
        await self._answer()

    async def delete(self) -> None:
        await self._answer()

    async def _answer(self) -> None:
        method, path = str(self.request.method), self.request.path
        request = Request(
            method,
            path,
            {name: self.get_query_argument(name) for name in self.request.query_arguments},
            dict(self.request.headers),
            json.loads(self.request.body) if self.request.body else None,
            self.api.asked(method, path),
        )
        self.api.requests.append(request)
        reply = self.api.script(request) or _usual(request)
        if reply is CUT:
            self._cut()
            return
        self.set_status(reply.status)
        for name, value in reply.headers.items():
            self.set_header(name, value)
        if reply.parts is None:
            self.set_header("Content-Type", "application/json")
            self.finish(reply.body if isinstance(reply.body, str | bytes) else json.dumps(reply.body))
            return
        for part in reply.parts:
            if part is CUT:
                self._cut()
                return
            self.write(part if isinstance(part, bytes) else json.dumps(part) + "\n")
            await self.flush()
            await asyncio.sleep(reply.pause)
        self.finish()

    def _cut(self) -> None:
        connection = self.request.connection
        assert connection is not None
        connection.stream.close()  # type: ignore[attr-defined]
        self._finished = True

    def on_finish(self) -> None:
        return

    def log_exception(self, *_: Any) -> None:
        return


class _Exec(tornado.websocket.WebSocketHandler):
    def initialize(self, api: StubApi) -> None:
        self.api, self.got = api, list[bytes]()

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return next((one for one in self.api.protocols if one in subprotocols), None)

    def open(self, *_: Any) -> None:
        self.api.commands.append(self.get_query_arguments("command"))
        if self.api.talk is not None:
            self.api.talk(self, self.got)

    def on_message(self, message: str | bytes) -> None:
        self.got.append(message if isinstance(message, bytes) else message.encode())
        if self.api.talk is not None:
            self.api.talk(self, self.got)


def _usual(request: Request) -> Reply:
    if request.path == "/version":
        return Reply(body={"gitVersion": "v1.34.4"})
    if request.path == "/api/v1":
        kinds = [("configmaps", "ConfigMap"), ("pods", "Pod"), ("secrets", "Secret")]
        resources = [
            {"name": name, "kind": kind, "namespaced": True, "verbs": ["get"]} for name, kind in kinds
        ]
        return Reply(body={"kind": "APIResourceList", "resources": resources})
    return Reply(404, refusal(404, "NotFound", "not found"))


def refusal(
    code: int, reason: str, message: str, causes: list[dict[str, str]] | None = None
) -> dict[str, Any]:
    """A Status object."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
        "details": {"causes": causes or []},
    }
