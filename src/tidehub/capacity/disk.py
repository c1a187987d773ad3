"""How much of the disk a user may take, and what follows from how much they take (pure).

Two limits stand beside each other. `notebooks.home.size` is the user's own: above it, their new servers and clusters
are refused. The minimum of free space is the platform's (`local/room.py`): below it, everybody's are. Neither locks
anybody out of their files: a server for freeing space (`FREE_SPACE`) is started in both cases, in which no file can
grow beyond `LARGEST_FILE`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tidehub.site.units import about_size, format_size

WARN_AT = 0.9
"""Of the limit: from here on the user is warned."""
LARGEST_FILE = 16 * 2**20
"""Bytes that a file may have that is written in a server for freeing space. Larger ones can be deleted and moved."""
FREE_SPACE = "free_space"
"""The option that asks for such a server; in the hub's API: `{"free_space": true}`."""

CLEAN_UP = (
    "Start a server for freeing space, delete what is not needed, then stop it and start your server as usual. In a "
    "server for freeing space, files can be read, moved and deleted, and none can be written that is larger than "
    f"{format_size(LARGEST_FILE)}."
)


@dataclass(frozen=True)
class DiskUse:
    """What a user's files take: `bytes` on the disk, and whether that is all (`complete`) or what could be counted."""

    bytes: int
    complete: bool = True


class Verdict(Enum):
    """What a user's use of the disk means for them."""

    FREE = "free"
    NEAR = "near"
    OVER = "over"


def judge(use: DiskUse | None, limit: int | None) -> Verdict:
    """`limit` in bytes, None for none. What was not counted yet is free: nobody is refused for what nobody knows."""
    if use is None or limit is None:
        return Verdict.FREE
    if use.bytes > limit:
        return Verdict.OVER
    return Verdict.NEAR if use.bytes >= limit * WARN_AT else Verdict.FREE


def words(use: DiskUse | None, limit: int | None) -> str:
    """What the user is told on the hub's pages; "" when there is nothing to tell."""
    if refused := refusal(use, limit):
        return f"{refused} {CLEAN_UP}"
    if use is None or limit is None or judge(use, limit) is not Verdict.NEAR:
        return ""
    return f"{_takes(use, limit)}. Above that, no new server or cluster can be started: delete what is not needed."


def refusal(use: DiskUse | None, limit: int | None) -> str:
    """Why a new server or cluster of this user is refused; "" when it is not."""
    if use is None or limit is None or judge(use, limit) is not Verdict.OVER:
        return ""
    return f"{_takes(use, limit)}, so no new server or cluster can be started."


def _takes(use: DiskUse, limit: int) -> str:
    size = about_size(use.bytes) if use.complete else f"at least {about_size(use.bytes)}"
    return f"Your files take {size}, and {about_size(limit)} is what each user may use here"
