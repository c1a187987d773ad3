"""Whatever one program of the platform wants to start waits here, and learns its turn from one look at the ledger.

One task asks for all that wait, in a thread, and only when the ledger has changed: a queue of any length costs the
event loop next to nothing. Hub and gateway each have one; the order among them all is the ledger's.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from tidehub.capacity.ledger import Ledger
from tidehub.capacity.queue import Admitted, Reservation, Verdict, Waiting, never_fits
from tidehub.errors import TidehubError
from tidehub.system.sqlite import Changes

T = TypeVar("T")

LISTEN = 0.25
"""Seconds between two questions whether the ledger has changed."""
BEAT = 5.0
"""Seconds after which the ledger is looked at even unchanged: what waits must be seen, limits may move."""
REST = 50.0
"""How much longer than it worked the task rests after each look: whatever changes, it takes 2 % of a core at most."""
_BROKEN = Waiting(0, 0, "waiting: the platform's capacity ledger cannot be used")


def _always() -> bool:
    return True


def _nothing_refused() -> None:
    return None


def _nobody_told(waiting: Waiting) -> None:
    return None


@dataclass(eq=False)
class Entry:
    """One process that wants to start.

    `ready` is called when its turn has come, `told` with place and reason whenever they change. `wanted` says whether
    it is still wanted, `limit` why its owner may not now; the answer of `limit` may depend on the owner and on the
    kind and size of the reservation, on nothing else.
    """

    reservation: Reservation
    ready: Callable[[], None]
    wanted: Callable[[], bool] = _always
    limit: Callable[[], str | None] = _nothing_refused
    told: Callable[[Waiting], None] = _nobody_told
    waiting: Waiting | None = None
    since: float = 0.0
    queued: bool = False
    admitted: bool = False


class Admission:
    """Asks the ledger for everything that waits in this program. Times are of the event loop's clock."""

    def __init__(self, ledger: Ledger, log: logging.Logger) -> None:
        self._ledger = ledger
        self._log = log
        self._changes = Changes(ledger.file)
        self._entries: dict[str, Entry] = {}
        self._task: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        self._looking = asyncio.Lock()
        self._seen: tuple[object, ...] | None = None
        self._fault = ""

    # --- what others ask ------------------------------------------------------------------------------

    def admitted(self, reservation_id: str) -> bool:
        """Whether its turn has come."""
        entry = self._entries.get(reservation_id)
        return entry is not None and entry.admitted

    def waiting(self, reservation_id: str) -> Waiting | None:
        """Place and reason while it waits."""
        entry = self._entries.get(reservation_id)
        return entry.waiting if entry is not None and not entry.admitted else None

    def waited(self, reservation_id: str) -> float:
        """Seconds since it began to wait; 0 when it does not wait."""
        entry = self._entries.get(reservation_id)
        if entry is None or entry.admitted:
            return 0.0
        return asyncio.get_running_loop().time() - entry.since

    def join(self, entry: Entry) -> None:
        """Begin to wait (once); `entry.ready` is called when the turn comes."""
        if entry.reservation.id in self._entries:
            return
        entry.since = asyncio.get_running_loop().time()
        self._entries[entry.reservation.id] = entry
        self._woken.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="admission")

    async def turn(self, reservation: Reservation, told: Callable[[Waiting], None]) -> None:
        """Return when the turn of `reservation` has come. Giving up (cancelling) takes it out of the queue.

        Raises `NeverFits` when it could not run here even alone.
        """
        self._ledger.check(reservation)
        came = asyncio.Event()
        self.join(Entry(reservation, ready=came.set, told=told))
        try:
            await came.wait()
        except BaseException:
            await self.leave(reservation.id)
            raise
        self._entries.pop(reservation.id, None)

    async def leave(self, reservation_id: str) -> None:
        """Give up waiting, or give back what was held."""
        self._entries.pop(reservation_id, None)
        # A look that is under way may yet admit it; after that, no look asks for it any more.
        async with self._looking:
            await asyncio.to_thread(self._ledger.release, reservation_id)

    async def close(self) -> None:
        """Stop asking; what waits keeps its place in the ledger for the next start."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._changes.close()

    # --- the one task ---------------------------------------------------------------------------------

    async def _run(self) -> None:
        while any(not entry.admitted for entry in self._entries.values()):
            self._woken.clear()
            worked = 0.0
            try:
                async with self._looking:
                    worked = await self._look()
                self._fault = ""
            except TidehubError as error:
                self._say(error)
            except Exception as error:
                self._log.error("Unforeseen fault while looking at the queue", exc_info=error)
            await self._rest(min(BEAT, REST * worked))
            await self._news()

    async def _rest(self, seconds: float) -> None:
        """Do not look for so long; but who is new is queued at once, since the order is that of arrival."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while (left := until - loop.time()) > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), left)
                self._woken.clear()
                with suppress(TidehubError):  # said at the look, which meets the same
                    async with self._looking:
                        await self._queue(self._sort_out(lambda entry: not entry.queued)[0])
        # Whoever joined meanwhile is waiting for a look.
        if any(entry.waiting is None and not entry.admitted for entry in self._entries.values()):
            self._woken.set()

    async def _queue(self, entries: list[Entry]) -> None:
        new = [entry for entry in entries if not entry.queued]
        if new:
            await asyncio.to_thread(self._ledger.ask, *(entry.reservation for entry in new))
            for entry in new:
                entry.queued = True

    async def _news(self) -> None:
        """Return when there is reason to look again: a change, somebody new, or the slow beat."""
        loop = asyncio.get_running_loop()
        until = loop.time() + BEAT
        while not self._woken.is_set() and loop.time() < until:
            with suppress(TidehubError):  # said at the look, which meets the same
                if self._seen is not None and await asyncio.to_thread(self._changes.mark) != self._seen:
                    return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), LISTEN)

    async def _look(self) -> float:
        """Ask for all that wait, and tell each; gives the seconds of CPU that it took."""
        began = time.thread_time()
        asking, dropped = self._sort_out(lambda entry: True)
        worked = time.thread_time() - began
        verdicts, elsewhere = await asyncio.to_thread(self._ask, asking, dropped)
        began = time.thread_time()
        admitted = []
        for entry in asking:
            if self._entries.get(entry.reservation.id) is not entry:
                continue  # it left meanwhile, and waits for this look to end before it gives its reservation back
            verdict = verdicts.get(entry.reservation.id)
            entry.queued = verdict is not None
            if verdict is None:
                self._woken.set()  # dropped, or the ledger is a new one: it is queued again at once
            if isinstance(verdict, Waiting):
                self._tell(entry, verdict)
            elif isinstance(verdict, Admitted):
                admitted.append(entry)
        worked += elsewhere + time.thread_time() - began
        await self._let_go(admitted)
        return worked

    async def _let_go(self, admitted: list[Entry]) -> None:
        came: set[str] = set()
        for entry in admitted:
            owner = entry.reservation.owner
            # One look may admit several of one owner, whose limit the first of them may have reached.
            refused = self._call(entry.limit, entry) if owner in came else None
            if refused:
                await asyncio.to_thread(self._ledger.release, entry.reservation.id)
                entry.queued = False
                self._tell(entry, Waiting(0, 0, refused))
            else:
                came.add(owner)
                entry.admitted, entry.waiting = True, None
                self._call(entry.ready, entry)

    def _sort_out(self, which: Callable[[Entry], bool]) -> tuple[list[Entry], list[Entry]]:
        """Whom to ask for: what is still wanted, within its owner's limits, and possible at all; and the others."""
        limits: dict[tuple[object, ...], str | None] = {}
        asking, dropped = [], []
        for entry in [entry for entry in self._entries.values() if not entry.admitted and which(entry)]:
            reservation = entry.reservation
            if not self._call(entry.wanted, entry):
                del self._entries[reservation.id]
                dropped.append(entry)
                continue
            size = (reservation.owner, reservation.kind, reservation.memory, reservation.cores)
            if size not in limits:
                limits[size] = self._call(entry.limit, entry)
            refused = limits[size] or never_fits(self._ledger.capacity, reservation)
            if refused:
                dropped.append(entry)
                self._tell(entry, Waiting(0, 0, refused))
            else:
                asking.append(entry)
        return asking, dropped

    def _ask(self, asking: list[Entry], dropped: list[Entry]) -> tuple[dict[str, Verdict], float]:
        """In a thread: the verdicts, and the seconds of CPU that they cost."""
        began = time.thread_time()
        for entry in dropped:
            if entry.queued:
                self._ledger.release(entry.reservation.id)
                entry.queued = False
        self._seen = self._changes.mark()
        new = [entry.reservation for entry in asking if not entry.queued]
        if new:
            self._ledger.ask(*new)
        verdicts = self._ledger.turns(entry.reservation.id for entry in asking) if asking else {}
        return verdicts, time.thread_time() - began

    def _say(self, error: TidehubError) -> None:
        """Once in the log, and to everybody who waits."""
        if str(error) != self._fault:
            self._fault = str(error)
            self._log.error("%s", error)
        for entry in self._entries.values():
            if not entry.admitted:
                self._tell(entry, _BROKEN)

    def _tell(self, entry: Entry, waiting: Waiting) -> None:
        if waiting != entry.waiting:
            entry.waiting = waiting
            self._call(lambda: entry.told(waiting), entry)

    def _call(self, function: Callable[[], T], entry: Entry) -> T | None:
        """What a caller gave us; a fault in it must not keep everybody else waiting."""
        try:
            return function()
        except Exception as error:
            self._log.error("Unforeseen fault about %s, which waits", entry.reservation.id, exc_info=error)
            return None
