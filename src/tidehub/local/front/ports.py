"""Whether the platform may listen where the site says, and who sits there if not."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import struct
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path

from tidehub import program
from tidehub.errors import TidehubError, UsageError
from tidehub.listening import BACKLOG
from tidehub.system.connections import Table

_LISTENING = "0A"
"""TCP_LISTEN in /proc/net/tcp (proc(5), net/tcp; include/net/tcp_states.h)."""


class PortTaken(TidehubError):
    """Another program listens there."""


@dataclass(frozen=True)
class Holder:
    """A process that listens. `pid` and `name` are None when this user may not see them."""

    uid: int
    pid: int | None
    name: str | None

    def __str__(self) -> str:
        if self.pid is None:
            return f"a process of uid {self.uid}"
        return f"{self.name} (process {self.pid})"


def reachable_host(address: str) -> str:
    """The host part of a URL by which this machine itself reaches what listens on `address`."""
    if address in ("0.0.0.0", ""):
        return "127.0.0.1"
    if address == "::":
        return "[::1]"
    return f"[{address}]" if ":" in address else address


def first_free_for_all() -> int:
    """The lowest port that needs no privilege. Source: ip-sysctl, ip_unprivileged_port_start (default 1024)."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    except (OSError, ValueError):
        return 1024


def listen_on(address: str, port: int) -> socket.socket:
    """A socket that listens on `port` of `address`; 0 is any free port.

    `PortTaken` says by whom the port is taken; `UsageError` when it can never be ours.
    """
    family, kind, protocol, _, target = _resolve(address, port)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        # Otherwise connections of a platform just stopped would count as taken. Nobody can join a socket that listens,
        # but two that are only bound can share a port (socket(7)): so there is nothing between the two calls, and
        # only listening proves that the port is ours.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address == "::" else 1)
        listener.bind(target)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise _refused(error, address, port) from error
    return listener


def first_address(address: str, port: int) -> tuple[str, int]:
    """What `listen_on` listens on, in numbers."""
    return _resolve(address, port)[0][4]


def _refused(error: OSError, address: str, port: int) -> TidehubError:
    if error.errno == errno.EADDRINUSE:
        holder = find_holder(port)
        return PortTaken(
            f"port {port} of {address} is taken" + (f" by {holder}" if holder else ""),
            fix=f"stop that program, or choose another port: {program.command('up', '--port')} N",
        )
    if error.errno == errno.EACCES:
        lowest = first_free_for_all()
        return UsageError(
            f"port {port} needs root (ports below {lowest} do)",
            fix=f"run as root, choose a port from {lowest} on with --port, or put your own reverse proxy before it",
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return UsageError(
            f"{address} is not an address of this machine",
            fix="set machine.address to one that `ip address` shows, or to 127.0.0.1",
        )
    reason = os.strerror(error.errno) if error.errno else str(error)
    return TidehubError(f"cannot listen on port {port} of {address}: {reason}")


def find_holder(port: int) -> Holder | None:
    """Who listens on TCP `port`; None when nobody does as far as this user can see."""
    sockets = listeners(port)
    if not sockets:
        return None
    return _process_with(set(sockets), sockets) or Holder(next(iter(sockets.values())), None, None)


def listeners(port: int, address: str | None = None) -> dict[str, int]:
    """The sockets that listen on TCP `port`, named as in /proc/PID/fd, with the uid of their maker.

    With `address` only those that what connects to it can reach: another user's socket on another address of the
    loopback network is none of them.
    """
    try:
        with contextlib.closing(Table()) as table:
            return {
                f"socket:[{one.inode}]": one.uid
                for one in table.listening(port)
                if address is None or _reaches(address, one.address)
            }
    except OSError:
        return _listeners_in_files(port, address)


def _reaches(address: str, listening: bytes) -> bool:
    return not any(listening) or listening == ip_address(address).packed


def _listeners_in_files(port: int, address: str | None) -> dict[str, int]:
    """The same where the kernel has no sock_diag, from files as long as there are sockets on the machine."""
    found: dict[str, int] = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            on, _, number = fields[1].rpartition(":")
            reached = address is None or on in _written(address) or not on.strip("0")
            if fields[3] == _LISTENING and int(number, 16) == port and reached:
                found[f"socket:[{fields[9]}]"] = int(fields[7])
    return found


def _written(address: str) -> set[str]:
    """`address` as the kernel's tables write it: words of 32 bits in the machine's order, also as IPv4 in IPv6."""
    ip = ip_address(address)
    forms = [ip.packed] if ip.version == 6 else [ip.packed, bytes(10) + b"\xff\xff" + ip.packed]
    return {"".join(f"{word:08X}" for (word,) in struct.iter_unpack("=I", form)) for form in forms}


def has_listener(pid: int, port: int, address: str) -> bool:
    """Whether whoever connects to `port` of `address` reaches a socket that process `pid` has open."""
    wanted, held = set(listeners(port, address)), set()
    for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
        with contextlib.suppress(OSError):
            held.add(str(descriptor.readlink()))
    return bool(wanted) and wanted <= held


def _process_with(names: set[str], owners: dict[str, int]) -> Holder | None:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            for descriptor in (process / "fd").iterdir():
                name = str(descriptor.readlink())
                if name in names:
                    return Holder(owners[name], int(process.name), _program(process))
        except OSError:
            continue
    return None


def _program(process: Path) -> str:
    """What a user knows the process by: its program, and of an interpreter what it runs. Not `comm`, which is the name
    of a thread (a Python's is MainThread), and no other arguments, which may be private."""
    words = (process / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
    name = Path(words[0].split(" ")[0]).name
    if not name:
        return (process / "comm").read_text().strip()
    if not re.fullmatch(r"(python|node|ruby|perl|java)[\d.]*", name):
        return name
    for before, word in pairwise(words):
        if before == "-m":
            return f"{name} -m {word}"
        if word and not word.startswith("-"):
            return f"{name} {Path(word).name}"
    return name


def _resolve(address: str, port: int) -> list[tuple[int, int, int, str, tuple[str, int]]]:
    try:
        found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise UsageError(
            f"machine.address {address!r} is neither an address nor a known name",
            fix="set it to an IP address of this machine, for instance 127.0.0.1",
        ) from error
    return [
        (int(family), int(kind), protocol, name, (str(target[0]), int(target[1])))
        for family, kind, protocol, name, target in found
    ]
