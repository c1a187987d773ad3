"""HTTP over unix sockets for the hub's own requests.

JupyterHub 5.5 speaks to the proxy's API and to notebook servers through tornado's `AsyncHTTPClient`, which knows
only TCP; configurable-http-proxy already understands `http+unix://` targets. A client class that knows the same
addresses lets both stay off TCP, where any local user could connect. (JupyterHub 6 has this built in.) It connects
as `system.unix_sockets` does, because the sockets lie in directories of users.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from tornado.httpclient import AsyncHTTPClient
from tornado.iostream import IOStream
from tornado.simple_httpclient import SimpleAsyncHTTPClient
from tornado.tcpclient import TCPClient

from tidehub import inside
from tidehub.system import unix_sockets

SCHEME = "http+unix"
_MARK = ".socket.invalid"  # RFC 6761: `.invalid` never resolves, so no real host can be meant
_BUSY_TRIES, _BUSY_PAUSE = 40, 0.05
"""How often, and seconds between, a socket is tried whose queue of connections is full."""


def socket_url(path: str, url_path: str = "") -> str:
    """The address of a server on the unix socket `path`, as proxy and hub write it.

    The path must be lower case: the hub lower-cases host names. Raises `ValueError` else.
    """
    if path != path.lower():
        raise ValueError(f"a socket path for the hub must be lower case: {path}")
    return f"{SCHEME}://{quote(path, safe='')}{url_path}"


def _host_for(path: str) -> str:
    return path.encode().hex() + _MARK


def _path_of(host: str) -> str | None:
    if not host.endswith(_MARK):
        return None
    return bytes.fromhex(host.removesuffix(_MARK)).decode()


async def connect(path: str) -> socket.socket:
    """A connected socket to whom `path` belongs; waits a moment where many connect. Raises `OSError`."""
    for _ in range(_BUSY_TRIES):
        try:
            return unix_sockets.connect(path)
        except BlockingIOError:
            await asyncio.sleep(_BUSY_PAUSE)
    return unix_sockets.connect(path)


async def connect_inside(path: str) -> socket.socket:
    """A connected socket to a part of ours; who may listen there is settled by the directory. Raises `OSError`."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.setblocking(False)
    try:
        for _ in range(_BUSY_TRIES):
            with contextlib.suppress(BlockingIOError):
                made.connect(path)
                return made
            await asyncio.sleep(_BUSY_PAUSE)
        made.connect(path)
    except BaseException:
        made.close()
        raise
    return made


class _Client(TCPClient):
    """Connects made-up `.invalid` hosts to their socket, the addresses of our own parts to theirs, and everything else
    as usual.
    """

    async def connect(self, host: str, port: int, *args: Any, **kwargs: Any) -> IOStream:
        path = _path_of(host)
        if path is None:
            ours = inside.socket_of(host, port)
            if ours is not None:
                return IOStream(await connect_inside(ours), max_buffer_size=kwargs.get("max_buffer_size"))
            return await super().connect(host, port, *args, **kwargs)
        return IOStream(await connect(path), max_buffer_size=kwargs.get("max_buffer_size"))


class UnixSocketHTTPClient(SimpleAsyncHTTPClient):
    """tornado's HTTP client, which also takes `http+unix://%2Fpath%2Fto%2Fsocket/...` addresses.

    `install` has a whole process use it.
    """

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        super().initialize(*args, **kwargs)
        self.tcp_client = _Client()

    def fetch_impl(self, request: Any, callback: Any) -> None:
        parts = urlsplit(request.url)
        if parts.scheme == SCHEME:
            host = _host_for(unquote(parts.netloc))
            request.url = parts._replace(scheme="http", netloc=host).geturl()
            request.headers.setdefault("Host", "localhost")
        super().fetch_impl(request, callback)


def install() -> None:
    """Have this process use it wherever it asks for an `AsyncHTTPClient`."""
    # It would take pycurl when it is there, which knows no unix sockets.
    sys.modules.setdefault("pycurl", None)  # type: ignore[arg-type]
    AsyncHTTPClient.configure(UnixSocketHTTPClient)
    # What configures tornado's own client by `None` (jupyterhub-idle-culler 1.4) gets this one too.
    AsyncHTTPClient.configurable_default = classmethod(  # type: ignore[method-assign, assignment]
        lambda cls: UnixSocketHTTPClient
    )


__all__ = ["SCHEME", "UnixSocketHTTPClient", "connect", "install", "socket_url"]
