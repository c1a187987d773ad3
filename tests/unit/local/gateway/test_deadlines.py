from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from dask_gateway_server.backends.db_base import Cluster, DataManager, JobStatus, timestamp

from tidehub.local.gateway.deadlines import Deadlines


class Clocks:
    def __init__(self) -> None:
        self.wall = self.steady = 0.0


@pytest.fixture
def db() -> DataManager:
    return DataManager()


def cluster(db: DataManager, status: JobStatus) -> Cluster:
    made = db.create_cluster("ana", {}, {})
    db.update_cluster(made, status=status, target=JobStatus.RUNNING)
    return made


@pytest.mark.parametrize("jump", [10 * 3600.0, -10 * 3600.0])
async def test_a_resume_or_a_clock_that_jumps_loses_no_heartbeat(db: DataManager, jump: float) -> None:
    clocks = Clocks()
    deadlines = Deadlines(
        lambda item: None, least=180, grant=60, wall=lambda: clocks.wall, steady=lambda: clocks.steady
    )
    running = cluster(db, JobStatus.RUNNING)
    starting = cluster(db, JobStatus.SUBMITTED)
    running.last_heartbeat = before = timestamp()
    begun = starting.start_time
    clocks.wall, clocks.steady = 20 + jump, 20
    deadlines.put_right(db)
    assert running.last_heartbeat == before + jump * 1000
    assert starting.start_time == begun + jump * 1000
    clocks.wall, clocks.steady = clocks.wall + 20, 40
    deadlines.put_right(db)
    assert running.last_heartbeat == before + jump * 1000, "counted once"


@pytest.fixture
def busy() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    yield process
    process.kill()
    process.wait()


async def test_a_start_that_works_is_waited_for_and_one_that_stands_still_is_not(
    db: DataManager, busy: subprocess.Popen[bytes]
) -> None:
    deadlines = Deadlines(lambda item: busy.pid, least=2, grant=1)
    starting = cluster(db, JobStatus.SUBMITTED)
    db.update_cluster(starting, start_time=(begun := timestamp() - 10_000))
    until = time.monotonic() + 20
    while starting.start_time == begun:
        assert time.monotonic() < until, "it works, and was not waited for"
        deadlines.put_right(db)
        await asyncio.sleep(1.1)
    os.kill(busy.pid, signal.SIGSTOP)
    await asyncio.sleep(1.1)
    deadlines.put_right(db)
    db.update_cluster(starting, start_time=(begun := timestamp() - 10_000))
    await asyncio.sleep(1.1)
    deadlines.put_right(db)
    assert starting.start_time == begun
