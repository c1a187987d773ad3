"""Starts on a machine that is too slow for their clock: real processes, which work, stand still or are stopped."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tidehub.local.supervisor.part import StartFailed
from tidehub.local.supervisor.platform import Component, Ready
from tidehub.local.supervisor.supervisor import Supervisor

WORKS = """
import sys, time
from pathlib import Path
end = time.monotonic() + 4
while time.monotonic() < end: pass
Path(sys.argv[1]).touch()
time.sleep(1000)
"""
STANDS_STILL = "import time\ntime.sleep(1000)"
IS_STOPPED = "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)"


def supervisor(tmp_path: Path, code: str, told: list[str]) -> Supervisor:
    file = tmp_path / "ready"

    async def ready() -> Ready:
        return Ready(file.exists(), "no file yet")

    part = Component(
        name="slow",
        argv=[sys.executable, "-I", "-c", code, str(file)],
        env={"PATH": "/usr/bin:/bin"},
        ready=ready,
        probe=None,
        start_timeout=1.0,
        stop_timeout=1.0,
    )
    return Supervisor([part], logs=tmp_path, tell=told.append)


async def test_a_part_that_works_on_its_start_is_waited_for(tmp_path: Path) -> None:
    told: list[str] = []
    one = supervisor(tmp_path, WORKS, told)
    try:
        await one.start()
        assert one.all_ready
        assert [text for text in told if text.startswith("slow: starts slowly, and is waited for: it ")]
    finally:
        await one.stop()


@pytest.mark.parametrize("code", [STANDS_STILL, IS_STOPPED])
async def test_a_part_that_does_nothing_is_given_up(tmp_path: Path, code: str) -> None:
    one = supervisor(tmp_path, code, [])
    try:
        with pytest.raises(StartFailed, match=r"not ready after \d+ s: no file yet"):
            await one.start()
    finally:
        await one.stop()
