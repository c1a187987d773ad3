"""What preflight asks outside of the cluster, over real HTTP on loopback: a container registry and a provider."""

from __future__ import annotations

import hashlib
import io
import json
import secrets
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tidehub.kubernetes.preflight.edges.network import Network, NoAnswer

Answer = tuple[int, Mapping[str, str], bytes]
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"


class LoopbackServer:
    """HTTP on a free loopback port; `answer(path, query, headers)` says what. `clock` shifts its Date, in seconds."""

    def __init__(self, answer: Callable[[str, Mapping[str, list[str]], Any], Answer]) -> None:
        self.clock = 0.0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                status, headers, body = answer(parts.path, parse_qs(parts.query), self.headers)
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def date_time_string(self, timestamp: float | None = None) -> str:
                import time

                return formatdate(time.time() + outer.clock, usegmt=True)

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def host(self) -> str:
        """`127.0.0.1:PORT`."""
        return f"127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        """Ends it."""
        self._server.shutdown()
        self._server.server_close()


@dataclass
class LocalRegistry:
    """Images behind the token flow of real registries: nothing is shown without a token for that very image."""

    private: set[str] = field(default_factory=set)
    """Names that anonymous users get no token for."""
    _manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    _blobs: dict[str, bytes] = field(default_factory=dict)
    _tokens: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._server = LoopbackServer(self._answer)
        self.host = self._server.host
        self.stop = self._server.stop

    def add(
        self,
        name: str,
        *,
        installed: Mapping[str, str] | None = None,
        architectures: tuple[str, ...] = ("amd64",),
        declared: Mapping[str, Any] | None = None,
        padding: int = 0,
    ) -> str:
        """Publishes `NAME:TAG`; `installed` are packages with files in a layer, `padding` bytes make it large."""
        repository, _, tag = name.partition(":")
        entries = []
        for architecture in architectures:
            layer = self._blob(_layer(installed or {}), "application/vnd.oci.image.layer.v1.tar+gzip")
            layer["size"] += padding
            config = {"architecture": architecture, "os": "linux", **(declared or {})}
            manifest = {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": self._blob(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
                "layers": [layer],
            }
            body = json.dumps(manifest).encode()
            digest = _digest(body)
            self._manifests[(repository, digest)] = (_MANIFEST, body)
            platform = {"architecture": architecture, "os": "linux"}
            entries.append(
                {"digest": digest, "size": len(body), "mediaType": _MANIFEST, "platform": platform}
            )
        if len(entries) == 1:
            self._manifests[(repository, tag)] = self._manifests[(repository, entries[0]["digest"])]
        else:
            index = json.dumps({"schemaVersion": 2, "mediaType": _INDEX, "manifests": entries}).encode()
            self._manifests[(repository, tag)] = (_INDEX, index)
        return f"{self.host}/{name}"

    def _blob(self, data: bytes, kind: str) -> dict[str, Any]:
        self._blobs[_digest(data)] = data
        return {"digest": _digest(data), "size": len(data), "mediaType": kind}

    def _answer(self, path: str, query: Mapping[str, list[str]], headers: Any) -> Answer:
        self.asked.append(path)
        if path == "/token":
            return self._token(query["scope"][0])
        name, kind, reference = path.removeprefix("/v2/").rsplit("/", 2)
        if headers.get("Authorization") != f"Bearer {self._tokens.get(name)}":
            realm = f'Bearer realm="http://{self.host}/token",service="local",scope="repository:{name}:pull"'
            return 401, {"WWW-Authenticate": realm}, _error("UNAUTHORIZED", "authentication required")
        if kind == "manifests" and (name, reference) in self._manifests:
            media, body = self._manifests[(name, reference)]
            return 200, {"Content-Type": media, "Docker-Content-Digest": _digest(body)}, body
        if kind == "blobs" and reference in self._blobs:
            return 200, {}, self._blobs[reference]
        return 404, {}, _error("MANIFEST_UNKNOWN", "manifest unknown")

    def _token(self, scope: str) -> Answer:
        name = scope.split(":")[1]
        if name in self.private:
            return 401, {}, _error("UNAUTHORIZED", "not for you")
        self._tokens[name] = secrets.token_urlsafe(16)
        return 200, {}, json.dumps({"token": self._tokens[name]}).encode()


@dataclass
class LocalProvider:
    """An OpenID Connect provider, as far as it is asked before anybody signs in."""

    issuer: str = "https://login.example.org"
    clients: dict[str, str] = field(
        default_factory=lambda: {"hub": "https://hub.example.org/hub/oauth_callback"}
    )
    changes: dict[str, Any] = field(default_factory=dict)
    """Fields of the discovery document that are other ones."""
    status: int = 200

    def __post_init__(self) -> None:
        self.server = LoopbackServer(self._answer)
        self.host = self.server.host
        self.stop = self.server.stop

    def _answer(self, path: str, query: Mapping[str, list[str]], headers: Any) -> Answer:
        if path == "/.well-known/openid-configuration":
            document = {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "userinfo_endpoint": f"{self.issuer}/userinfo",
                "jwks_uri": f"{self.issuer}/jwks",
            } | self.changes
            return self.status, {}, json.dumps(document).encode()
        if path == "/authorize":
            known = self.clients.get(query["client_id"][0])
            if known is None:
                return 400, {}, b"<html>Client not found.</html>"
            if known != query["redirect_uri"][0]:
                return 400, {}, b"<html>Invalid parameter: redirect_uri</html>"
            return 200, {}, b"<html>Sign in</html>"
        return 404, {}, b""


class LoopbackNetwork(Network):
    """The real thing, whose public addresses lead to loopback servers; nothing else is reached."""

    def __init__(self, routes: Mapping[str, str], names: Mapping[str, tuple[str, ...]]) -> None:
        super().__init__(names=names, seconds=5)
        self.routes = dict(routes)
        self.ahead = 0.0

    @contextmanager
    def open(
        self, url: str, headers: Mapping[str, str] | None = None, *, follow: bool = True
    ) -> Iterator[Any]:
        for public, local in self.routes.items():
            if url.startswith(public):
                url = local + url.removeprefix(public)
        if urlsplit(url).hostname != "127.0.0.1":
            raise NoAnswer(f"{urlsplit(url).hostname} was not reached: the network of this test ends here")
        with super().open(url, headers, follow=follow) as response:
            yield response

    def addresses(self, name: str) -> tuple[str, ...]:
        return self._names.get(name, ())

    def now(self) -> float:
        return super().now() + self.ahead


def _layer(installed: Mapping[str, str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, version in installed.items():
            path = f"opt/conda/lib/python3.12/site-packages/{name.replace('-', '_')}-{version}.dist-info/METADATA"
            data = f"Name: {name}\nVersion: {version}\n".encode()
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _error(code: str, message: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()
