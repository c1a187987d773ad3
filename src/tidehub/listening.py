"""Listening sockets that the supervisor made and gave to this part: a part's port is never free while it is down.

As systemd's socket activation (sd_listen_fds(3)), with names and numbers in one variable, because the numbers here
are the supervisor's own. What connects while the part is away waits in the socket's backlog. Only the standard
library: parts that start fast use it.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping

from tidehub.system.peers import Crowd, LimitedListener

VARIABLE = "TIDEHUB_LISTEN"
"""`name=descriptor`, several separated by commas."""
BACKLOG = 1024
"""Connections that may wait while a part restarts, or while somebody connects as fast as they can; the kernel's
somaxconn may hold it lower (listen(2))."""

BACKLOG_INSIDE = 4096
"""The same on a Unix socket: there, whoever finds the queue full is refused at once (unix(7), EAGAIN)."""
IDLE = 120.0
"""Seconds that a connection to a part may be without a request, or take to send a request's headers. Longer than
clients keep one (aiohttp 15 s); tornado's own is an hour."""


def passing(sockets: Mapping[str, socket.socket]) -> dict[str, str]:
    """The environment that tells a part of its sockets; their descriptors must be passed on as they are."""
    if not sockets:
        return {}
    return {VARIABLE: ",".join(f"{name}={one.fileno()}" for name, one in sockets.items())}


def inside_name(part: str) -> str:
    """The name of the Unix socket on which the platform's other parts reach `part`; see `tidehub.inside`."""
    return f"{part}-inside"


def inherited(name: str) -> socket.socket | None:
    """The socket of that name that listens already, or None: then the program listens by itself.

    It refuses connections of a user of this machine who has too many (`system.peers`).

    Call it once, early: from then on no child of this process can get the descriptor.
    """
    for word in os.environ.get(VARIABLE, "").split(","):
        known, _, number = word.partition("=")
        if known == name:
            os.set_inheritable(int(number), False)
            found = LimitedListener(fileno=int(number))
            found.setblocking(False)
            if found.family != socket.AF_UNIX:
                _limit(found, name)
            return found
    return None


def _limit(found: LimitedListener, name: str) -> None:
    log = logging.getLogger("tidehub.listening")
    try:
        found.limit(Crowd(say=lambda text: log.warning("port of %s: %s", name, text)))
    except OSError as error:
        log.warning("users' connections to the port of %s are not counted: %s", name, error)
