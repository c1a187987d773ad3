"""Schedulers and workers wait here for the machine's memory, in the order in which they were asked for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from tidehub.capacity.ledger import Ledger, NeverFits, UnknownClaim
from tidehub.capacity.queue import Admitted, Claim, Waiting
from tidehub.errors import TidehubError

POLL = 0.25
"""Seconds between two looks at the queue."""
RETRY = 5.0
"""Seconds between two tries where only a change elsewhere (a limit, the ledger's file) can help."""


@dataclass
class Entry:
    """One process that wants to start. `wanted` says whether it is still wanted, `limit` why its owner may
    not now.
    """

    claim: Claim
    wanted: Callable[[], bool]
    limit: Callable[[], str | None]
    ready: Callable[[], None]
    waiting: Waiting | None = None
    since: float = 0.0
    admitted: bool = False


class Admission:
    """Keeps asking the ledger for everything that waits. Times are of the event loop's clock."""

    def __init__(self, ledger: Ledger, log: logging.Logger) -> None:
        self._ledger = ledger
        self._log = log
        self._entries: dict[str, Entry] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def admitted(self, claim_id: str) -> bool:
        """Whether its turn has come."""
        entry = self._entries.get(claim_id)
        return entry is not None and entry.admitted

    def waiting(self, claim_id: str) -> Waiting | None:
        """Place and reason while it waits."""
        entry = self._entries.get(claim_id)
        return entry.waiting if entry is not None and not entry.admitted else None

    def waited(self, claim_id: str) -> float:
        """Seconds since it began to wait; 0 when it does not wait."""
        entry = self._entries.get(claim_id)
        if entry is None or entry.admitted:
            return 0.0
        return asyncio.get_running_loop().time() - entry.since

    def join(self, entry: Entry) -> None:
        """Begin to wait (once); `entry.ready` is called when the turn comes."""
        claim_id = entry.claim.id
        if claim_id in self._entries:
            return
        entry.since = asyncio.get_running_loop().time()
        self._entries[claim_id] = entry
        self._tasks[claim_id] = asyncio.create_task(self._wait(entry), name=f"admission of {claim_id}")

    async def leave(self, claim_id: str) -> None:
        """Give up waiting, or give back what was held."""
        self._entries.pop(claim_id, None)
        task = self._tasks.pop(claim_id, None)
        if task is not None and not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await asyncio.to_thread(self._ledger.release, claim_id)

    async def close(self) -> None:
        """Stop asking; what waits keeps its place in the ledger for the next start."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _wait(self, entry: Entry) -> None:
        while entry.wanted():
            pause = POLL
            try:
                if await self._turn(entry):
                    entry.admitted = True
                    entry.waiting = None
                    entry.ready()
                    return
                if entry.waiting is not None and entry.waiting.place == 0:
                    pause = RETRY
            except NeverFits as error:
                entry.waiting = Waiting(0, 0, str(error.what))
                pause = RETRY
            except TidehubError as error:
                self._log.error("%s", error)
                entry.waiting = Waiting(0, 0, "waiting: the platform's capacity ledger cannot be used")
                pause = RETRY
            await asyncio.sleep(pause)
        await asyncio.to_thread(self._ledger.release, entry.claim.id)

    async def _turn(self, entry: Entry) -> bool:
        refused = entry.limit()
        if refused:
            entry.waiting = Waiting(0, 0, refused)
            await asyncio.to_thread(self._ledger.release, entry.claim.id)
            return False
        try:
            verdict = await asyncio.to_thread(self._ledger.turn, entry.claim.id)
        except UnknownClaim:
            await asyncio.to_thread(self._ledger.ask, entry.claim)
            verdict = await asyncio.to_thread(self._ledger.turn, entry.claim.id)
        if isinstance(verdict, Admitted):
            return True
        entry.waiting = verdict
        return False
