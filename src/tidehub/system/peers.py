"""Who of this machine is at the other end of a TCP connection, and how many connections one user may have.

A program of this machine can open as many connections to a service on loopback as it likes; each costs the service a
file descriptor, and whoever takes them all keeps everybody else out. TCP has no SO_PEERCRED, but the kernel knows who
made the socket at the other end: sock_diag(7) finds the one socket with these addresses and ports. That costs the same
however many sockets there are; reading /proc/net/tcp would not, and would be an attack by itself.

Only the standard library: parts that start fast use it, and it is also a program, `python -I -S peers.py`, which
answers the questions of one that cannot ask the kernel (the proxy, in Node).
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import sys
import time
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from typing import Any

MOST = 256
"""Connections that the programs of one user of this machine may have to one port at a time.

A notebook server keeps a few connections to the hub, a Dask client about ten to its scheduler, a browser at the end of
an SSH tunnel six and one for each open notebook: a tenth of this. The parts may have at least 4,096 descriptors (see
`local.launching`), so it takes sixteen users together to do what one could do before."""
FIRST_OF_USERS = 1000
"""Accounts below it are the system's (login.defs(5), SYS_UID_MAX), as a reverse proxy's is: the operator's own."""
OWN = range(69_998, 70_000)
"""The parts' own uids; see `local.isolation.users`, which this file cannot import."""
SAY_EVERY = 60.0
"""Seconds between two words about the same user."""
ROUND = 32
"""How many connections in a row may be refused before others of the same event loop get their turn."""

_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY = 4, 20
_NLMSG_ERROR, _NLMSG_DONE, _NLM_F_REQUEST, _NLM_F_MULTI = 2, 3, 1, 2
"""linux/netlink.h, linux/sock_diag.h"""
_HEADER = struct.Struct("=IHHII")
"""`struct nlmsghdr` of netlink(7)."""
_REQUEST = struct.Struct("=BBBBI")
"""`struct inet_diag_req_v2` of sock_diag(7) up to its `id`: family, protocol, extensions, padding, states."""
_ANSWER = struct.Struct("=16xxB2xHH56xII")
"""A header, then `struct inet_diag_msg`: its state, ports (big endian), and at the end the socket's uid and inode."""
_ANY_INTERFACE_AND_COOKIE = bytes(4) + b"\xff" * 8
LISTEN = 10
"""TCP_LISTEN (net/tcp_states.h)"""


class Kernel:
    """Asks the kernel who made a socket. One to a thread."""

    def __init__(self) -> None:
        """Raises `OSError` where the kernel has no sock_diag (CONFIG_INET_DIAG) or does not let us use it."""
        self._line = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG
        )
        self._number = 0
        # The kernel answers before send(2) returns; a lost answer must not stop the part.
        self._line.settimeout(1.0)

    def close(self) -> None:
        """Ask no more."""
        self._line.close()

    def owner(self, peer: tuple[str, int], here: tuple[str, int]) -> int | None:
        """The uid whose socket on `peer` is connected to `here`; None when it is not of this machine or has gone.

        Raises `OSError` when the kernel does not answer.
        """
        source, target = (ip_address(address.partition("%")[0]) for address, _ in (peer, here))
        # IPv4 in IPv6 is one and the same connection; the kernel finds both kinds of sockets under IPv4.
        source, target = (getattr(ip, "ipv4_mapped", None) or ip for ip in (source, target))
        family = socket.AF_INET if source.version == 4 else socket.AF_INET6
        one = (
            struct.pack("!HH", peer[1], here[1])
            + source.packed.ljust(16, b"\0")
            + target.packed.ljust(16, b"\0")
            + _ANY_INTERFACE_AND_COOKIE
        )
        try:
            [answer] = self._ask(_REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF) + one)
        except FileNotFoundError:
            return None
        state, _, port, uid, inode = _ANSWER.unpack_from(answer)
        # Where there is no such connection, the kernel names whatever listens on a remote peer's port here.
        if state == LISTEN or socket.ntohs(port) != here[1]:
            return None
        # Without an inode no program has it any more: its last data is on the way, then it ends.
        return int(uid) if inode else None

    def _ask(self, body: bytes, *, kind: int = _SOCK_DIAG_BY_FAMILY, flags: int = 0) -> list[bytes]:
        """The messages of the answer, each with its header. Raises `OSError` with the kernel's code."""
        self._number = (self._number + 1) & 0xFFFFFFFF
        head = _HEADER.pack(_HEADER.size + len(body), kind, _NLM_F_REQUEST | flags, self._number, 0)
        self._line.send(head + body)
        found: list[bytes] = []
        while True:
            answer = self._line.recv(1 << 16)
            at = 0
            while at < len(answer):
                size, what, more, number, _ = _HEADER.unpack_from(answer, at)
                message = answer[at : at + size]
                at += size + 3 & ~3
                if number != self._number:
                    continue
                if what in (_NLMSG_ERROR, _NLMSG_DONE):
                    (code,) = struct.unpack_from("=i", message, _HEADER.size)
                    if code:
                        raise OSError(-code, os.strerror(-code))
                    return found
                found.append(message)
                if not more & _NLM_F_MULTI:
                    return found


def is_limited(uid: int) -> bool:
    """Whether `uid` is a user's: neither the system's nor the platform's own."""
    return uid >= FIRST_OF_USERS and uid not in OWN and uid != os.geteuid()


class Crowd:
    """How many connections each user has to one port."""

    def __init__(
        self,
        most: int = MOST,
        *,
        say: Callable[[str], None] = lambda text: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.most = most
        self._say = say
        self._clock = clock
        self._counts: dict[int, int] = {}
        self._said: dict[int, float] = {}

    def enter(self, uid: int) -> bool:
        """Count one more of `uid`'s; false when that would be too many, and then it is not counted."""
        count = self._counts.get(uid, 0)
        if count >= self.most:
            now = self._clock()
            if now - self._said.get(uid, -SAY_EVERY) >= SAY_EVERY:
                self._said = {one: at for one, at in self._said.items() if now - at < SAY_EVERY} | {uid: now}
                self._say(
                    f"uid {uid} has {count} connections open, the most that one user may have; more are refused "
                    f"(`ss -tp` names the programs)"
                )
            return False
        self._counts[uid] = count + 1
        return True

    def count_anew(self) -> None:
        """All of them are about to `enter` again."""
        self._counts = {}

    def leave(self, uid: int) -> None:
        """One of `uid`'s has ended."""
        count = self._counts.get(uid, 0) - 1
        if count > 0:
            self._counts[uid] = count
        else:
            self._counts.pop(uid, None)


class Counted(socket.socket):
    """A connection that counts for a user until it is closed."""

    _left: Callable[[], None] | None = None

    def counts_until_closed(self, left: Callable[[], None]) -> None:
        """Call `left` once, when this is closed."""
        self._left = left

    def _ends(self) -> None:
        left, self._left = self._left, None
        if left is not None:
            left()

    def close(self) -> None:
        super().close()
        self._ends()

    def __del__(self) -> None:
        # Whoever lets go of it without closing it closes it all the same.
        self._ends()


class LimitedListener(socket.socket):
    """A listening socket whose `accept` refuses more than a user of this machine may have.

    What accepts by the methods of the socket that it is given (tornado, asyncio) needs to know nothing of it.
    """

    _crowd: Crowd | None = None
    _kernel: Kernel | None = None

    def limit(self, crowd: Crowd) -> None:
        """Begin to count. Raises `OSError` as `Kernel` does."""
        self._kernel, self._crowd = Kernel(), crowd

    def listen(self, backlog: int = socket.SOMAXCONN, /) -> None:
        """Begin to listen. A socket that listens already keeps the queue that its maker gave it: asyncio and aiohttp
        call this on sockets that are handed to them, with 100 and 128, and whoever connects fast would fill that.
        """
        if not self.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            super().listen(backlog)

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection that is not one too many. Raises `BlockingIOError` also when there may be more, after so
        many refused ones that others of the same event loop should have their turn.
        """
        for _ in range(ROUND):
            descriptor, address = self._accept()  # type: ignore[attr-defined]  # as `socket.socket.accept` does
            made = Counted(self.family, self.type, self.proto, fileno=descriptor)
            if self._admits(made, address):
                return made, address
            reset(made)
        raise BlockingIOError(errno.EAGAIN, "others have their turn")

    def _admits(self, made: Counted, address: Any) -> bool:
        if self._crowd is None or self._kernel is None:
            return True
        try:
            uid = self._kernel.owner(address[:2], made.getsockname()[:2])
        except OSError:
            return True
        if uid is None or not is_limited(uid):
            return True
        if not self._crowd.enter(uid):
            return False
        made.counts_until_closed(partial(self._crowd.leave, uid))
        return True


def reset(connection: socket.socket) -> None:
    """End it at once, so that nothing of it stays with us (TIME_WAIT); see SO_LINGER of socket(7)."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def main() -> None:
    """Answer questions on standard input: `KEY PEER-ADDRESS PEER-PORT HERE-ADDRESS HERE-PORT`, a line each, by
    `KEY user UID` for a user, whose connections are counted, `KEY part UID` for a part of the platform,
    `KEY system UID` for a program of the operator's, and `KEY -` where nobody has that socket.
    """
    kernel = Kernel()
    rest = b""
    while read := os.read(0, 65536):
        *lines, rest = (rest + read).split(b"\n")
        answers = "".join(_answer(kernel, *line.decode().split()) for line in lines)
        sys.stdout.write(answers)
        sys.stdout.flush()


def _answer(kernel: Kernel, key: str, peer: str, peer_port: str, here: str, here_port: str) -> str:
    uid = None
    with contextlib.suppress(OSError):
        uid = kernel.owner((peer, int(peer_port)), (here, int(here_port)))
    if uid is None:
        return f"{key} -\n"
    return f"{key} {'user' if is_limited(uid) else 'part' if uid in OWN else 'system'} {uid}\n"


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit(f"users' connections are not counted: {error}")
