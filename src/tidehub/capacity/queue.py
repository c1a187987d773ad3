"""Who may start now, and who waits, on a machine with limited memory: a pure decision.

First come, first served, and strictly so: once a reservation waits for memory, nothing behind it takes memory that
it could have used, so a large reservation is never starved by small ones. One exception keeps clusters alive: each
kind of process (notebook, scheduler, worker) may have memory reserved, which the other kinds can never use;
reservations are served from their own kind's reserve even while another kind waits, because waiting for it
would help nobody.

Memory guarantees are never overcommitted. Cores are counted for information only: the kernel shares them.
Sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tidehub.site.units import about_size

NOTEBOOK = "notebook"
SCHEDULER = "scheduler"
WORKER = "worker"


@dataclass(frozen=True)
class Capacity:
    """What the machine has to give.

    `memory` in bytes, `cores` for information, `starts` the number of processes that may be *starting* at
    once, `reserved` bytes that only the named kind may use.
    """

    memory: int
    cores: float
    starts: int
    reserved: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Reservation:
    """One process that wants to run. `start_slot` says that its start is heavy enough to be counted."""

    id: str
    kind: str
    owner: str
    memory: int
    cores: float
    start_slot: bool = True


@dataclass(frozen=True)
class Held:
    """A reservation that was admitted; `starting` while it still occupies a start slot."""

    reservation: Reservation
    starting: bool


@dataclass(frozen=True)
class Admitted:
    """The reservation may go."""


@dataclass(frozen=True)
class Waiting:
    """The reservation waits:

    its `place` counts from 1, `ahead` how many come first, `reason` is a sentence for users.
    """

    place: int
    ahead: int
    reason: str


Verdict = Admitted | Waiting


def capacity_of(memory: int, cores: float, *, reserved: Mapping[str, int] | None = None) -> Capacity:
    """The capacity of a machine that gives `memory` bytes to users' processes and has `cores` cores.

    One process more than there are cores may be starting at once: a start waits for the disk now and then.
    """
    return Capacity(memory, cores, max(2, int(cores) + 1), dict(reserved or {}))


def reserves(memory: int, *, notebook: int, scheduler: int, worker: int) -> dict[str, int]:
    """What to reserve, given the largest reservation of each kind in bytes: room for one of each.

    Without it, schedulers could fill the machine while all of their workers wait for each other. Where one of
    each does not fit into `memory`, nothing is reserved: a reserve must never make a single reservation
    impossible.
    """
    wanted = {NOTEBOOK: notebook, SCHEDULER: scheduler, WORKER: worker}
    wanted = {kind: size for kind, size in wanted.items() if size > 0}
    return wanted if sum(wanted.values()) <= memory else {}


def never_fits(capacity: Capacity, reservation: Reservation) -> str | None:
    """Why `reservation` could not run here even alone, as a sentence; None when it could."""
    others = sum(size for kind, size in capacity.reserved.items() if kind != reservation.kind)
    room = capacity.memory - others
    if reservation.memory <= room:
        return None
    kept = f" ({about_size(others)} of it are kept for other kinds of processes)" if others else ""
    return (
        f"a {reservation.kind} with {about_size(reservation.memory)} of memory can never run here: "
        f"this machine gives {about_size(capacity.memory)} in all{kept}"
    )


def decide(capacity: Capacity, held: Sequence[Held], waiting: Sequence[Reservation]) -> list[Verdict]:
    """The verdict for each reservation of `waiting`, which is in order of arrival."""
    room = _Room(capacity, held)
    verdicts: list[Verdict] = []
    passed_over = 0
    for index, reservation in enumerate(waiting):
        place = index + 1 - passed_over
        never = never_fits(capacity, reservation)
        if never:
            # It cannot be served, so nobody waits behind it. Only a machine that became smaller has such
            # reservations.
            passed_over += 1
            verdicts.append(Waiting(place, place - 1, never))
            continue
        reason = room.take(reservation)
        if reason is None:
            passed_over += 1
            verdicts.append(Admitted())
        else:
            verdicts.append(Waiting(place, place - 1, f"{reason}, place {place}"))
    return verdicts


class _Room:
    """What is left while the queue is walked from its head."""

    def __init__(self, capacity: Capacity, held: Sequence[Held]) -> None:
        self._capacity = capacity
        self._by_kind: dict[str, int] = {}
        self._starting = 0
        self._blocked: set[str] = set()
        for item in held:
            self._hold(item.reservation)
            self._starting += item.starting

    def take(self, reservation: Reservation) -> str | None:
        """Give the reservation its room, or say why it waits (and keep what it waits for from those behind)."""
        free = self._capacity.memory - sum(self._by_kind.values())
        open_to_kind = max(0, free - self._unmet_of_others(reservation.kind))
        if reservation.kind in self._blocked:
            return self._memory_reason(reservation, open_to_kind)
        own = max(
            0, self._capacity.reserved.get(reservation.kind, 0) - self._by_kind.get(reservation.kind, 0)
        )
        available = min(own, open_to_kind) if self._blocked else open_to_kind
        if reservation.memory > available:
            self._blocked.add(reservation.kind)
            return self._memory_reason(reservation, open_to_kind)
        self._hold(reservation)
        if not reservation.start_slot:
            return None
        if self._starting >= self._capacity.starts:
            most = self._capacity.starts
            return f"waiting to start: {self._starting} processes are starting, {most} may at once"
        self._starting += 1
        return None

    def _hold(self, reservation: Reservation) -> None:
        self._by_kind[reservation.kind] = self._by_kind.get(reservation.kind, 0) + reservation.memory

    def _unmet_of_others(self, kind: str) -> int:
        return sum(
            max(0, size - self._by_kind.get(other, 0))
            for other, size in self._capacity.reserved.items()
            if other != kind
        )

    def _memory_reason(self, reservation: Reservation, open_to_kind: int) -> str:
        # The two figures of `tidehub status`, and what lies between them and what is free for this one.
        whole = self._capacity.memory
        held = min(whole, sum(self._by_kind.values()))  # a machine that became smaller holds more
        taken = f"{about_size(held)} of {about_size(whole)} are guaranteed"
        kept = self._kept_words(reservation.kind)
        text = f"waiting for memory: needs {about_size(reservation.memory)}, {taken}{kept}"
        return text if reservation.memory > open_to_kind else f"{text}, the rest was asked for earlier"

    def _kept_words(self, kind: str) -> str:
        """For whom memory is kept that this kind cannot have: Dask's two kinds, or notebooks."""
        unmet = {
            other: max(0, size - self._by_kind.get(other, 0))
            for other, size in self._capacity.reserved.items()
            if other != kind
        }
        dask = unmet.get(SCHEDULER, 0) + unmet.get(WORKER, 0)
        kept = [f"{about_size(dask)} kept for Dask"] if dask else []
        kept += [f"{about_size(unmet[NOTEBOOK])} kept for notebooks"] if unmet.get(NOTEBOOK) else []
        return f", {', '.join(kept)}" if kept else ""
