"""Ends the connections to the gateway's proxy that users of this machine have beyond `peers.MOST`.

dask-gateway-proxy opens its ports itself, never closes a silent connection, and ends with all its connections when it
has no descriptor for another one (its loop of Accept goes on with nothing). So a part beside it, with CAP_NET_ADMIN and
no other right, looks at the kernel's table a few times a second and ends what is too much: the proxy's descriptors are
free at once, and the oldest connections of each user stay.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import select
import socket
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from tidehub.listening import inherited, inside_name
from tidehub.local.front.ports import first_address
from tidehub.local.supervisor.platform import Check, Ready
from tidehub.system.connections import CLOSE_WAIT, ESTABLISHED, Connection, Table, end_of
from tidehub.system.peers import MOST, Crowd, is_limited

NAME = "connection-limit"
CAP_NET_ADMIN = 12
"""capabilities(7)"""
EVERY = 0.25
"""Seconds between two looks: a look without connections takes a thousandth."""
AGAIN = 0.05
"""The same after one that found too many."""
_WORKS = b"ok"

log = logging.getLogger(f"tidehub.{NAME}")


class Limit:
    """Which connections to some addresses are too many, from one look to the next."""

    def __init__(self, addresses: Iterable[tuple[str, int]], most: int = MOST) -> None:
        """`addresses`: where the proxy listens, in numbers."""
        self._ends = {end_of(*address) for address in addresses}
        self.ports = [int.from_bytes(end[-2:], "big") for end in self._ends]
        self._users = {
            port: Crowd(most, say=lambda text, port=port: log.warning("port %s: %s", port, text))  # type: ignore[misc]
            for port in self.ports
        }
        self._nobodys = {port: Crowd(most) for port in self.ports}
        self._kept: set[bytes] = set()
        self._left: set[bytes] = set()

    def beyond(self, found: Sequence[Connection]) -> list[Connection]:
        """The proxy's ends of what is too much; `found` has both ends of all connections to `ports`."""
        owners = {(one.here, one.peer): one.uid for one in found if one.inode}
        ours = [one for one in found if self._is_ours(one)]
        # A connection that nobody has at the other end any more costs the proxy a descriptor too. But its other end may
        # also be too new for this look, or its last words not read yet: so only what was left at the look before.
        left = {one.key for one in ours if (one.peer, one.here) not in owners and _is_of_this_machine(one)}
        nobodys = left & self._left
        for crowd in (*self._users.values(), *self._nobodys.values()):
            crowd.count_anew()
        kept, too_many = set(), []
        for one in sorted(ours, key=lambda one: one.key not in self._kept):
            uid = owners.get((one.peer, one.here))
            if uid is None:
                admitted = one.key not in nobodys or self._nobodys[one.port].enter(0)
            else:
                admitted = not is_limited(uid) or self._users[one.port].enter(uid)
            if admitted:
                kept.add(one.key)
            else:
                too_many.append(one)
        self._kept, self._left = kept, left
        return too_many

    def _is_ours(self, one: Connection) -> bool:
        """Whether it is an end of the proxy's, accepted or to be; what it has closed has no descriptor any more."""
        everywhere = bytes(len(one.here) - 2) + one.here[-2:]
        at = one.here in self._ends or everywhere in self._ends or bytes(16) + one.here[-2:] in self._ends
        return at and (one.inode != 0 or one.state in (ESTABLISHED, CLOSE_WAIT))


def _is_of_this_machine(one: Connection) -> bool:
    address = one.peer[:-2]
    return (
        address == one.here[:-2]
        or address == socket.inet_pton(socket.AF_INET6, "::1")
        or address[:1] == b"\x7f"
    )


def look(table: Table, limit: Limit) -> int:
    """End what is too much now; how many that were. Raises `OSError` as `Table` does."""
    too_many = limit.beyond(table.connections(limit.ports))
    for one in too_many:
        try:
            table.end(one)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESTALE):  # it has ended by itself
                raise
    return len(too_many)


def works(door: Path) -> Check:
    """A check that the part looks again and again: between two looks it answers at the Unix socket `door`."""
    import asyncio  # the part itself does without

    async def check() -> Ready:
        reader, writer = await asyncio.open_unix_connection(door)
        try:
            return Ready(await reader.read() == _WORKS, "it does not answer")
        finally:
            writer.close()

    return check


def _wait(door: socket.socket | None, seconds: float) -> None:
    """Answer whoever asks meanwhile."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if select.select([] if door is None else [door], [], [], left)[0] and door is not None:
            with contextlib.suppress(OSError), door.accept()[0] as one:
                one.sendall(_WORKS)


def main() -> None:
    """Look for as long as the platform runs. Arguments: the proxy's addresses, `HOST:PORT` each."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    door = inherited(inside_name(NAME))
    words = (word.rpartition(":") for word in sys.argv[1:])
    limit = Limit(first_address(host.strip("[]"), int(port)) for host, _, port in words)
    with contextlib.closing(Table()) as table:
        while True:
            _wait(door, AGAIN if look(table, limit) else EVERY)


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit(f"users' connections to Dask's schedulers are not limited: {error}")
