"""Stopping a platform: nothing new is admitted, and every process can be found."""

from __future__ import annotations

from pathlib import Path

from tidehub.capacity.ledger import Ledger
from tidehub.capacity.queue import NOTEBOOK, Admitted, Capacity, Reservation, Waiting


def test_a_paused_ledger_admits_nobody_until_it_is_resumed(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite", Capacity(memory=100, cores=2, starts=2))
    ledger.ask(Reservation("a", NOTEBOOK, "alice", 10, 1))
    ledger.pause()
    verdict = Ledger(ledger.path, ledger.capacity).turns(["a"])["a"]
    assert isinstance(verdict, Waiting)
    assert "being stopped" in verdict.reason
    ledger.resume()
    assert ledger.turns(["a"])["a"] == Admitted()


def test_processes_are_found_by_reservation(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite", Capacity(memory=100, cores=2, starts=2))
    ledger.ask(Reservation("a", NOTEBOOK, "alice", 10, 1))
    assert ledger.process("a") is None
    ledger.turns(["a"])
    ledger.launched("a", {"pid": 7})
    assert ledger.process("a") == {"pid": 7}
    assert ledger.processes() == {"a": {"pid": 7}}
    assert ledger.process("nobody") is None
