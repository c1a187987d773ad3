"""Upstream's deadlines of clusters and workers, made to mean running time and standing still.

dask-gateway-server 2026.3 (backends/db_base.py, `_check_timeouts`) compares wall clock times: after a laptop's sleep or
a jump of the clock every cluster has missed its heartbeat, and a start has a fixed number of seconds on any machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from dask_gateway_server.backends.db_base import Cluster, JobStatus, Worker, timestamp

from tidehub.local.supervisor.pace import Patience

JUMP = 5.0
"""Seconds by which the wall clock may run ahead of the monotonic one, or behind, between two looks."""


class Deadlines:
    """What is written down of beginnings and heartbeats, put right before upstream looks at it.

    `process`: the pid of a cluster's scheduler or of a worker; None when it has none. `grant`: seconds that a start
    which makes progress gets at each look, more than the time between two looks.
    """

    def __init__(
        self,
        process: Callable[[Cluster | Worker], int | None],
        *,
        least: float,
        grant: float,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._process = process
        self._least, self._grant = least, grant
        self._wall, self._steady = wall, steady
        self._at = wall(), steady()
        self._starts: dict[tuple[str, int], Patience] = {}

    def put_right(self, db: Any) -> None:
        """Call it right before each look of upstream's. `db`: upstream's `DataManager`."""
        wall, steady = self._wall(), self._steady()
        jump = (wall - self._at[0]) - (steady - self._at[1])
        self._at = wall, steady
        starting = {}
        for cluster in list(db.active_clusters()):
            items = [cluster, *cluster.workers.values()]
            if abs(jump) > JUMP:
                _shift(db, items, round(jump * 1000))
            for item in items:
                if item.status != JobStatus.SUBMITTED or (pid := self._process(item)) is None:
                    continue
                key = item.name, pid
                patience = starting[key] = self._starts.get(key) or Patience(pid, self._least)
                if not patience.spent() and patience.why:
                    # Upstream ends a start `least` seconds after its beginning.
                    _update(
                        db,
                        item,
                        start_time=max(
                            item.start_time, timestamp() - round((self._least - self._grant) * 1000)
                        ),
                    )
        self._starts = starting


def _shift(db: Any, items: list[Any], milliseconds: int) -> None:
    for item in items:
        if item.status == JobStatus.SUBMITTED:
            _update(db, item, start_time=item.start_time + milliseconds)
        if isinstance(item, Cluster) and item.last_heartbeat is not None:
            # Kept in memory alone. One that came after the jump lies in the future then, which does no harm.
            item.last_heartbeat += milliseconds


def _update(db: Any, item: Cluster | Worker, **values: int) -> None:
    (db.update_cluster if isinstance(item, Cluster) else db.update_worker)(item, **values)
