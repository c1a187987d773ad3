"""The provider as a process: socket, signals, log."""

from __future__ import annotations

import asyncio
import errno
import logging
import re
import signal
import socket
import sys
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.ioloop import PeriodicCallback
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from tidehub.errors import TidehubError
from tidehub.identity.config import IdentityConfig
from tidehub.identity.handlers import browser, programs
from tidehub.identity.provider import Provider
from tidehub.listening import IDLE, inherited, inside_name

log = logging.getLogger("tidehub.identity")

_PURGE_EVERY_MS = 600_000
_LARGEST_REQUEST = 64 * 1024
_PATIENCE = 5.0


def make_app(provider: Provider) -> Application:
    """The application below the issuer's path. The proxy in front hands on whole paths."""
    endpoints: dict[str, type[RequestHandler]] = {
        "/?": browser.AccountPage,
        r"/\.well-known/openid-configuration": programs.Discovery,
        "/jwks": programs.Jwks,
        "/authorize": browser.Authorize,
        "/login": browser.Login,
        "/logout": browser.Logout,
        "/token": programs.Token,
        "/userinfo": programs.UserInfo,
        "/health": programs.Health,
        r"/static/style\.css": programs.Style,
    }
    arguments: dict[str, Any] = {"provider": provider}
    return Application(
        [
            (f"{re.escape(provider.config.prefix)}{path}$", handler, arguments)
            for path, handler in endpoints.items()
        ],
        default_handler_class=programs.Missing,
        default_handler_args=arguments,
        log_function=_log_request,
    )


async def serve(config: IdentityConfig) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is under way. Raises `TidehubError`."""
    sockets = _bind(config)
    provider = Provider(config)
    provider.purge()
    server = HTTPServer(
        make_app(provider),
        max_body_size=_LARGEST_REQUEST,
        max_header_size=_LARGEST_REQUEST,
        idle_connection_timeout=IDLE,
    )
    server.add_sockets(sockets)
    purging = PeriodicCallback(provider.purge, _PURGE_EVERY_MS)
    purging.start()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    log.info("serving %s on %s port %d", config.issuer, config.listen.host, config.listen.port)
    await stop.wait()
    purging.stop()
    server.stop()
    # Not `wait_for`: a connection takes one cancellation as its own, and the next is waited for without end.
    closing = asyncio.ensure_future(server.close_all_connections())
    if (await asyncio.wait([closing], timeout=_PATIENCE))[1]:
        log.warning("some connections did not end in time")
    provider.close()
    log.info("stopped")


def set_up_logging(level: str) -> None:
    """Log to standard error, where the supervisor collects it."""
    # Its DEBUG lines hold codes and tokens.
    logging.getLogger("oauthlib").setLevel(logging.WARNING)
    logging.basicConfig(
        stream=sys.stderr, level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )


def _bind(config: IdentityConfig) -> list[socket.socket]:
    held = inherited("identity")
    if held is not None:
        inside = inherited(inside_name("identity"))
        return [held] if inside is None else [held, inside]
    host, port = config.listen.host, config.listen.port
    try:
        return bind_sockets(port, host.strip("[]"))
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        raise TidehubError(
            f"The identity provider cannot listen on {host} port {port}: "
            + ("another program does." if taken else f"{error.strerror}."),
            fix="choose another listen.port" if taken else "choose another listen.host or listen.port",
        ) from None


def _log_request(handler: RequestHandler) -> None:
    """One line a request. Never the query: it holds codes, states and hints."""
    status = handler.get_status()
    path = handler.request.path
    quiet = status < 400 and (path.endswith("/health") or "/static/" in path)
    level = logging.DEBUG if quiet else logging.INFO if status < 500 else logging.ERROR
    milliseconds = 1000 * handler.request.request_time()
    log.log(level, "%s %s %d %.1f ms", handler.request.method, path[:200], status, milliseconds)
