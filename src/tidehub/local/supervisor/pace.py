"""Why a part does not answer: it hangs, it is stopped, it works, or the machine gives it no time; and how long to wait
before it is started again.

Only what hangs is to be killed. A part that waits for a processor, for memory or for the disk would wait as well
after a restart, and everybody would lose their sessions on the way.
"""

from __future__ import annotations

import contextlib
import enum
import time
from dataclasses import dataclass

from tidehub.system.processes import PROC, read_stat

WAITING_SHARE = 0.3
"""Of the time between two looks, spent ready to run but without a processor: then it is starved."""
WORKING_SHARE = 0.5
"""Of that time, spent on a processor: then it works on something long."""
FAULTS_A_SECOND = 50
"""Page faults that had to wait for the disk."""

PROGRESS_SHARE = 0.1
"""Of the time between two looks, spent on a processor: then a start goes on. Answering our questions takes less."""
PROGRESS_LOOK = 5.0
"""Seconds between two looks at a start."""
LONGEST_START = 15 * 60.0
"""Seconds after which a start is given up, whatever it does."""


class Pace(enum.Enum):
    """What a part did while it did not answer."""

    HANGS = "hangs"
    STOPPED = "stopped"
    WORKS = "works"
    STARVED = "starved"


@dataclass(frozen=True)
class Look:
    """One process at one moment, its threads together. Times in seconds."""

    at: float
    state: str = ""
    """proc_pid_stat(5), field 3, of the first thread."""
    running: float = 0.0
    waiting: float = 0.0
    """For a processor (Documentation/scheduler/sched-stats.rst, /proc/PID/schedstat)."""
    faults: int = 0

    @classmethod
    def at_process(cls, pid: int) -> Look:
        """How `pid` stands now; nothing but the time if it is gone."""
        at = time.monotonic()
        try:
            tasks = list((PROC / str(pid) / "task").iterdir())
        except OSError:
            return cls(at)
        stat = read_stat(pid)
        if stat is None:
            return cls(at)
        running = waiting = 0.0
        for task in tasks:
            # A kernel without the numbers has no file, or zeros: then nothing is taken for starved.
            with contextlib.suppress(OSError, ValueError, IndexError):
                words = (task / "schedstat").read_text().split()
                running, waiting = running + int(words[0]) / 1e9, waiting + int(words[1]) / 1e9
        return cls(at, stat.state, running, waiting, stat.faults)


class Patience:
    """How long a start is waited for: `least` seconds, and for as long as it makes progress, up to `most`.

    A clock alone would end every start on a machine that is slow enough. What hangs uses no processor and no disk.
    """

    def __init__(self, pid: int, least: float, *, most: float = LONGEST_START) -> None:
        self.why = ""
        """What it was busy with, in words, at the last look; empty for nothing."""
        self._pid = pid
        self._least, self._most = least, max(least, most)
        self._before = Look.at_process(pid)
        self._begun = self._before.at

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._begun

    @property
    def beyond(self) -> bool:
        """Whether it takes longer than a start takes on most machines."""
        return self.elapsed > self._least

    def spent(self) -> bool:
        """Whether it is to be given up. Ask often; it looks by itself from time to time."""
        if time.monotonic() - self._before.at < min(PROGRESS_LOOK, self._least / 2):
            return False
        after = Look.at_process(self._pid)
        self.why = progress(self._before, after)
        self._before = after
        return self.elapsed > self._most or (self.beyond and not self.why)


def progress(before: Look, after: Look) -> str:
    """What a starting process did between two looks, in words; empty when it stood still."""
    pace, why = judge(before, after)
    if pace in (Pace.STARVED, Pace.WORKS):
        return why
    lasted, ran = max(after.at - before.at, 1e-3), after.running - before.running
    if pace is Pace.STOPPED or ran / lasted < PROGRESS_SHARE:
        return ""
    return f"it used a processor for {ran:.1f} of {lasted:.1f} s"


def judge(before: Look, after: Look, *, late: float = 0.0) -> tuple[Pace, str]:
    """What happened between two looks, and in words. `late`: seconds by which we ourselves were held up."""
    lasted = max(after.at - before.at, 1e-3)
    if after.state in ("T", "t"):
        return Pace.STOPPED, "the process is stopped"
    ran, waited = after.running - before.running, after.waiting - before.waiting
    if waited / lasted >= WAITING_SHARE and waited > ran:
        return Pace.STARVED, f"it waited for a processor for {waited:.1f} of {lasted:.1f} s"
    if before.state == after.state == "R" and ran / lasted < WAITING_SHARE:
        # The kernel counts the wait when it ends: who got no processor in all that time has waited for nothing yet.
        return Pace.STARVED, f"it waited for a processor for {lasted - ran:.1f} of {lasted:.1f} s"
    if after.state == "D" or (after.faults - before.faults) / lasted >= FAULTS_A_SECOND:
        return Pace.STARVED, "it waits for memory or the disk"
    if late >= max(1.0, lasted / 4):
        return Pace.STARVED, f"the supervisor itself was held up for {late:.1f} s"
    if ran / lasted >= WORKING_SHARE:
        return Pace.WORKS, f"it used a processor for {ran:.1f} of {lasted:.1f} s"
    return Pace.HANGS, ""


@dataclass
class Backoff:
    """Seconds until the next start: doubles from `first` to `most`, begins anew after a run of at least `stable`."""

    first: float = 0.5
    most: float = 30.0
    stable: float = 60.0
    _next: float = 0.0

    def after(self, ran: float) -> float:
        """Seconds to wait after a run that lasted `ran` seconds."""
        delay = self.first if ran >= self.stable or not self._next else self._next
        self._next = min(delay * 2, self.most)
        return delay
