"""The ledger is shared by processes, survives them, and forgets those that are gone."""

from __future__ import annotations

import multiprocessing
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tidehub.capacity.ledger import ABSENT_AFTER, FORGOTTEN_AFTER, Ledger, NeverFits, UnknownReservation
from tidehub.capacity.queue import NOTEBOOK, SCHEDULER, WORKER, Admitted, Capacity, Reservation, Waiting
from tidehub.errors import TidehubError

CAPACITY = Capacity(10, 2, 3)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def reservation(name: str, memory: int, kind: str = WORKER, owner: str = "ada") -> Reservation:
    return Reservation(name, kind, owner, memory, 1.0)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite", CAPACITY)


def test_asks_waits_and_goes_when_the_one_before_is_released(ledger: Ledger) -> None:
    ledger.ask(reservation("a", 8))
    ledger.ask(reservation("b", 4))
    assert ledger.turns(["a"])["a"] == Admitted()
    verdict = ledger.turns(["b"])["b"]
    assert isinstance(verdict, Waiting)
    assert verdict.place == 1
    ledger.release("a")
    assert ledger.turns(["b"])["b"] == Admitted()
    assert ledger.usage().memory == 4


def test_the_place_is_kept_when_the_same_reservation_is_asked_again(ledger: Ledger) -> None:
    for name in ("a", "b", "c"):
        ledger.ask(reservation(name, 8))
    ledger.ask(reservation("b", 8))
    places = []
    for name in ("a", "b", "c"):
        verdict = ledger.turns([name])[name]
        places.append(verdict.place if isinstance(verdict, Waiting) else 0)
    assert places == [0, 1, 2]
    assert [(c.id, w.place) for c, w in ledger.queue()] == [("b", 1), ("c", 2)]


def test_a_start_slot_is_free_again_when_the_process_is_ready(ledger: Ledger) -> None:
    for n in range(4):
        ledger.ask(reservation(f"n{n}", 1, NOTEBOOK))
        ledger.turns([f"n{n}"])
    verdict = ledger.turns(["n3"])["n3"]
    assert isinstance(verdict, Waiting)
    assert verdict.reason.startswith("waiting to start: 3 processes are starting")
    ledger.launched("n0", {"pid": 1})
    assert isinstance(ledger.turns(["n3"])["n3"], Waiting)
    ledger.started("n0", {"pid": 1})
    assert ledger.turns(["n3"])["n3"] == Admitted()


def test_reservations_survive_a_restart_of_whoever_holds_the_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    first = Ledger(path, CAPACITY)
    first.ask(reservation("a", 8))
    first.turns(["a"])
    first.started("a", {"pid": 7, "started": 1})
    second = Ledger(path, CAPACITY)
    second.ask(reservation("b", 4))
    assert isinstance(second.turns(["b"])["b"], Waiting)
    assert second.reconcile(lambda state: state == {"pid": 7, "started": 1}) == []
    assert second.reconcile(lambda state: False) == ["a"]
    assert second.turns(["b"])["b"] == Admitted()


def test_an_admission_whose_asker_died_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    code = (
        "import sys; from pathlib import Path; from tidehub.capacity.ledger import Ledger;"
        "from tidehub.capacity.queue import Capacity, Reservation;"
        "l = Ledger(Path(sys.argv[1]), Capacity(10, 2, 3));"
        "l.ask(Reservation('gone', 'worker', 'ada', 9, 1.0)); print(l.turns(['gone'])['gone'])"
    )
    source = str(Path(__file__).parents[3] / "src")
    said = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": source},
    )
    assert "Admitted" in said.stdout
    ledger = Ledger(path, CAPACITY)
    ledger.ask(reservation("mine", 2))
    assert isinstance(ledger.turns(["mine"])["mine"], Waiting)
    assert ledger.reconcile(lambda state: True) == ["gone"]
    assert ledger.turns(["mine"])["mine"] == Admitted()


def test_a_waiting_reservation_nobody_asks_about_is_passed_over_and_later_forgotten(tmp_path: Path) -> None:
    clock = Clock()
    ledger = Ledger(tmp_path / "ledger.sqlite", CAPACITY, clock=clock)
    ledger.ask(reservation("running", 6))
    ledger.turns(["running"])
    ledger.started("running", {"pid": 1})
    ledger.ask(reservation("absent", 9))
    ledger.ask(reservation("small", 2))
    assert isinstance(ledger.turns(["small"])["small"], Waiting)
    clock.now += ABSENT_AFTER + 1
    assert ledger.turns(["small"])["small"] == Admitted()
    assert ledger.reconcile(lambda state: True) == []
    clock.now += FORGOTTEN_AFTER
    # "small" was admitted by this very process, which lives.
    assert ledger.reconcile(lambda state: True) == ["absent"]


def test_what_runs_already_is_entered_even_beyond_the_capacity(ledger: Ledger) -> None:
    ledger.adopt(reservation("a", 9), {"pid": 1})
    ledger.adopt(reservation("b", 9), {"pid": 2})
    assert ledger.usage().memory == 18
    ledger.ask(reservation("c", 1))
    assert isinstance(ledger.turns(["c"])["c"], Waiting)


def test_adopting_what_waits_makes_it_running(ledger: Ledger) -> None:
    ledger.ask(reservation("a", 5))
    ledger.adopt(reservation("a", 5), {"pid": 1})
    assert ledger.usage().kinds == {WORKER: 1}
    assert ledger.queue() == []


def test_usage_by_owner(ledger: Ledger) -> None:
    for name, owner, kind in (("a", "ada", SCHEDULER), ("b", "ada", WORKER), ("c", "bob", WORKER)):
        ledger.ask(reservation(name, 2, kind, owner))
        ledger.turns([name])
    usage = ledger.usage("ada")
    assert (usage.memory, usage.cores, dict(usage.kinds)) == (4, 2.0, {SCHEDULER: 1, WORKER: 1})


def test_what_never_fits_is_refused_with_the_numbers(ledger: Ledger) -> None:
    with pytest.raises(NeverFits, match="can never run here"):
        ledger.ask(reservation("a", 11))
    assert ledger.queue() == []


def test_a_turn_for_an_unknown_reservation_says_so(ledger: Ledger) -> None:
    assert ledger.turns(["nobody"]) == {}
    with pytest.raises(UnknownReservation, match="not in the ledger"):
        ledger.started("nobody", {"pid": 1})
    ledger.release("nobody")


def test_the_file_is_private(ledger: Ledger) -> None:
    assert stat.S_IMODE(ledger.path.stat().st_mode) == 0o600


def test_a_damaged_file_is_one_clear_message(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(TidehubError, match="capacity ledger"):
        Ledger(path, CAPACITY)


def _contend(path: str, name: str, rounds: int, results: Any) -> None:
    """Ask, go and release many times; report the largest total that this process ever saw."""
    ledger = Ledger(Path(path), CAPACITY)
    most = 0
    admitted = 0
    for n in range(rounds):
        reservation_id = f"{name}-{n}"
        ledger.ask(Reservation(reservation_id, WORKER, name, 4, 1.0, False))
        while not isinstance(ledger.turns([reservation_id])[reservation_id], Admitted):
            pass
        admitted += 1
        most = max(most, ledger.usage().memory)
        ledger.release(reservation_id)
    results.put((admitted, most))


def test_two_processes_share_it_without_overcommitting(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [context.Process(target=_contend, args=(str(path), f"p{n}", 25, results)) for n in range(3)]
    for worker in workers:
        worker.start()
    seen = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(timeout=10)
    assert [admitted for admitted, _ in seen] == [25, 25, 25]
    assert max(most for _, most in seen) <= CAPACITY.memory
    assert Ledger(path, CAPACITY).usage().memory == 0
