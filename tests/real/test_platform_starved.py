"""As root: users' programs with the largest promises take every processor; the platform's parts go on answering."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
from isolation_programs import UIDS, appears, places, spec
from supervisor_dummies import free_port, service, until

from tidehub.local.isolation import Limits, choose_isolation
from tidehub.local.supervisor.platform import Probe
from tidehub.local.supervisor.supervisor import Supervisor

pytestmark = [
    pytest.mark.real,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for users with uids of their own"),
]

BUSY = """
import os
for _ in range(int(__import__("sys").argv[1]) - 1):
    if os.fork() == 0: break
open("ready", "w").close()
while True: pass
"""
SECONDS = 12


async def test_parts_answer_while_users_take_every_processor(tmp_path: Path) -> None:
    root = Path(tempfile.mkdtemp(prefix="iso-", dir="/var/lib"))
    isolation = choose_isolation(places(root), uids=UIDS)
    if not isolation.capabilities.cpu:
        shutil.rmtree(root)
        pytest.skip(f"no CPU control group on this machine: {isolation.ground.no_cgroups}")
    isolation.enter_platform()
    told: list[str] = []
    # Answers within a second or counts as failed; two failures and it is killed.
    part = service("part", free_port(), probe=Probe(interval=0.3, timeout=1.0, failures=2))
    part = replace(part, groups=isolation.part_groups("part"))
    supervisor = Supervisor([part], logs=tmp_path, tell=told.append)
    try:
        await supervisor.start()
        pid = supervisor.parts()[0].pid
        for name in ("alice", "bob", "carol"):
            user = isolation.user(name)
            # The largest weight that a promise can bring: 10,000 in v2, 262,144 shares in v1.
            limits = Limits(cores_guarantee=256.0)
            isolation.launch(
                spec(isolation, user, BUSY, str(8 * len(os.sched_getaffinity(0))), limits=limits)
            )
            await appears(user.home / "ready")
        slowest, end = 0.0, time.monotonic() + SECONDS
        while time.monotonic() < end:
            begin = time.monotonic()
            answer = await part.ready()
            slowest = max(slowest, time.monotonic() - begin)
            assert answer.ok, answer.why
            await asyncio.sleep(0.1)
        found = supervisor.parts()[0]
        assert (found.restarts, found.pid, told) == (0, pid, []), found
        assert slowest < 1.0, f"the slowest answer took {slowest:.2f} s"
        # Hung is found all the same, under the same load.
        assert pid is not None
        begin = time.monotonic()
        os.kill(pid, signal.SIGSTOP)
        await until(lambda: supervisor.parts()[0].restarts == 1, 15)
        assert time.monotonic() - begin < 15
    finally:
        await isolation.stop_all(grace=0)
        await supervisor.stop()
        isolation.leave_platform()
        isolation.dismantle()
        shutil.rmtree(root)
    assert not any(
        (base / isolation.ground.cgroups.name).exists()
        for base in (isolation.ground.cgroups.bases if isolation.ground.cgroups else ())
    )
