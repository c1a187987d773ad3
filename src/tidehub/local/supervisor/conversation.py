"""Talking with a supervisor, and the one answer to how long its silence is waited for.

One that waits for an end says every `state.HEARTBEAT` seconds that it is there. What says nothing is looked at: is it
stopped, does it hang, or does the machine give it no time? Only the first two are given up.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tidehub.local.supervisor.pace import Look, Pace, judge
from tidehub.local.supervisor.state import Answer, ask_supervisor

LOOK = 3.0
"""Seconds of silence after which it is looked at, again and again."""
HUNG = 9.0
"""Seconds that it hangs, with a processor to be had, until it is given up."""
LONGEST = 60.0
"""Seconds of silence that one gets which the machine gives no time."""


class NoAnswer(TimeoutError):
    """It does not answer. `seconds`: for how long it was waited for."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"no word for {seconds:.0f} s")


def talk(control: Path, pid: int, request: Answer) -> Iterator[Answer]:
    """The answers of supervisor `pid`, as they come; ends when it closes.

    Raises `ConnectionError` when nobody listens, `NoAnswer`, and `TidehubError` when what comes is not understood.
    """
    silence = Silence(pid)
    for answer in ask_supervisor(control, request, timeout=LOOK, while_silent=silence.bear):
        silence.broken()
        yield answer
        silence.broken()


def ask(control: Path, pid: int, request: Answer) -> Answer:
    """The first answer. Raises as `talk` does, and `ConnectionError` when it ends without one."""
    for answer in talk(control, pid, request):
        return answer
    raise ConnectionError("the supervisor ended")


class Silence:
    """The silence of one process since it was last heard."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.broken()

    def broken(self) -> None:
        """It said something."""
        self._before = Look.at_process(self._pid)
        self._since, self._hung = self._before.at, 0.0

    def bear(self) -> None:
        """Called every `LOOK` seconds of it; raises `NoAnswer` when it is not to be waited for any longer."""
        before, after = self._before, Look.at_process(self._pid)
        pace, _ = judge(before, after)
        self._before = after
        if pace is Pace.HANGS:
            self._hung += after.at - before.at
        # A debugger, or a shell, stops a program for a moment.
        stopped = pace is Pace.STOPPED and before.state == after.state
        silent = after.at - self._since
        if stopped or self._hung >= HUNG or silent >= LONGEST:
            raise NoAnswer(silent)
