"""configurable-http-proxy as a part of the platform."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from types import MappingProxyType

from tidehub import inside as inside_table
from tidehub.errors import TidehubError, UsageError
from tidehub.local.addresses import FRONT
from tidehub.local.front.ports import reachable_host
from tidehub.local.front.tls import HAND_OVER_INTERVAL, HandOver, TlsFiles, check_tls
from tidehub.local.places import Places
from tidehub.local.secrets import Secret
from tidehub.local.service_files import write_for_part
from tidehub.local.supervisor.platform import Component, Hook, Probe, Ready, http_check
from tidehub.loopback import is_loopback
from tidehub.system import peers
from tidehub.system.files import (
    PASSABLE_DIRECTORY,
    PRIVATE_DIRECTORY,
    make_directory,
)

_EXTENSIONS = tuple(Path(__file__).with_name(name) for name in ("streams.cjs", "front.cjs", "cookies.cjs"))

_LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
AWAY_AFTER = 20.0
"""Seconds after which a page of the hub that has not begun is answered by `pages.away_page`. The hub itself takes up
to ten where it starts a server (JupyterHub's `slow_spawn_timeout`)."""
KEEP_ALIVE = 130.0
"""Seconds for which a client may keep a connection without a request, as the answers tell it. Whoever keeps one for
longer than we loses the request that it sends in the moment in which we close it, so: longer than reverse proxies do
(nginx 60 s, Traefik 90 s, Caddy 120 s) and Firefox (115 s)."""


@dataclass(frozen=True)
class FrontDoor:
    """Where users come in, as the site says it (`machine`)."""

    address: str
    port: int
    tls: TlsFiles | None = None
    trusted_proxies: tuple[str, ...] = ()
    """IP addresses or networks of the operator's own reverse proxies, whose forwarded headers are believed."""
    public_origin: str = ""
    """Scheme, host and port of the address that users know; who comes under another name is sent there."""

    @property
    def local_url(self) -> str:
        """How this machine itself reaches the front door; no slash at the end."""
        return f"{'https' if self.tls else 'http'}://{reachable_host(self.address)}:{self.port}"

    def check(self) -> list[str]:
        """Raise `UsageError` when this must not be; returns warnings. Whether the port is free, listening tells."""
        for trusted in self.trusted_proxies:
            try:
                ip_network(trusted, strict=False)
            except ValueError as error:
                raise UsageError(
                    f"machine.trusted_proxies: {trusted!r} is not an address",
                    expected="an IP address or a network such as 10.0.0.0/24",
                ) from error
        if self.tls is None and not self.trusted_proxies and not is_loopback(self.address):
            raise UsageError(
                f"the platform would serve plain HTTP on {self.address}: passwords and tokens could be read "
                "on the way",
                expected="TLS, or an address of this machine alone such as 127.0.0.1",
                fix="set machine.tls (certificate and key), or machine.trusted_proxies with the addresses of "
                "your own reverse proxy that speaks TLS, or machine.address: 127.0.0.1",
            )
        return [] if self.tls is None else check_tls(self.tls)

    def gaps(self, *, users_have_uids: bool) -> list[str]:
        """What cannot be told apart here, one line each. `users_have_uids`: users' programs have uids of their own."""
        here = [one for one in self.trusted_proxies if _is_of_loopback(one)]
        if users_have_uids or not here:
            return []
        line = (
            f"Users can invent the client's address and scheme that {', '.join(here)} (machine.trusted_proxies)"
            " forwards: their programs have this platform's own uid, which would tell them from a reverse proxy."
        )
        return [line]


def _is_of_loopback(network: str) -> bool:
    found = ip_network(network, strict=False)
    return any(found.version == one.version and found.overlaps(one) for one in _LOOPBACK)


def front_door(
    door: FrontDoor,
    *,
    program: Sequence[str],
    places: Places,
    listener: socket.socket,
    token: Secret,
    hub_target: str,
    hub_path: str,
    restore: Hook,
    inside: Mapping[str, Path] = MappingProxyType({}),
    sign_in: tuple[str, Secret] | None = None,
    cookie_mark: str = "",
    uid: int | None = None,
    gid: int | None = None,
    log_level: str = "info",
    tls_interval: float = HAND_OVER_INTERVAL,
    headers_timeout: float = 20.0,
    away_after: float = AWAY_AFTER,
    tell: Callable[[str], None] = lambda text: None,
) -> Component:
    """The part `proxy`.

    `program` is `Software.proxy()`: Node, then the script. `listener` listens on the door's address. `hub_target`
    is the hub's own address (`http://127.0.0.1:8081`), `hub_path` its path with the site's prefix (`/base/hub/`).
    `restore` is what `restore_routes` gives. `inside`: by `host:port`, the sockets of parts to connect to instead.
    `sign_in`: the path on which passwords are sent, and the word by which the identity provider knows that a request
    came through here. `cookie_mark`: see the function of that name; "" leaves cookies as they are. `uid` and `gid` in
    root mode only: the proxy must never run as root, because users own the directories in which it follows names of
    sockets. `tls_interval`: seconds between looks at the certificate. `headers_timeout`: seconds that a client may take
    to send a request's headers. `away_after`: seconds that the hub may take for the beginning of a page.
    """
    node, *script = program
    copies = TlsFiles(places.proxy_certificate, places.proxy_key)
    hand_over = None if door.tls is None else HandOver(door.tls, copies, gid=gid)
    loaded = [word for path in places.proxy_extensions for word in ("--require", str(path))]
    argv = [node, *loaded, *script]
    argv += ["--ip", door.address, "--port", str(door.port)]
    argv += ["--api-socket", str(places.proxy_api_socket), "--log-level", log_level]
    argv += ["--default-target", hub_target, "--error-target", f"{hub_target}{hub_path}error"]
    # The extension sets them, knowing whom to believe.
    argv += ["--no-x-forward"]
    argv += ["--keep-alive-timeout", str(int(KEEP_ALIVE * 1000))]
    if hand_over is not None:
        argv += ["--ssl-cert", str(hand_over.files.certificate), "--ssl-key", str(hand_over.files.key)]

    async def before_start() -> None:
        make_directory(places.proxy_run, PRIVATE_DIRECTORY, uid=uid, gid=gid)
        make_directory(places.service_config, PASSABLE_DIRECTORY)
        for place, source in zip(places.proxy_extensions, _EXTENSIONS, strict=True):
            write_for_part(place, source.read_bytes(), gid)
        if hand_over is not None:
            try:
                hand_over.copy()
            except OSError as error:
                raise TidehubError(f"the certificate cannot be handed to the proxy: {error}") from error

    async def keep_certificate() -> None:
        if hand_over is not None:
            await hand_over.keep(interval=tls_interval, tell=tell)

    answers = http_check(f"{door.local_url}/_chp_healthz")
    api_answers = http_check(
        "http://localhost/api/routes",
        unix_socket=places.proxy_api_socket,
        headers={"Authorization": f"token {token.reveal()}"},
    )

    async def ready() -> Ready:
        public = await answers()
        return await api_answers() if public.ok else public

    return Component(
        name="proxy",
        argv=argv,
        env=_environment(door, hand_over, token, tls_interval, headers_timeout)
        | inside_table.passing(inside)
        | {"TIDEHUB_AWAY_PAGE": str(places.away_page), "TIDEHUB_AWAY_SECONDS": f"{away_after:g}"}
        | {"TIDEHUB_COOKIE_MARK": cookie_mark}
        | ({} if sign_in is None else {"TIDEHUB_SIGN_IN": f"{sign_in[0]} {sign_in[1].reveal()}"}),
        ready=ready,
        on_restart=restore,
        before_start=before_start,
        alongside=None if hand_over is None else keep_certificate,
        uid=uid,
        gid=gid,
        sockets={FRONT: listener},
        probe=Probe(check=answers),
        start_timeout=30.0,
    )


def cookie_mark(hub_cookie_secret: Secret) -> str:
    """What the platform's cookies bear (`cookies.cjs`): of its secret, so that no other platform has the same, not even
    one that keeps its state in a directory of the same name on another machine and is reached through a tunnel.
    """
    return hmac.new(hub_cookie_secret.reveal().encode(), b"mark of cookies", hashlib.sha256).hexdigest()[:8]


def _environment(
    door: FrontDoor, hand_over: HandOver | None, token: Secret, tls_interval: float, headers_timeout: float
) -> dict[str, str]:
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": "/",
        "LANG": "C.UTF-8",
        "NODE_ENV": "production",
        "CONFIGPROXY_AUTH_TOKEN": token.reveal(),
        "TIDEHUB_TRUSTED_PROXIES": ",".join(door.trusted_proxies),
        "TIDEHUB_HEADERS_SECONDS": f"{headers_timeout:g}",
        # How many connections a user of this machine may have, and the program that knows whose one is.
        "TIDEHUB_PEERS": json.dumps([peers.MOST, sys.executable, "-I", "-S", peers.__file__]),
        "TIDEHUB_PUBLIC": door.public_origin,
        # Plain HTTP beyond this machine is for the operator's reverse proxies alone.
        "TIDEHUB_ONLY_TRUSTED": "0" if door.tls or is_loopback(door.address) else "1",
    }
    if hand_over is not None:
        environment |= {
            "TIDEHUB_TLS_CERTIFICATE": str(hand_over.files.certificate),
            "TIDEHUB_TLS_KEY": str(hand_over.files.key),
            "TIDEHUB_TLS_POLL_SECONDS": f"{tls_interval:g}",
        }
    return environment
