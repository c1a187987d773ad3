"""First come, first served; nobody starves; guarantees are never overcommitted; no deadlock between kinds."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidehub.capacity.queue import (
    NOTEBOOK,
    SCHEDULER,
    WORKER,
    Admitted,
    Capacity,
    Held,
    Reservation,
    Waiting,
    capacity_of,
    decide,
    never_fits,
    reserves,
)

GIB = 1 << 30
KINDS = [NOTEBOOK, SCHEDULER, WORKER]


def reservation(name: str, gib: float, kind: str = WORKER, *, slot: bool = False) -> Reservation:
    return Reservation(name, kind, "ada", int(gib * GIB), 1, slot)


def held(name: str, gib: float, kind: str = WORKER, *, starting: bool = False) -> Held:
    return Held(reservation(name, gib, kind), starting)


def admitted(capacity: Capacity, running: list[Held], waiting: list[Reservation]) -> list[str]:
    verdicts = decide(capacity, running, waiting)
    return [c.id for c, v in zip(waiting, verdicts, strict=True) if isinstance(v, Admitted)]


def test_a_small_reservation_does_not_overtake_a_large_one() -> None:
    capacity = Capacity(20 * GIB, 4, 9)
    assert admitted(capacity, [held("a", 18)], [reservation("large", 5), reservation("small", 1)]) == []
    assert admitted(capacity, [held("a", 14)], [reservation("large", 5), reservation("small", 1)]) == [
        "large",
        "small",
    ]


def test_the_reason_names_the_need_the_free_memory_and_the_place() -> None:
    capacity = Capacity(20 * GIB, 4, 9)
    waiting = [reservation("a", 6), reservation("b", 6), reservation("c", 5)]
    verdict = decide(capacity, [held("x", 18)], waiting)[2]
    assert verdict == Waiting(
        3, 2, "waiting for memory: needs 5 GiB, 18 GiB of 20 GiB are guaranteed, place 3"
    )


def test_one_that_would_fit_but_came_later_reads_so() -> None:
    verdict = decide(Capacity(20 * GIB, 4, 9), [held("x", 18)], [reservation("a", 6), reservation("b", 1)])[1]
    assert isinstance(verdict, Waiting)
    assert verdict.reason == (
        "waiting for memory: needs 1 GiB, 18 GiB of 20 GiB are guaranteed, the rest was asked for earlier, place 2"
    )


@pytest.mark.parametrize(
    ("kind", "kept"),
    [
        (NOTEBOOK, "2.5 GiB kept for Dask"),
        (SCHEDULER, "2 GiB kept for Dask, 1 GiB kept for notebooks"),
        (WORKER, "512 MiB kept for Dask, 1 GiB kept for notebooks"),
    ],
)
def test_the_figures_are_those_of_status_and_what_is_kept_is_named(kind: str, kept: str) -> None:
    """Guaranteed, kept and needed are together more than there is: anybody can add them up."""
    capacity = Capacity(10 * GIB, 4, 9, {NOTEBOOK: GIB, SCHEDULER: GIB // 2, WORKER: 2 * GIB})
    other = Held(Reservation("x", "other", "ada", 6 * GIB, 1), False)
    [verdict] = decide(capacity, [other], [Reservation("y", kind, "bob", 3 * GIB, 1)])
    assert isinstance(verdict, Waiting)
    assert verdict.reason == (
        f"waiting for memory: needs 3 GiB, 6 GiB of 10 GiB are guaranteed, {kept}, place 1"
    )


def test_waiting_workers_do_not_hold_up_the_scheduler_they_leave_room_for() -> None:
    capacity = Capacity(10 * GIB, 4, 9, {SCHEDULER: GIB})
    assert admitted(capacity, [held("w", 9)], [reservation("w2", 2), reservation("s", 1, SCHEDULER)]) == ["s"]


def test_workers_cannot_use_what_is_reserved_for_schedulers() -> None:
    capacity = Capacity(10 * GIB, 4, 9, {SCHEDULER: GIB})
    assert admitted(capacity, [held("w", 9)], [reservation("w2", 1)]) == []
    assert admitted(capacity, [held("w", 8), held("s", 1, SCHEDULER)], [reservation("w2", 1)]) == ["w2"]


def test_schedulers_cannot_fill_the_machine_while_their_workers_wait() -> None:
    kept = reserves(4 * GIB, notebook=0, scheduler=GIB, worker=GIB)
    capacity = Capacity(4 * GIB, 4, 9, kept)
    schedulers = [reservation(f"s{n}", 1, SCHEDULER) for n in range(5)]
    assert admitted(capacity, [], schedulers) == ["s0", "s1", "s2"]
    running = [held(f"s{n}", 1, SCHEDULER) for n in range(3)]
    assert admitted(capacity, running, [*schedulers[3:], reservation("w", 1)]) == ["w"]


def test_only_so_many_start_at_once_and_in_order() -> None:
    capacity = Capacity(100 * GIB, 2, 3)
    waiting = [reservation(f"c{n}", 1, slot=True) for n in range(5)]
    assert admitted(capacity, [], waiting) == ["c0", "c1", "c2"]
    assert admitted(capacity, [held("x", 1, starting=True)], waiting) == ["c0", "c1"]
    last = decide(capacity, [], waiting)[4]
    assert last == Waiting(2, 1, "waiting to start: 3 processes are starting, 3 may at once, place 2")


def test_waiting_for_a_start_keeps_the_memory_from_those_behind() -> None:
    capacity = Capacity(4 * GIB, 2, 1)
    running = [held("x", 1, starting=True)]
    assert admitted(capacity, running, [reservation("a", 3, slot=True), reservation("b", 1)]) == []


def test_what_can_never_fit_is_said_and_blocks_nobody() -> None:
    capacity = Capacity(4 * GIB, 2, 3, {SCHEDULER: GIB})
    never = never_fits(capacity, reservation("a", 4))
    assert never is not None
    assert "3" not in never.split("here")[0]
    assert "4 GiB" in never and "1 GiB of it are kept" in never
    assert never_fits(capacity, reservation("a", 3)) is None
    assert admitted(capacity, [], [reservation("a", 4), reservation("b", 3)]) == ["b"]


def test_reservations_are_dropped_when_they_would_not_fit_together() -> None:
    assert reserves(3 * GIB, notebook=GIB, scheduler=GIB, worker=2 * GIB) == {}
    assert set(reserves(4 * GIB, notebook=GIB, scheduler=GIB, worker=2 * GIB)) == set(KINDS)


def test_one_more_start_than_cores() -> None:
    assert capacity_of(GIB, 2).starts == 3
    assert capacity_of(GIB, 0.5).starts == 2


reservations = st.lists(
    st.tuples(st.integers(1, 12), st.sampled_from(KINDS), st.booleans()), min_size=1, max_size=12
)
reserved = st.dictionaries(st.sampled_from(KINDS), st.integers(0, 4), max_size=3)


def _reservations(drawn: list[tuple[int, str, bool]]) -> list[Reservation]:
    return [Reservation(str(n), kind, "ada", size, 1, slot) for n, (size, kind, slot) in enumerate(drawn)]


@given(reservations, st.integers(12, 40), reserved, st.integers(1, 4))
def test_never_more_than_the_machine_has(
    drawn: list[tuple[int, str, bool]], memory: int, kept: Mapping[str, int], starts: int
) -> None:
    capacity = Capacity(memory, 4, starts, kept)
    waiting = _reservations(drawn)
    verdicts = decide(capacity, [], waiting)
    going = [c for c, v in zip(waiting, verdicts, strict=True) if isinstance(v, Admitted)]
    assert sum(c.memory for c in going) <= memory
    assert sum(c.start_slot for c in going) <= starts
    for kind in KINDS:
        others = sum(max(0, kept.get(k, 0)) for k in KINDS if k != kind)
        assert sum(c.memory for c in going if c.kind == kind) <= memory - others or not any(
            c.kind == kind for c in going
        )


@given(reservations, st.integers(12, 40), reserved)
def test_nobody_behind_changes_the_verdict_of_those_ahead(
    drawn: list[tuple[int, str, bool]], memory: int, kept: Mapping[str, int]
) -> None:
    capacity = Capacity(memory, 4, 3, kept)
    waiting = _reservations(drawn)
    whole = decide(capacity, [], waiting)
    for n in range(len(waiting)):
        assert decide(capacity, [], waiting[:n]) == whole[:n]


@given(reservations, st.integers(12, 40), reserved)
def test_within_a_kind_nobody_overtakes_for_memory(
    drawn: list[tuple[int, str, bool]], memory: int, kept: Mapping[str, int]
) -> None:
    capacity = Capacity(memory, 4, 100, kept)
    waiting = [c for c in _reservations(drawn) if never_fits(capacity, c) is None]
    blocked: set[str] = set()
    for item, verdict in zip(waiting, decide(capacity, [], waiting), strict=True):
        if isinstance(verdict, Waiting):
            blocked.add(item.kind)
        else:
            assert item.kind not in blocked


@given(reservations, st.integers(12, 40), reserved)
def test_a_later_reservation_never_makes_a_blocked_head_wait_longer(
    drawn: list[tuple[int, str, bool]], memory: int, kept: Mapping[str, int]
) -> None:
    """Whoever goes past a waiting head leaves as much for the head as there was before."""
    capacity = Capacity(memory, 4, 100, kept)
    waiting = [c for c in _reservations(drawn) if never_fits(capacity, c) is None]
    running: list[Held] = []
    for item, verdict in zip(waiting, decide(capacity, [], waiting), strict=True):
        if isinstance(verdict, Admitted):
            running.append(Held(item, False))
    heads = [c for c, v in zip(waiting, decide(capacity, [], waiting), strict=True) if isinstance(v, Waiting)]
    if not heads:
        return
    head = heads[0]
    behind = [h for h in running if int(h.reservation.id) > int(head.id)]
    # End everything that came before it: the head must go, whoever overtook it.
    others_reserved = {k for k in kept if k != head.kind}
    taken_from_head = sum(
        max(0, sum(h.reservation.memory for h in behind if h.reservation.kind == k) - kept[k])
        for k in others_reserved
    ) + sum(h.reservation.memory for h in behind if h.reservation.kind not in others_reserved)
    assert taken_from_head == 0
    assert admitted(capacity, behind, [head]) == [head.id]


@given(reservations, st.integers(12, 40), reserved)
def test_everybody_is_served_in_the_end(
    drawn: list[tuple[int, str, bool]], memory: int, kept: Mapping[str, int]
) -> None:
    capacity = Capacity(memory, 4, 2, kept)
    waiting = [c for c in _reservations(drawn) if never_fits(capacity, c) is None]
    running: list[Held] = []
    served: list[str] = []
    while waiting:
        verdicts = decide(capacity, running, waiting)
        going = [c for c, v in zip(waiting, verdicts, strict=True) if isinstance(v, Admitted)]
        if not going:
            assert running, "nothing runs and nobody may go: a deadlock"
            running.pop(0)
            continue
        served += [c.id for c in going]
        running = [Held(h.reservation, False) for h in running] + [Held(c, c.start_slot) for c in going]
        waiting = [c for c in waiting if c.id not in served]
    assert len(served) == len(set(served))
