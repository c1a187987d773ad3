"""jupyterhub-idle-culler, with idleness by the monotonic clock.

jupyterhub-idle-culler 1.4 takes the wall clock's time less `last_activity`: after a laptop's night of sleep, or a jump
of the clock, everybody has been idle for hours. CLOCK_MONOTONIC neither counts suspended time nor jumps
(clock_gettime(2)), so a server is idle for as long as its `last_activity` was seen not to change by that clock. The
hook for it is upstream's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

FORGET = 24 * 3600.0
"""Seconds after which a server that was not asked about is forgotten."""


@dataclass
class _Seen:
    activity: object
    since: float
    looked: float


class Idleness:
    """How long servers have been idle, by `clock`. A culler that was just started has seen nobody idle yet."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[tuple[object, object], _Seen] = {}

    def seconds(self, server: Mapping[str, Any], inactive: timedelta | None) -> float:
        """Idle seconds of `server`, JupyterHub's model of it; `inactive`: the same by the wall clock."""
        now = self._clock()
        key = (server.get("url"), server.get("started"))
        activity = server.get("last_activity")
        seen = self._seen.get(key)
        if seen is None:
            self._seen = {name: one for name, one in self._seen.items() if now - one.looked < FORGET}
            seen = self._seen[key] = _Seen(activity, now, now)
        elif seen.activity != activity:
            # It was active between our two looks; the wall clock says when, as far as that can be believed.
            wall = inactive.total_seconds() if inactive is not None else 0.0
            seen.activity, seen.since = activity, now - min(max(wall, 0.0), now - seen.looked)
        seen.looked = now
        return now - seen.since


def main() -> None:
    """Run the culler with the arguments of the command line."""
    from jupyterhub_idle_culler import IdleCuller

    from tidehub.local.hub import http_unix

    http_unix.install()

    idleness = Idleness()

    def arbiter(*, inactive: timedelta | None, inactive_limit: float, server: Mapping[str, Any]) -> bool:
        return idleness.seconds(server, inactive) >= inactive_limit

    IdleCuller.cull_arbiter_hook.default_value = arbiter
    IdleCuller.launch_instance()


if __name__ == "__main__":
    main()
