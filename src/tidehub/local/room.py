"""Room on the disk of the state: how much there is, what the platform keeps for itself, what users may still start.

The reserve is a file that holds room from the time when there was some. When the disk is full it is given back, so that
databases, logs and the end of the platform can write.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tidehub import program
from tidehub.errors import TidehubError
from tidehub.site.units import about_size

RESERVE = 32 * 2**20
"""Bytes of the reserve."""
GIVE_BACK = 4 * 2**20
"""With fewer bytes free the reserve is given back."""
REMAKE = 256 * 2**20
"""With so many bytes free beside it, it is made again."""
NEEDED = 64 * 2**20
"""Bytes. With less free, the reserve included, a start of the platform is refused: databases would fail soon."""
NEW_PROGRAMS = 512 * 2**20
"""Bytes that must be free for a new server or cluster; of a small disk a twentieth, and never under `NEEDED`."""
NEW_FILES = 20_000
"""Files that it must be possible to make for the same; of a small file system a twentieth of all."""
ENTRY = 8 * 2**20
"""Bytes that the platform must be able to write to start a server for freeing space."""


class RoomPlaces(Protocol):
    """What must be known of the state's places."""

    @property
    def state(self) -> Path: ...
    @property
    def reserve(self) -> Path: ...


@dataclass(frozen=True)
class Room:
    """A disk at one moment, in bytes. `free`: for this process; `users`: for those who are not root. `files`: how many
    more these can make, of `all_files`, where the file system counts them (0 of 0 where it does not).
    """

    total: int
    free: int
    users: int
    files: int = 0
    all_files: int = 0

    @property
    def minimum(self) -> int:
        """What must be free for something new to be started."""
        return max(NEEDED, min(NEW_PROGRAMS, self.total // 20))

    @property
    def minimum_files(self) -> int:
        """How many more files it must be possible to make for it."""
        return min(NEW_FILES, self.all_files // 20)

    @property
    def short(self) -> bool:
        """Whether nothing new is started, but servers for freeing space."""
        return self.users < self.minimum or self.files < self.minimum_files

    @property
    def full(self) -> bool:
        """Whether not even those are: the platform itself could not write down that it started one."""
        return self.free < ENTRY


def room(places: RoomPlaces) -> Room:
    """The disk of the state now. Raises `TidehubError`."""
    try:
        found = os.statvfs(places.state)
    except OSError as error:
        raise TidehubError(f"cannot see how full the disk of {places.state} is: {error.strerror}") from error
    size = found.f_frsize
    # What ext4 keeps for itself counts as free, and root cannot write it either: up to 2 %, at most 4096 blocks
    # (fs/ext4/super.c, ext4_calculate_resv_clusters).
    roots = found.f_bfree - min(found.f_blocks // 50, 4096)
    free = max(found.f_bavail, roots) if os.geteuid() == 0 else found.f_bavail
    return Room(found.f_blocks * size, free * size, found.f_bavail * size, found.f_favail, found.f_files)


def shortage(places: RoomPlaces) -> str:
    """Why nothing new may be started, in words for users and the operator; "" while there is room."""
    now = room(places)
    if not now.short:
        return ""
    if now.users < now.minimum:
        lack = (
            f"{about_size(now.users)} are free, and a new server or cluster needs {about_size(now.minimum)}"
        )
    else:
        lack = f"{now.files} more files can be made, and a new server or cluster needs {now.minimum_files}"
    return (
        f"the disk of this platform ({disk_name(places.state)}) is full: {lack}. "
        "Delete files that are not needed, or ask the operator for room"
    )


FULL_FOR_USERS = (
    "The disk of this hub is full, so nobody can sign in or start a server until there is room again. "
    "Your files are safe. The operator of this hub is told in its status and its log."
)
"""For pages of the hub."""


def notice(places: RoomPlaces) -> str:
    """What everybody reads on the hub's pages while the hub cannot be relied on to write; "" else. Never fails."""
    with contextlib.suppress(TidehubError):
        if room(places).full:
            return FULL_FOR_USERS
    return ""


def disk_name(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """`path`, and what is mounted there where that can be seen (proc(5)): `/srv/hub on /dev/sdb1`."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        device = path.stat().st_dev
        wanted = f"{os.major(device)}:{os.minor(device)}"
        for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
            front, _, back = line.partition(" - ")
            if front.split()[2] == wanted and back.split()[1].startswith("/"):
                return f"{path} on {back.split()[1]}"
    return str(path)


def require_room(places: RoomPlaces) -> None:
    """Raise `TidehubError` when a platform should not be started on this disk."""
    free = room(places).free + _held(places)
    if free < NEEDED:
        raise TidehubError(
            f"the disk of {disk_name(places.state)} is full: {about_size(free)} are free",
            expected=f"at least {about_size(NEEDED)}",
            fix="make room (what users keep is in homes/, logs are in logs/; "
            f"`{program.command('down', '--state', places.state)}` works on a full disk), or "
            "choose a directory on another disk with --state. No file of the platform has to be removed for it",
        )


def keep_reserve(places: RoomPlaces) -> bool:
    """Make the reserve if there is room for it, give it back if there is none; whether it is there."""
    free = room(places).free
    if _held(places):
        return not (free < GIVE_BACK and give_reserve_back(places))
    return free >= REMAKE and _make(places.reserve)


def give_reserve_back(places: RoomPlaces) -> bool:
    """Give the reserve back if the disk is short of room; whether that was done. Never fails."""
    with contextlib.suppress(OSError, TidehubError):
        if room(places).free < NEEDED:
            places.reserve.unlink()
            return True
    return False


def _held(places: RoomPlaces) -> int:
    """Bytes that the reserve really holds: one that a copy made sparse holds none."""
    try:
        return places.reserve.lstat().st_blocks * 512
    except OSError:
        return 0


def _make(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        return False
    try:
        os.posix_fallocate(descriptor, 0, RESERVE)
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
        return False
    finally:
        os.close(descriptor)
    return True


def report(places: RoomPlaces) -> dict[str, object]:
    """The same for `status`, in JSON's types; `problem` is empty where there is none."""
    try:
        now = room(places)
    except TidehubError as error:
        return {"problem": error.what}
    return {
        "name": disk_name(places.state),
        "total": now.total,
        "free": now.users,
        "minimum": now.minimum,
        "reserve": places.reserve.exists(),
        "problem": shortage(places),
    }
