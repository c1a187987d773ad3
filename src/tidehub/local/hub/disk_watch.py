"""Watches what users' files take of the disk: in the background, and who starts or stops a server at once.

The hub never waits for a measurement but for a moment where one would end a refusal. What was measured is kept in
`private/disk-use.json`, for the gateway, for `tidehub status` and for the next start of the hub.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prometheus_client import Gauge

from tidehub.capacity.disk import DiskUse, Verdict, judge, refusal, words
from tidehub.errors import TidehubError
from tidehub.local.disk_quota import DiskQuota
from tidehub.local.disk_use import Question, measure, read_uses, write_uses
from tidehub.local.hub.spawner_words import NoRoom
from tidehub.local.isolation import Isolation
from tidehub.local.isolation.homes import TEMPORARY
from tidehub.local.isolation.users import Entry
from tidehub.local.places import Places
from tidehub.local.room import room, shortage

ROUND = 6 * 3600.0
"""Seconds between two rounds over all users; the first is made when the hub starts."""
WORKING_ROUND = 60.0
"""Seconds between two looks at those whose programs run: only their files grow."""
SHARE = 20
"""So many times as long as a look at a user took is waited at least until the next round looks at the same one: many
files cost little of a core, and only their owner is looked at more seldom for them."""
TOGETHER = 4
"""Users whose files are measured at the same time, of those who start or stop a server."""
STARTING = 16 * 2**20
"""Bytes above the limit, or above what is used if that is more, which a user may write while a server of theirs runs:
JupyterLab and kernels do not start without."""
FRESH = 5.0
"""Seconds that a user who is refused waits for a new measurement: they may have deleted what was too much."""

_FREE = Gauge("tidehub_disk_free_bytes", "Bytes that users can still write on the disk of the state")
_MINIMUM = Gauge("tidehub_disk_minimum_bytes", "Bytes that must be free for a new server or cluster")
_OVER = Gauge("tidehub_users_over_home_size", "Users whose files take more than notebooks.home.size")


class DiskWatch:
    """Who takes how much, against `limit` bytes (None: nobody is measured, nobody is refused)."""

    def __init__(self, places: Places, isolation: Isolation, limit: int | None, log: Any) -> None:
        self.limit = limit
        self._places = places
        self._isolation = isolation
        self._log = log
        self._uses = read_uses(places.disk_use) if limit is not None else {}
        self._soon: set[str] = set()
        self._asked = asyncio.Event()
        self._quota = DiskQuota.of(places.homes) if limit is not None else None
        self._measured: dict[str, asyncio.Event] = {}
        self._next: dict[str, float] = {}
        """When a round looks at a user again (monotonic)."""
        self._writing = asyncio.Lock()
        self._granted: dict[str, int] = {}
        """Bytes that users may have while a server of theirs runs, where the kernel counts. Of servers that an earlier
        hub started the kernel knows it, see `_by_quota`."""

    async def go(self) -> None:
        """Watch until this is cancelled."""
        await asyncio.gather(self._rounds(), self._those_who_ask())

    def words(self, user: str) -> str:
        """What the user is told, see `capacity.disk.words`."""
        return words(self._uses.get(user), self.limit)

    async def set_quota(self, user: str) -> None:
        """Have the kernel hold the user to the limit, where it can, with a little more until `stopped`: who is at the
        limit must get in to delete. Raises `TidehubError`.
        """
        entry = await asyncio.to_thread(self._isolation.users.enrol, user)
        if self._quota is not None and self.limit is not None:
            used = 0
            with contextlib.suppress(OSError, TidehubError):
                used = await asyncio.to_thread(self._quota.used, entry.number)
            self._granted[user] = max(self.limit, used) + STARTING
            await asyncio.to_thread(self._quota.set_limit, entry.number, self._granted[user])

    def stopped(self, user: str) -> None:
        """A server of the user has stopped: the limit counts again, and their files are measured soon."""
        self._granted.pop(user, None)
        self.look_at(user)

    def look_at(self, user: str) -> None:
        """Measure this user's files soon. Waits for nothing."""
        if self.limit is not None:
            self._soon.add(user)
            self._asked.set()

    async def refusal(self, user: str) -> str:
        """Why the user may start no usual server, in sentences; "" if they may.

        Measured anew before somebody is refused. Raises `NoRoom` while not even a server for freeing space may be
        started.
        """
        if problem := shortage(self._places):
            said = f"{problem[:1].upper()}{problem[1:]}."
            if room(self._places).full:
                raise NoRoom(f"{said} Your files are safe, and what runs goes on.")
            return said
        if not refusal(self._uses.get(user), self.limit):
            return ""
        measured = self._measured.setdefault(user, asyncio.Event())
        self.look_at(user)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(measured.wait(), FRESH)
        return refusal(self._uses.get(user), self.limit)

    async def _rounds(self) -> None:
        last = -ROUND
        while True:
            self._count_room()
            now = time.monotonic()
            whole = now - last >= ROUND
            last = now if whole else last
            await self._look(None, whole=whole)
            await asyncio.sleep(WORKING_ROUND)

    async def _those_who_ask(self) -> None:
        """Each is measured in a process of their own: how long that takes is a user's choice, and nobody waits for what
        another one has piled up.
        """
        together, under_way = asyncio.Semaphore(TOGETHER), set[str]()

        async def measure_now(user: str) -> None:
            async with together:
                self._soon.discard(user)
                measured = self._measured.pop(user, None)
                await self._look({user})
            if measured is not None:
                measured.set()
            under_way.discard(user)
            self._asked.set()  # whoever asked meanwhile is measured once more

        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._asked.wait()
                self._asked.clear()
                for user in self._soon - under_way:
                    under_way.add(user)
                    tasks.create_task(measure_now(user), name=f"measure the files of {user}")

    async def _look(self, users: set[str] | None, *, whole: bool = False) -> None:
        """Measure the files of `users`; None: of those whose programs run and whose turn it is, or all if `whole`."""
        if self.limit is None:
            return
        try:
            questions = await asyncio.to_thread(self._questions, users, whole)
            counted = await asyncio.to_thread(self._by_quota, questions)
            for user, use in counted.items():
                self._enter(user, use)
            left = [one for one in questions if one.user not in counted]
            async with contextlib.aclosing(measure(left)) as found:
                began = time.monotonic()
                async for user, use in found:
                    self._enter(user, use)
                    now = time.monotonic()
                    self._next[user] = now + max(0.0, SHARE * (now - began) - WORKING_ROUND)
                    began = now
            if whole:
                known = {one.user for one in questions}
                self._uses = {user: use for user, use in self._uses.items() if user in known}
            async with self._writing:
                await asyncio.to_thread(write_uses, self._places.disk_use, dict(self._uses))
        except Exception as error:
            # Whatever it is (a full disk), it ends neither the watch nor the hub: what is in memory counts.
            self._log.error("What users' files take could not be measured or kept: %s", error)

    def _count_room(self) -> None:
        with contextlib.suppress(TidehubError):
            now = room(self._places)
            _FREE.set(now.users)
            _MINIMUM.set(now.minimum)
        _OVER.set(sum(judge(use, self.limit) is Verdict.OVER for use in self._uses.values()))

    def _by_quota(self, questions: Iterable[Question]) -> dict[str, DiskUse]:
        """What the kernel has counted, and every limit set anew: the site's may have changed. What a server was granted
        at its start holds until it stops, whichever hub started it.
        """
        counted: dict[str, DiskUse] = {}
        if self._quota is None or self.limit is None:
            return counted
        at_work = {line.user for line in self._isolation.running("servers")}
        for one in questions:
            with contextlib.suppress(OSError, TidehubError):  # then it is counted by looking
                limit = self._granted.get(one.user, self.limit)
                if one.user in at_work:
                    limit = max(limit, self._quota.limit(one.uid) or 0)
                self._quota.set_limit(one.uid, limit)
                counted[one.user] = DiskUse(self._quota.used(one.uid))
        return counted

    def _enter(self, user: str, use: DiskUse) -> None:
        before = judge(self._uses.get(user), self.limit)
        self._uses[user] = use
        after = judge(use, self.limit)
        if after is not before:
            told = words(use, self.limit) or "They take less than the limit again."
            self._log.warning("The files of %s: %s", user, told)

    def _questions(self, users: set[str] | None, whole: bool) -> list[Question]:
        if users is None and not whole:
            now = time.monotonic()
            users = {line.user for line in self._isolation.running() if self._next.get(line.user, now) <= now}
        asked = [one for one in self._isolation.users.everyone() if users is None or one.name in users]
        clusters = _by_owner(self._places.services / "clusters") if os.geteuid() == 0 else {}
        return [Question(one.name, self._uid(one), self._trees(one, clusters)) for one in asked]

    def _uid(self, entry: Entry) -> int:
        return entry.number if os.geteuid() == 0 else os.geteuid()

    def _trees(self, entry: Entry, clusters: dict[int, list[Path]]) -> tuple[Path, ...]:
        homes = self._places.homes
        own = (homes / entry.directory, homes / TEMPORARY / entry.directory)
        return (*own, *clusters.get(entry.number, ()))


def _by_owner(directory: Path) -> dict[int, list[Path]]:
    """What is in a directory of ours, by the uids that it was handed to."""
    found: dict[int, list[Path]] = {}
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                found.setdefault(entry.stat(follow_symlinks=False).st_uid, []).append(Path(entry.path))
    return found
