"""Whether the writer of users' logs works: the clock that it leaves beside the pipes at every round."""

from __future__ import annotations

import time
from pathlib import Path

from tidehub.local.supervisor.platform import Check, Ready

ALIVE = "alive"
OLDEST = 3.0
"""Seconds since its last round; it goes round four times a second, unless a disk holds it up."""


def goes_round(pipes: Path) -> Check:
    """The readiness question for the part `logs`."""

    async def check() -> Ready:
        try:
            age = time.monotonic() - float((pipes / ALIVE).read_text(encoding="ascii"))
        except (OSError, ValueError):
            return Ready(False, "it has not begun to read")
        # The clock counts from boot (CLOCK_MONOTONIC), so an older boot's may lie in the future.
        fresh = 0 <= age < OLDEST
        return Ready(fresh, "" if fresh else f"its last round was {age:.0f} s ago")

    return check
