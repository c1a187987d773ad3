"""Connecting to a Unix socket in a directory of somebody else, without being led to another one."""

from __future__ import annotations

import os
import socket
import stat
import struct
from pathlib import Path

LONGEST_PATH = 107
"""Bytes of a socket's path (unix(7): `sun_path` less the final zero)."""

_CREDENTIALS = struct.Struct("3i")
"""`struct ucred` of unix(7): pid, uid, gid."""


class WrongSocketError(ConnectionError):
    """What stands under the name is not a socket of the directory's owner, or another user answers on it."""


def connect(path: Path | str) -> socket.socket:
    """A connected, non-blocking socket to the service that the owner of `path`'s directory runs there.

    Whoever owns the directory could put a link to any socket of this machine there, and we may be allowed to
    connect where they are not. So the name is opened without following it, must be a socket of the directory's
    owner, is connected to by its descriptor, and the process that listens must be that owner's.

    Raises `WrongSocketError` (an `OSError`), `BlockingIOError` when too many wait to be accepted, or what
    connect(2) says.
    """
    place = Path(path)
    directory = os.open(place.parent, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        named = os.open(place.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        owner = os.fstat(directory).st_uid
    finally:
        os.close(directory)
    try:
        found = os.fstat(named)
        if not stat.S_ISSOCK(found.st_mode):
            raise WrongSocketError(f"{path} is not a socket")
        if found.st_uid != owner:
            raise WrongSocketError(f"{path} belongs to uid {found.st_uid}, its directory to uid {owner}")
        return _connected(named, owner, path)
    finally:
        os.close(named)


def _connected(named: int, owner: int, path: Path | str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        made.setblocking(False)
        # The link in /proc leads to the file that was opened, whatever its name means by now.
        made.connect(f"/proc/self/fd/{named}")
        uid = peer_uid(made)
        if uid != owner:
            raise WrongSocketError(f"uid {uid} answers on {path}, which belongs to uid {owner}")
    except BaseException:
        made.close()
        raise
    return made


def peer_uid(connected: socket.socket) -> int:
    """The uid of the process that listened on the other end (SO_PEERCRED of unix(7))."""
    packed = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid: int = _CREDENTIALS.unpack(packed)[1]
    return uid
