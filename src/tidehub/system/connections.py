"""The kernel's tables of TCP sockets, asked for a few ports (sock_diag(7)), and the end of connections in them.

The kernel leaves out all other sockets, so that what comes back is not a size that any user can choose, as that of
/proc/net/tcp is. Only the standard library.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Collection, Iterator
from functools import cache
from ipaddress import ip_address
from typing import NamedTuple

from tidehub.system.peers import LISTEN, Kernel

_SOCK_DESTROY, _NLM_F_ACK, _NLM_F_DUMP = 21, 4, 0x300
_BYTECODE = 1
_JUMP, _HERE, _PEER = 1, 11, 12
"""linux/sock_diag.h, linux/netlink.h; linux/inet_diag.h: INET_DIAG_REQ_BYTECODE, INET_DIAG_BC_JMP, _S_EQ, _D_EQ."""
_REQUEST = struct.Struct("=BBBBI48s")
"""`struct inet_diag_req_v2`: family, protocol, extensions, padding, states, then ports, addresses and the cookie."""
_MESSAGE = struct.Struct("=16xBB2x48s12xII")
"""A header, then `struct inet_diag_msg`: family, state, the same as in the request, uid and inode."""
_OPERATION = struct.Struct("=BBH")
"""`struct inet_diag_bc_op`: what, and how many bytes to go on if yes and if no."""
ESTABLISHED, _FIN_WAIT1, _FIN_WAIT2, CLOSE_WAIT = 1, 4, 5, 8
"""net/tcp_states.h"""
_OPEN = 1 << ESTABLISHED | 1 << _FIN_WAIT1 | 1 << _FIN_WAIT2 | 1 << CLOSE_WAIT
_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_MAPPED = bytes(10) + b"\xff\xff"
"""What IPv4 in IPv6 begins with."""


class Connection(NamedTuple):
    """One end of a connection. Ends are addresses (4 or 16 bytes) with the port behind (2 bytes, big endian)."""

    here: bytes
    peer: bytes
    state: int
    uid: int
    """Of whoever made the socket."""
    inode: int
    """0 where no program has it: not accepted yet, or closed."""
    family: int
    key: bytes
    """By which the kernel finds it, and nothing else: the last 8 bytes are its cookie, which is never given again."""

    @property
    def port(self) -> int:
        """The port at this end."""
        return int.from_bytes(self.here[-2:], "big")


class Listening(NamedTuple):
    """A socket that listens. `address` has 4 or 16 bytes."""

    address: bytes
    uid: int
    inode: int


class Table(Kernel):
    """Asks for the sockets of ports. Raises `OSError` as `Kernel` does."""

    def connections(self, ports: Collection[int]) -> list[Connection]:
        """Both ends of all open connections to these ports of this machine, and from them."""
        only = _only(ports)
        wanted = struct.pack("=HH", 4 + len(only), _BYTECODE) + only
        found = []
        for family in _FAMILIES:
            for _, state, key, uid, inode in self._dump(family, _OPEN, bytes(48), wanted):
                here, peer = _plain(family, key[4:20]) + key[:2], _plain(family, key[20:36]) + key[2:4]
                found.append(Connection(here, peer, state, uid, inode, family, key))
        return found

    def listening(self, port: int) -> list[Listening]:
        """What listens on `port`. The kernel does not even look at sockets that do not listen."""
        key = struct.pack("!H", port).ljust(48, b"\0")
        return [
            Listening(_plain(family, found[4:20]), uid, inode)
            for family in _FAMILIES
            for _, _, found, uid, inode in self._dump(family, 1 << LISTEN, key)
        ]

    def end(self, one: Connection) -> None:
        """End it, at both ends and at once. Raises `OSError`: ENOENT or ESTALE if it has ended, EOPNOTSUPP where the
        kernel cannot (CONFIG_INET_DIAG_DESTROY), EPERM without CAP_NET_ADMIN.
        """
        body = _REQUEST.pack(one.family, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF, one.key)
        self._ask(body, kind=_SOCK_DESTROY, flags=_NLM_F_ACK)

    def _dump(
        self, family: int, states: int, key: bytes, attributes: bytes = b""
    ) -> Iterator[tuple[int, int, bytes, int, int]]:
        body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, states, key)
        with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
            yield from map(_MESSAGE.unpack_from, self._ask(body + attributes, flags=_NLM_F_DUMP))


def end_of(address: str, port: int) -> bytes:
    """As in `Connection.here`. `address` in numbers."""
    return ip_address(address).packed + port.to_bytes(2, "big")


def _only(ports: Collection[int]) -> bytes:
    """The kernel's filter for sockets with one of these ports at either end: each condition goes on to a jump to the
    end, which means yes, or past it to the next condition; the last one goes past the end, which means no.
    """
    conditions = [(where, port) for port in ports for where in (_HERE, _PEER)]
    code = b""
    for number, (where, port) in enumerate(reversed(conditions)):
        # The port stands in an operation of its own behind the condition.
        condition = _OPERATION.pack(where, 8, 12) + _OPERATION.pack(0, 0, port)
        code = condition + (_OPERATION.pack(_JUMP, 4, 4 + len(code)) if number else b"") + code
    return code


def _plain(family: int, address: bytes) -> bytes:
    if family == socket.AF_INET:
        return address[:4]
    return address[12:] if address.startswith(_MAPPED) else address


@cache
def refusal() -> str:
    """Why connections cannot be ended here, or "" if they can: tried with one of our own, once."""
    try:
        with contextlib.closing(Table()) as table, socket.create_server(("127.0.0.1", 0)) as door:
            port = door.getsockname()[1]
            with socket.create_connection(door.getsockname(), timeout=5), door.accept()[0]:
                [one] = [one for one in table.connections([port]) if one.port == port]
                table.end(one)
                return "" if not table.connections([port]) else "the kernel left a connection open"
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) in (errno.EADDRINUSE, errno.EADDRNOTAVAIL):
            return ""  # a user has taken all ports, which says nothing of the kernel
        return getattr(error, "strerror", None) or str(error)
