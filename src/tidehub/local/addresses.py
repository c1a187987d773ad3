"""Where the platform on one machine is reached, and on which loopback ports its parts listen."""

from __future__ import annotations

import contextlib
import json
import random
import shlex
import socket
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from tidehub.errors import UsageError
from tidehub.local.front.ports import PortTaken, first_free_for_all
from tidehub.loopback import is_loopback
from tidehub.site.model import Site
from tidehub.system.files import read_private, write_private

FRONT = "front"
"""The name of the public socket among those that the supervisor holds."""
HELD = ("hub", "identity", "dashboards", "gateway")
"""Parts whose loopback ports the supervisor holds, whether the site has the part or not: servers that outlived a crash
may still know the port, and send their tokens there."""
OWN = ("gateway-proxy", "gateway-scheduler")
"""Ports that a program opens by itself. Nothing secret is sent there but through mutual TLS."""
LOW_PORTS = range(600, 1024)
LOOPBACK = "127.0.0.1"


class Opens(Protocol):
    """What makes listening sockets: `supervisor.listeners.Listeners`."""

    def open(self, name: str, address: str, port: int) -> int: ...


@dataclass(frozen=True)
class Front:
    """The front door. `public_url` is what users type, with the base path and a closing slash."""

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


def from_elsewhere(front: Front, environ: Mapping[str, str]) -> list[str]:
    """For whoever came over SSH to a machine on whose loopback the platform listens: how their own browser reaches it.

    Source: ssh(1), `SSH_CONNECTION` (client address and port, server address and port) and `LOGNAME`.
    """
    found = environ.get("SSH_CONNECTION", "").split()
    if len(found) != 4 or not is_loopback(front.listen):
        return []
    tunnel = ["ssh", "-N", "-L", f"{front.port}:{front.listen}:{front.port}"]
    tunnel += [] if found[3] == "22" else ["-p", found[3]]
    user = environ.get("LOGNAME", "")
    return [f"From your own machine: {shlex.join([*tunnel, f'{user}@{found[2]}' if user else found[2]])}"]


@dataclass(frozen=True)
class Known:
    """The port by which users knew the platform. `site`: the one that its site named, where it was started on another
    by `--port`; None where it was not, and after a clean stop, with which that ended.
    """

    port: int
    site: int | None = None

    def for_start(self, *, asked: int | None, site: int) -> int | None:
        """The port to keep, if it is free or our own; None where another one is meant. `asked`: of `--port`; `site`:
        `machine.port`; 0 in either means any.
        """
        wanted = site if asked is None else asked
        if wanted == 0:
            return self.port
        return self.port if asked is None and self.site == site else None


@dataclass(frozen=True)
class Ports:
    """The loopback port of each part. `stolen`: former ports of parts that another program has taken."""

    of: Mapping[str, int]
    stolen: Mapping[str, int] = field(default_factory=dict)


def keep_ports(file: Path, listeners: Opens, *, low: bool = False) -> Ports:
    """A loopback port a part, the same ones as last time: notebooks that outlived a crash know the hub by its port.

    Those of `HELD` listen from now on. `low` gives programs that listen by themselves ports that only root, and who
    has the capability, can take. A port that somebody else took meanwhile is replaced, and named in `stolen`.
    """
    known = _remembered(file)
    ports, stolen = {}, []
    for name in HELD:
        try:
            ports[name] = listeners.open(name, LOOPBACK, known.get(name, 0))
        except (PortTaken, UsageError) as error:
            if isinstance(error, PortTaken):
                stolen.append(name)
            ports[name] = listeners.open(name, LOOPBACK, 0)
    for name in OWN:
        ports[name] = _own_port(known.get(name, 0), set(ports.values()), low=low)
    return Ports(ports, {name: known[name] for name in stolen})


def remember_ports(file: Path, ports: Ports) -> None:
    """Write them down for the next start."""
    write_private(file, json.dumps(ports.of, indent=2) + "\n")


def remember_front(file: Path, known: Known) -> None:
    """Write it down for the next start."""
    write_private(file, json.dumps(asdict(known)) + "\n")


def known_front(file: Path) -> Known | None:
    """By which port users knew the platform; None where that was never written down."""
    found = _remembered(file)
    return Known(found["port"], found.get("site")) if "port" in found else None


def forget_asked_port(file: Path) -> None:
    """After a clean stop: the next start takes the site's port again, or what it is told. Raises `TidehubError`."""
    known = known_front(file)
    if known is not None and known.site is not None:
        remember_front(file, replace(known, site=None))


def _remembered(file: Path) -> dict[str, int]:
    with contextlib.suppress(ValueError, AttributeError):
        stored = json.loads(read_private(file) or "{}")
        return {name: port for name, port in stored.items() if type(port) is int and 0 < port < 65536}
    return {}


def _own_port(known: int, used: Collection[int], *, low: bool) -> int:
    if low and first_free_for_all() > LOW_PORTS.start:
        wanted = [known, *random.sample(LOW_PORTS, len(LOW_PORTS))]
        for port in wanted:
            if port in LOW_PORTS and port < first_free_for_all() and port not in used and _is_nobodys(port):
                return port
    return known if known and known not in used and _is_free(known) else free_ports(1)[0]


def _is_nobodys(port: int) -> bool:
    """Whether no program listens there now, and none is known that might (services(5))."""
    try:
        socket.getservbyport(port, "tcp")
    except OSError:
        return _is_free(port)
    return False


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
