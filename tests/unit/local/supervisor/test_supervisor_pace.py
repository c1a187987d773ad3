"""Starved, stopped, working or hung: what a part did while it did not answer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from tidehub.local.supervisor.pace import Look, Pace, Patience, judge
from tidehub.local.supervisor.platform import Probe


@pytest.mark.parametrize(
    ("after", "late", "pace"),
    [
        (Look(10, "S"), 0.0, Pace.HANGS),
        (Look(10, "T"), 0.0, Pace.STOPPED),
        (Look(10, "T", waiting=9), 0.0, Pace.STOPPED),
        (Look(10, "R", running=0.1, waiting=9), 0.0, Pace.STARVED),
        (Look(10, "R", running=9, waiting=0.9), 0.0, Pace.WORKS),
        (Look(10, "R", running=6, waiting=4), 0.0, Pace.WORKS),
        (Look(10, "D"), 0.0, Pace.STARVED),
        (Look(10, "S", faults=2000), 0.0, Pace.STARVED),
        (Look(10, "S"), 4.0, Pace.STARVED),
        (Look(10), 0.0, Pace.HANGS),
    ],
)
def test_the_judgement(after: Look, late: float, pace: Pace) -> None:
    assert judge(Look(0, "S"), after, late=late)[0] is pace


def test_who_is_ready_to_run_and_got_no_processor_at_all_is_starved() -> None:
    """The kernel adds a wait to its sum when it ends, so the sum stands still too."""
    pace, words = judge(Look(0, "R"), Look(10, "R", running=0.0, waiting=0.0))
    assert pace is Pace.STARVED and words == "it waited for a processor for 10.0 of 10.0 s"
    assert judge(Look(0, "R"), Look(10, "R", running=9.0))[0] is Pace.WORKS


def test_a_stopped_part_is_found_within_fifteen_seconds() -> None:
    probe = Probe()
    assert probe.most(Pace.STOPPED) * (probe.interval + probe.timeout) < 15
    assert probe.most(Pace.HANGS) < probe.most(Pace.WORKS)


def test_real_processes() -> None:
    spin = "while True: pass"
    child = subprocess.Popen([sys.executable, "-c", spin])
    try:
        before = Look.at_process(child.pid)
        until = time.monotonic() + 30
        while (after := Look.at_process(child.pid)).running < before.running + 0.2:
            assert time.monotonic() < until
            time.sleep(0.02)
        child.send_signal(signal.SIGSTOP)
        os.waitpid(child.pid, os.WUNTRACED)
        stopped = Look.at_process(child.pid)
        assert judge(after, stopped)[0] is Pace.STOPPED
    finally:
        child.kill()
        child.wait()
    assert Look.at_process(child.pid).state == ""


def test_a_process_that_gets_no_processor_is_starved() -> None:
    """Many neighbours of a higher priority on its one processor."""
    if not os.path.exists("/proc/self/schedstat") or os.geteuid() != 0:  # noqa: PTH110
        pytest.skip("needs root for negative nice values, and a kernel with schedstat")
    one = {min(os.sched_getaffinity(0))}
    spin = "import os, sys; os.sched_setaffinity(0, eval(sys.argv[1])); os.nice(int(sys.argv[2]))\nwhile True: pass"
    crowd = [subprocess.Popen([sys.executable, "-c", spin, str(one), "-15"]) for _ in range(6)]
    poor = subprocess.Popen([sys.executable, "-c", spin, str(one), "19"])
    try:
        until = time.monotonic() + 60
        verdict = Pace.HANGS
        while verdict is not Pace.STARVED:
            assert time.monotonic() < until
            before = Look.at_process(poor.pid)
            time.sleep(1)
            verdict, words = judge(before, Look.at_process(poor.pid))
        assert "waited for a processor" in words
    finally:
        for process in (*crowd, poor):
            process.kill()
            process.wait()


def test_a_start_is_waited_for_while_it_works_and_given_up_when_it_stands_still() -> None:
    """A real process: it works for 3 s and then sleeps, and had 1 s to be ready."""
    code = "import time\nend = time.time() + 3\nwhile time.time() < end: pass\ntime.sleep(1000)"
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        patience = Patience(process.pid, 1.0)
        while not patience.spent():
            assert patience.elapsed < 60
            time.sleep(0.05)
        assert patience.elapsed > 3
    finally:
        process.kill()
        process.wait()


def test_a_start_that_works_for_ever_is_given_up_too() -> None:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        patience = Patience(process.pid, 0.5, most=2.0)
        while not patience.spent():
            assert patience.elapsed < 60
            time.sleep(0.05)
        assert patience.elapsed > 2
        assert patience.why
    finally:
        process.kill()
        process.wait()
