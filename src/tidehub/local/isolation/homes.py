"""Directories that belong to users: homes, directories of servers, private temporary directories.

All are made as `tidehub.system.directories` makes them: inside directories that only we can write, whole, and not
touched again once they are their owner's. What was there before is thrown away (`tidehub.system.trash`).
"""

from __future__ import annotations

import os
from pathlib import Path

from tidehub.system import trash
from tidehub.system.directories import PRIVATE, Directory, look, opened, place_new, refuse_strange
from tidehub.system.files import PASSABLE_DIRECTORY, make_directory

USERS = "u"
"""The directory of users' run directories: one letter, because a socket's path is short
(`places.LONGEST_RUN_DIRECTORY`)."""
RUNTIME = "rt"
"""The directory of a server's kernels, inside the server's own."""
SOCKETS_FOR_GROUP = 0o2710
"""The owner alone may list and write; the group (the proxy) may pass; sockets made inside get that group."""
TEMPORARY = ".tmp"

_NOT_THEIRS = (
    "if it is this user's, give it to them (chown -R); if not, move it away;"
    " if the table of users was lost, restore it from a backup"
)


def make_home(homes: Path, directory: str, *, uid: int, gid: int) -> Path:
    """`homes/directory`, 0700 and owned by `uid`; made whole or not at all.

    Raises `TidehubError` if something else stands there: a link, a file, a directory of another owner.
    """
    home = homes / directory
    with opened(homes) as parent:
        found = look(parent, directory)
        if found is None:
            place_new(parent, directory, Directory(uid, gid))
            return home
    refuse_strange(home, found, uid, "home directory", fix=_NOT_THEIRS)
    return home


def run_directory(run: Path, number: int) -> Path:
    """Where the directories of a user's servers are: ours, and passable, so that nothing in it can be exchanged."""
    return run / USERS / str(number)


def make_server_directory(
    run: Path, number: int, name: str, *, uid: int, gid: int, sockets_gid: int | None
) -> Path:
    """A new directory of the user's server `name`, with its runtime directory; a former one is thrown away.

    `sockets_gid` is the group that may connect to the server's socket. Raises `TidehubError`.
    """
    users = make_directory(run / USERS, PASSABLE_DIRECTORY)
    with opened(users) as parent:
        if look(parent, str(number)) is None:
            place_new(parent, str(number), Directory(os.geteuid(), os.getegid(), PASSABLE_DIRECTORY))
    path = run_directory(run, number) / name
    wanted = Directory(
        uid,
        gid if sockets_gid is None else sockets_gid,
        PRIVATE if sockets_gid is None else SOCKETS_FOR_GROUP,
        {RUNTIME: Directory(uid, gid)},
    )
    with opened(path.parent) as parent:
        trash.throw_from(parent, name, trash.beside(run))
        place_new(parent, name, wanted)
    trash.sweep(trash.beside(run))
    return path


def make_temporary(homes: Path, directory: str, *, fresh: bool, uid: int, gid: int) -> Path:
    """A user's own /tmp and /var/tmp, a new one if `fresh`; its parent lets nobody but us through.

    On disk, not in memory: memory is limited, and spilled data is large. Raises `TidehubError`.
    """
    root = make_directory(homes / TEMPORARY, PRIVATE)
    path = root / directory
    with opened(root) as parent:
        if fresh:
            trash.throw_from(parent, directory, trash.beside(root))
        found = look(parent, directory)
        if found is None:
            place_new(parent, directory, Directory(uid, gid))
    if found is not None:
        refuse_strange(path, found, uid, "temporary directory", fix="move it away")
    trash.sweep(trash.beside(root))
    return path
