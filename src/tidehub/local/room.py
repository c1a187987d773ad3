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


class RoomPlaces(Protocol):
    """What must be known of the state's places."""

    @property
    def state(self) -> Path: ...
    @property
    def reserve(self) -> Path: ...


@dataclass(frozen=True)
class Room:
    """A disk at one moment, in bytes. `free`: for this process; `users`: for those who are not root."""

    total: int
    free: int
    users: int

    @property
    def minimum(self) -> int:
        """What must be free for something new to be started."""
        return max(NEEDED, min(NEW_PROGRAMS, self.total // 20))

    @property
    def short(self) -> bool:
        """Whether nothing new is started."""
        return self.users < self.minimum


def room(places: RoomPlaces) -> Room:
    """The disk of the state now. Raises `TidehubError`."""
    try:
        found = os.statvfs(places.state)
    except OSError as error:
        raise TidehubError(f"cannot see how full the disk of {places.state} is: {error.strerror}") from error
    size = found.f_frsize
    free = found.f_bfree if os.geteuid() == 0 else found.f_bavail
    return Room(found.f_blocks * size, free * size, found.f_bavail * size)


def shortage(places: RoomPlaces) -> str:
    """Why nothing new may be started, in words for users and the operator; "" while there is room."""
    now = room(places)
    if not now.short:
        return ""
    return (
        f"the disk of this platform is full: {about_size(now.users)} are free, and a new server or cluster needs "
        f"{about_size(now.minimum)}. Delete files that are not needed, or ask the operator for room"
    )


def require_room(places: RoomPlaces) -> None:
    """Raise `TidehubError` when a platform should not be started on this disk."""
    free = room(places).free + _held(places)
    if free < NEEDED:
        raise TidehubError(
            f"the disk of {places.state} is full: {about_size(free)} are free",
            expected=f"at least {about_size(NEEDED)}",
            fix="make room (what users keep is in homes/, logs are in logs/; `tidehub down` works on a full disk), or "
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
        "total": now.total,
        "free": now.users,
        "minimum": now.minimum,
        "reserve": places.reserve.exists(),
        "problem": shortage(places),
    }
