"""Whatever waits learns its turn from one task, in the ledger's order, and at a cost that the queue's length bounds."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from tidehub.capacity import admission as module
from tidehub.capacity.admission import Admission, Entry
from tidehub.capacity.ledger import Ledger, NeverFits
from tidehub.capacity.queue import NOTEBOOK, WORKER, Capacity, Reservation, Verdict, Waiting

LOG = logging.getLogger("test")
CAPACITY = Capacity(10, 2, 3)
PROCESS = {"pid": 1, "started": 1}
FULL = Reservation("full", WORKER, "eve", 10, 1.0)


class Counting(Ledger):
    """A ledger that counts the looks at it."""

    looks = 0

    def turns(self, ids: Iterable[str]) -> dict[str, Verdict]:
        self.looks += 1
        return super().turns(ids)


def reservation(name: str, memory: int = 4, owner: str = "ada") -> Reservation:
    return Reservation(name, NOTEBOOK, owner, memory, 1.0)


@pytest.fixture
def ledger(tmp_path: Path) -> Counting:
    return Counting(tmp_path / "ledger.sqlite", CAPACITY)


@asynccontextmanager
async def admission_of(ledger: Ledger) -> AsyncIterator[Admission]:
    admission = Admission(ledger, LOG)
    try:
        yield admission
    finally:
        await admission.close()


async def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.01)


def ignore(waiting: Waiting) -> None:
    """For those who do not read why they wait."""


async def test_turns_come_in_the_order_of_arrival(ledger: Counting) -> None:
    ledger.adopt(FULL, PROCESS)
    order: list[str] = []

    async def one(admission: Admission, name: str) -> None:
        await admission.turn(reservation(name, 5), ignore)
        order.append(name)
        await admission.leave(name)

    async with admission_of(ledger) as admission:
        tasks = [asyncio.create_task(one(admission, f"n{n}")) for n in range(12)]
        await until(lambda: len(ledger.queue()) == 12)
        ledger.release("full")
        await asyncio.wait_for(asyncio.gather(*tasks), 30)
    assert order == [f"n{n}" for n in range(12)]
    assert ledger.usage().memory == 0


async def test_two_programs_share_one_order(ledger: Counting, tmp_path: Path) -> None:
    """Hub and gateway wait at the same ledger: what one gives back wakes the other."""
    ledger.adopt(FULL, PROCESS)
    order: list[str] = []

    async def one(admission: Admission, name: str) -> None:
        await admission.turn(reservation(name, 8), ignore)
        order.append(name)
        await admission.leave(name)

    other = Counting(ledger.path, CAPACITY)
    async with admission_of(ledger) as hub, admission_of(other) as gateway:
        tasks = []
        for number, admission in enumerate((hub, gateway, hub, gateway)):
            tasks.append(asyncio.create_task(one(admission, f"n{number}")))
            await until(lambda number=number: len(ledger.queue()) == number + 1)  # type: ignore[misc]
        began = time.monotonic()
        ledger.release("full")
        await asyncio.wait_for(asyncio.gather(*tasks), 30)
    assert order == ["n0", "n1", "n2", "n3"]
    assert time.monotonic() - began < 4 * module.BEAT, "woken by changes, not by the slow beat"


async def test_nobody_looks_while_nothing_changes(ledger: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue's cost at rest: no look at all until the beat, whatever its length."""
    monkeypatch.setattr(module, "LISTEN", 0.005)
    monkeypatch.setattr(module, "REST", 0.0)
    ledger.adopt(FULL, PROCESS)
    async with admission_of(ledger) as admission:
        entries = [Entry(reservation(f"n{n}"), ready=lambda: None) for n in range(1000)]
        for entry in entries:
            admission.join(entry)
        await until(lambda: all(entry.waiting for entry in entries))
        # The look that queued them changed the ledger itself, so there may be one more.
        await until(lambda: ledger.looks >= 2)
        settled = ledger.looks
        assert settled <= 3, "one look for all, not one for each"
        asked = 0
        mark = admission._changes.mark

        def count() -> tuple[object, ...]:
            nonlocal asked
            asked += 1
            return mark()

        monkeypatch.setattr(admission._changes, "mark", count)
        await until(lambda: asked > 100)
        assert ledger.looks == settled
        ledger.release("nobody")  # changes no row: sqlite does not count it
        ledger.adopt(Reservation("more", WORKER, "eve", 1, 1.0), PROCESS)
        await until(lambda: ledger.looks > settled)
        assert [entry.waiting.place for entry in entries if entry.waiting] == list(range(1, 1001))


async def test_a_thousand_who_wait_cost_less_than_two_percent_of_a_core(ledger: Counting) -> None:
    """Measured in this process's own CPU time, which other programs on the machine do not lengthen much."""
    ledger.adopt(FULL, PROCESS)
    async with admission_of(ledger) as admission:
        waiting = [
            asyncio.create_task(admission.turn(reservation(f"n{n}", owner=f"u{n}"), ignore))
            for n in range(1000)
        ]
        await until(lambda: len(ledger.queue()) == 1000)
        await asyncio.sleep(1)
        cpu, wall = time.process_time(), time.monotonic()
        await asyncio.sleep(2 * module.BEAT + 1)
        share = (time.process_time() - cpu) / (time.monotonic() - wall)
        print(f"1,000 waiting: {share:.2%} of a core")
        await _cancel(waiting)
    assert share < 0.02
    assert ledger.queue() == [], "who gives up leaves nothing behind"


async def test_a_ledger_that_changes_all_the_time_costs_no_more(ledger: Counting) -> None:
    """A hundred changes a second, and still the looks take their small share: the task rests after each."""
    ledger.adopt(FULL, PROCESS)
    worked: list[float] = []
    plain = ledger.turns

    def timed(ids: Iterable[str]) -> dict[str, Verdict]:
        began = time.thread_time()
        try:
            return plain(ids)
        finally:
            worked.append(time.thread_time() - began)

    ledger.turns = timed  # type: ignore[method-assign]
    async with admission_of(ledger) as admission:
        for n in range(500):
            admission.join(Entry(reservation(f"n{n}"), ready=lambda: None))
        await until(lambda: len(worked) >= 1)
        worked.clear()
        began = time.monotonic()
        number = 0
        while time.monotonic() - began < 4:
            number += 1
            await asyncio.to_thread(ledger.adopt, Reservation(f"x{number}", WORKER, "eve", 1, 1.0), PROCESS)
            await asyncio.to_thread(ledger.release, f"x{number}")
            await asyncio.sleep(0.01)
        share = sum(worked[:-1]) / (time.monotonic() - began)
        assert worked, "it goes on looking"
    assert share < 0.03, f"{share:.2%} of a core for {len(worked)} looks, {number} changes"


async def test_words_come_only_when_they_change(ledger: Counting) -> None:
    ledger.adopt(FULL, PROCESS)
    told: list[Waiting] = []
    async with admission_of(ledger) as admission:
        first = asyncio.create_task(admission.turn(reservation("first"), ignore))
        second = asyncio.create_task(admission.turn(reservation("second"), told.append))
        await until(lambda: bool(told))
        before = ledger.looks
        for n in range(3):
            looks = ledger.looks
            ledger.adopt(Reservation(f"x{n}", WORKER, "eve", 1, 1.0), PROCESS)
            await until(lambda looks=looks: ledger.looks > looks)  # type: ignore[misc]
        assert ledger.looks >= before + 3
        assert [waiting.place for waiting in told] == [2]
        await _cancel([first])
        await until(lambda: len(told) == 2)
        assert told[-1].place == 1
        await _cancel([second])


async def test_who_gives_up_in_the_middle_of_a_look_holds_nothing(ledger: Counting) -> None:
    """The look that is under way admits them; nobody would ever give that back."""
    plain = ledger.turns
    loop = asyncio.get_running_loop()
    inside = asyncio.Event()

    def slow(ids: Iterable[str]) -> dict[str, Verdict]:
        loop.call_soon_threadsafe(inside.set)
        time.sleep(0.2)
        return plain(ids)

    ledger.turns = slow  # type: ignore[method-assign]
    async with admission_of(ledger) as admission:
        task = asyncio.create_task(admission.turn(reservation("a"), ignore))
        await inside.wait()
        await _cancel([task])
        assert ledger.usage().memory == 0
        ledger.turns = plain  # type: ignore[method-assign]
        async with asyncio.timeout(10):
            await admission.turn(reservation("a"), ignore)
        assert ledger.usage().memory == 4


async def test_what_never_fits_is_an_error_for_a_server_and_words_for_a_worker(ledger: Counting) -> None:
    async with admission_of(ledger) as admission:
        with pytest.raises(NeverFits, match="can never run here"):
            await admission.turn(reservation("large", 11), ignore)
        entry = Entry(reservation("larger", 12), ready=lambda: None)
        admission.join(entry)
        await until(lambda: entry.waiting is not None)
        assert entry.waiting is not None and "can never run here" in entry.waiting.reason
        async with asyncio.timeout(10):
            await admission.turn(reservation("small"), ignore)


async def test_a_limit_keeps_a_worker_out_of_the_queue_and_is_asked_again(
    ledger: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEAT", 0.2)
    most = 1
    ready: list[str] = []

    def limit() -> str | None:
        return "your limit is reached" if len(ready) >= most else None

    async with admission_of(ledger) as admission:
        for name in ("a", "b", "c"):
            admission.join(
                Entry(reservation(name, 2), ready=lambda name=name: ready.append(name), limit=limit)  # type: ignore[misc]
            )
        await until(lambda: ready == ["a"] and admission.waiting("c") is not None)
        await until(lambda: ledger.usage().waiting == 0 and ledger.usage().memory == 2)
        assert admission.waiting("b") == Waiting(0, 0, "your limit is reached")
        most = 2
        await until(lambda: ready == ["a", "b"])
        assert admission.admitted("b") and not admission.admitted("c")


async def test_what_is_no_longer_wanted_leaves_by_itself(
    ledger: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEAT", 0.2)
    ledger.adopt(FULL, PROCESS)
    wanted = True
    async with admission_of(ledger) as admission:
        admission.join(Entry(reservation("a"), ready=lambda: None, wanted=lambda: wanted))
        await until(lambda: len(ledger.queue()) == 1)
        wanted = False
        await until(lambda: ledger.queue() == [] and admission.waiting("a") is None)


async def test_a_fault_of_one_keeps_nobody_else_waiting(ledger: Counting) -> None:
    def broken() -> str | None:
        raise ValueError("a limit that cannot be told")

    async with admission_of(ledger) as admission:
        admission.join(Entry(reservation("broken", 2), ready=lambda: 1 / 0, limit=broken))  # type: ignore[arg-type,return-value]
        async with asyncio.timeout(10):
            await admission.turn(reservation("fine", 2), ignore)


async def test_a_ledger_that_breaks_is_said_and_waiting_goes_on_when_it_is_whole(
    ledger: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEAT", 0.2)
    ledger.adopt(FULL, PROCESS)
    told: list[Waiting] = []
    async with admission_of(ledger) as admission:
        task = asyncio.create_task(admission.turn(reservation("a"), told.append))
        await until(lambda: bool(told))
        with sqlite3.connect(ledger.path) as db:
            db.execute("ALTER TABLE claims RENAME TO elsewhere")
        db.close()
        await until(lambda: "cannot be used" in told[-1].reason)
        with sqlite3.connect(ledger.path) as db:
            db.execute("ALTER TABLE elsewhere RENAME TO claims")
        db.close()
        ledger.release("full")
        await asyncio.wait_for(task, 20)


async def test_a_ledger_made_anew_is_followed(ledger: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file is another one then; a connection to the old one would never tell of a change."""
    monkeypatch.setattr(module, "BEAT", 60.0)
    ledger.adopt(FULL, PROCESS)
    told: list[Waiting] = []
    async with admission_of(ledger) as admission:
        task = asyncio.create_task(admission.turn(reservation("a"), told.append))
        await until(lambda: bool(told))
        for name in ("ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"):
            ledger.path.with_name(name).unlink(missing_ok=True)
        Ledger(ledger.path, CAPACITY)
        await asyncio.wait_for(task, 20)


async def test_a_paused_ledger_admits_nobody_and_going_on_wakes_those_who_wait(ledger: Counting) -> None:
    ledger.pause()
    told: list[Waiting] = []
    async with admission_of(ledger) as admission:
        task = asyncio.create_task(admission.turn(reservation("a"), told.append))
        await until(lambda: bool(told))
        assert "being stopped" in told[-1].reason
        ledger.resume()
        await asyncio.wait_for(task, 20)


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    with suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks, return_exceptions=True)
