"""Where the platform on one machine is reached, and where its parts listen (pure, but for `free_ports`)."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tidehub.loopback import is_loopback
from tidehub.site.model import Site
from tidehub.system.files import read_private, write_private

PARTS = ("hub", "identity", "dashboards", "gateway", "gateway-proxy", "gateway-scheduler")
"""Parts that listen on a loopback port of their own."""


@dataclass(frozen=True)
class Front:
    """The front door. `public_url` is what people type, with the base path and a closing slash."""

    listen: str
    port: int
    public_url: str
    base_path: str
    tls: bool = False

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return self.public_url.removesuffix(self.base_path)


def front_of(
    site: Site, *, port: int | None, demo: bool, demo_in_public: bool = False, free_port: int = 0
) -> Front:
    """The front door of `site` on this machine. `port` overrides the site's; `free_port` stands for port 0.

    The demo login serves on loopback whatever address the site names, because its accounts are for trying out;
    `demo_in_public` keeps the site's address, and so does an address of this machine alone (with its certificate).
    Whether it is safe to serve there is `FrontDoor.check`'s question.
    """
    machine = site.machine
    chosen = (machine.port if port is None else port) or free_port
    listen = machine.address
    if demo and not demo_in_public and not (on_this_machine(site) and is_loopback(listen)):
        if port is None and machine.port in (80, 443):
            chosen = 8000
        return Front("127.0.0.1", chosen, f"http://127.0.0.1:{chosen}{site.base_path}", site.base_path)
    if site.site.url is not None:
        public = site.site.url.rstrip("/").removesuffix(site.base_path.rstrip("/")) + site.base_path
    else:
        scheme = "https" if machine.tls else "http"
        host = listen if listen not in ("0.0.0.0", "::") else socket.getfqdn()
        public = f"{scheme}://{f'[{host}]' if ':' in host else host}:{chosen}{site.base_path}"
    return Front(listen, chosen, public, site.base_path, tls=machine.tls is not None)


def on_this_machine(site: Site) -> bool:
    """Whether the site's public address is one that only this machine reaches."""
    return site.site.url is None or is_loopback(urlsplit(site.site.url).hostname or "")


def keep_ports(file: Path, wanted: Sequence[str] = PARTS) -> Mapping[str, int]:
    """A loopback port a part, the same ones as last time: notebooks that outlived a crash know the hub by its port.

    A port that somebody else took meanwhile is replaced.
    """
    known: dict[str, int] = {}
    with contextlib.suppress(ValueError, AttributeError):
        stored = json.loads(read_private(file) or "{}")
        known = {name: port for name, port in stored.items() if name in wanted and isinstance(port, int)}
    taken = {name for name, port in known.items() if not _is_free(port)}
    missing = [name for name in wanted if name not in known or name in taken]
    ports = {name: port for name, port in known.items() if name not in taken}
    ports |= dict(zip(missing, free_ports(len(missing)), strict=True))
    write_private(file, json.dumps(ports, indent=2) + "\n")
    return ports


def free_ports(count: int) -> list[int]:
    """So many loopback TCP ports that nobody listens on, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
