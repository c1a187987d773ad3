"""Who holds and who waits for the machine's memory, in one sqlite file that hub and gateway share.

Every change is one `BEGIN IMMEDIATE` transaction on a connection of its own, so that any number of threads
and processes may use the ledger at once, and a `kill -9` at any moment leaves it whole. The decision itself
is `queue.decide`. Sizes are bytes, times are seconds of the monotonic clock: it is one for all processes, no
correction of the date moves it, and it stands still while the machine sleeps. It counts from boot, so whoever
asks is written down with the boot's id.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidehub import program
from tidehub.capacity.ledger_rows import (
    RUNNING,
    STARTING,
    WAITING,
    Process,
    identity_of_this_process,
    is_running,
    of_this_boot,
    process_text,
    readable,
    to_reservation,
)
from tidehub.capacity.queue import Admitted, Capacity, Held, Reservation, Verdict, Waiting, decide, never_fits
from tidehub.errors import TidehubError
from tidehub.system import sqlite

ABSENT_AFTER = 30.0
"""Seconds without a question after which a waiting reservation is passed over (it keeps its place)."""
SEEN_AGAIN_AFTER = ABSENT_AFTER / 3
"""Seconds after which a question is written down again: writing each one would wake every other asker."""
FORGOTTEN_AFTER = 600.0
"""Seconds without a question after which `reconcile` drops a waiting reservation."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS claims (
    place INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    owner TEXT NOT NULL,
    memory INTEGER NOT NULL,
    cores REAL NOT NULL,
    start_slot INTEGER NOT NULL,
    state TEXT NOT NULL,
    asker TEXT NOT NULL,
    seen REAL NOT NULL,
    process TEXT
)
"""


def _pause_is_a_row(db: sqlite3.Connection) -> None:
    """Earlier, the file's own version said it: 1 while the platform was being stopped."""
    db.execute("CREATE TABLE IF NOT EXISTS paused (since REAL NOT NULL)")
    if db.execute("PRAGMA user_version").fetchone()[0] == 1:
        db.execute("INSERT INTO paused VALUES (0)")


def ledger_file(path: Path) -> sqlite.Database:
    """The ledger's file, for those who look at it before anybody uses it."""
    return sqlite.Database(
        path,
        "the capacity ledger",
        f"run `{program.command('down')}`, then `{program.command('up')}`: a damaged ledger is set aside and replaced",
        steps=(_SCHEMA, _pause_is_a_row),
        durable=False,
    )


class NeverFits(TidehubError):
    """The reservation is larger than what the machine can give, even alone."""


class UnknownReservation(TidehubError):
    """The reservation is not in the ledger: it was released, or dropped because its process is gone."""


@dataclass(frozen=True)
class Usage:
    """What is held: `memory` bytes, `cores`, the number of held reservations by kind, and how many wait."""

    memory: int
    cores: float
    kinds: Mapping[str, int]
    waiting: int


class Ledger:
    """The one book of capacity. `path` lies in the private directory; `capacity` must be the same for all
    users of it.

    Raises `TidehubError` when the file cannot be opened or is damaged.
    """

    def __init__(
        self,
        path: Path,
        capacity: Capacity,
        *,
        clock: Callable[[], float] = time.monotonic,
        on_damage: Callable[[list[dict[str, Any]]], None] = lambda rows: None,
    ) -> None:
        """`on_damage` gets the rows that cannot be read, before they are dropped. Their processes are still known
        to the table of launches, and whoever started them enters them again.
        """
        self.path = path
        self.file = ledger_file(path)
        self._transaction = self.file.transaction
        self.capacity = capacity
        self._clock = clock
        self._asker = identity_of_this_process()
        with self._transaction() as db:
            damaged = [dict(row) for row in db.execute("SELECT * FROM claims") if not readable(row)]
            if damaged:
                on_damage(damaged)
                db.executemany("DELETE FROM claims WHERE place = :place", damaged)

    def ask(self, *reservations: Reservation) -> None:
        """Queue `reservations`, in this order. Asking again with the same id keeps its place (after a restart, say).

        Raises `NeverFits` when one could not run here even alone; then none is queued.
        """
        for reservation in reservations:
            self.check(reservation)
        with self._transaction() as db:
            for reservation in reservations:
                self._insert(db, reservation, WAITING, None)

    def check(self, reservation: Reservation) -> None:
        """Raise `NeverFits` when `reservation` could not run here even alone."""
        never = never_fits(self.capacity, reservation)
        if never:
            raise NeverFits(never, fix="choose less memory, or give the platform a larger machine")

    def turns(self, ids: Iterable[str]) -> dict[str, Verdict]:
        """The verdicts on these reservations, by id: `Admitted` (from then on it holds its memory and a start slot)
        or `Waiting` with place and reason. A reservation that was never asked for, or was dropped, has none.

        However many there are, this is one transaction that only reads, and another one that writes where somebody
        is admitted or must be noted as seen.
        """
        wanted = set(ids)
        with self._transaction(write=False) as db:
            verdicts, notes = self._decide(db, wanted)
        if not notes:
            return verdicts
        # Others may have written meanwhile, so what is written is decided on what is there then.
        with self._transaction() as db:
            verdicts, notes = self._decide(db, wanted)
            db.executemany("UPDATE claims SET state = ?, asker = ?, seen = ? WHERE place = ?", notes)
        return verdicts

    def _decide(
        self, db: sqlite3.Connection, wanted: set[str]
    ) -> tuple[dict[str, Verdict], list[tuple[str, str, float, int]]]:
        """The verdicts, and what to write: state, asker and time of being seen, by place in the table."""
        now = self._clock()
        rows = db.execute("SELECT * FROM claims ORDER BY place").fetchall()
        verdicts: dict[str, Verdict] = {
            r["id"]: Admitted() for r in rows if r["state"] != WAITING and r["id"] in wanted
        }
        mine = [r for r in rows if r["state"] == WAITING and r["id"] in wanted]
        if db.execute("SELECT 1 FROM paused").fetchone():
            return verdicts | {r["id"]: Waiting(1, 0, "the platform is being stopped") for r in mine}, []
        held = [Held(to_reservation(r), r["state"] == STARTING) for r in rows if r["state"] != WAITING]
        queue = [
            r
            for r in rows
            if r["state"] == WAITING and (r["id"] in wanted or self._seen_within(r, ABSENT_AFTER))
        ]
        admit: set[str] = set()
        for row, verdict in zip(
            queue, decide(self.capacity, held, [to_reservation(r) for r in queue]), strict=True
        ):
            if row["id"] in wanted:
                verdicts[row["id"]] = verdict
                if isinstance(verdict, Admitted):
                    admit.add(row["id"])
        notes = []
        for row in mine:
            if row["id"] in admit:
                state = STARTING if row["start_slot"] else RUNNING
                notes.append((state, self._asker, now, row["place"]))
            elif row["asker"] != self._asker or not self._seen_within(row, SEEN_AGAIN_AFTER):
                notes.append((WAITING, self._asker, now, row["place"]))
        return verdicts, notes

    def launched(self, reservation_id: str, process: Process | Mapping[str, Any]) -> None:
        """Its process exists, and still occupies the start slot. Raises `UnknownReservation`."""
        self._set_process(reservation_id, process, None)

    def started(self, reservation_id: str, process: Process | Mapping[str, Any]) -> None:
        """Its process is ready: the start slot is free for the next. Raises `UnknownReservation`."""
        self._set_process(reservation_id, process, RUNNING)

    def adopt(self, reservation: Reservation, process: Process | Mapping[str, Any]) -> None:
        """Enter a process that already runs (found again after a restart).

        It is never refused: its memory is in use.
        """
        with self._transaction() as db:
            self._insert(db, reservation, RUNNING, process_text(process))

    def release(self, reservation_id: str) -> None:
        """The reservation is over, or given up. Releasing what is not there is not an error."""
        with self._transaction() as db:
            db.execute("DELETE FROM claims WHERE id = ?", (reservation_id,))

    def pause(self) -> None:
        """Admit nobody from now on: the platform stops, and what ends must not be started again."""
        with self._transaction() as db:
            db.execute("INSERT INTO paused VALUES (?)", (self._clock(),))

    def resume(self) -> None:
        """Admit again; `up` says it once, before the parts start."""
        with self._transaction() as db:
            db.execute("DELETE FROM paused")

    def process(self, reservation_id: str) -> dict[str, Any] | None:
        """The process of a reservation as `to_state()` wrote it; None where there is none."""
        with self._transaction(write=False) as db:
            row = db.execute("SELECT process FROM claims WHERE id = ?", (reservation_id,)).fetchone()
        return json.loads(row["process"]) if row is not None and row["process"] is not None else None

    def processes(self) -> dict[str, dict[str, Any]]:
        """Every process that is written down, by reservation."""
        with self._transaction(write=False) as db:
            rows = db.execute("SELECT id, process FROM claims WHERE process IS NOT NULL").fetchall()
        return {row["id"]: json.loads(row["process"]) for row in rows}

    def reconcile(self, alive: Callable[[dict[str, Any]], bool]) -> list[str]:
        """Drop reservations whose process is gone; gives their ids.

        `alive` gets a process as `to_state()` wrote it. Admitted reservations without a process go when the process
        that asked for them is gone, since nobody is left to start them; waiting ones when nobody asked for
        `FORGOTTEN_AFTER` seconds.
        """
        with self._transaction(write=False) as db:
            rows = db.execute("SELECT * FROM claims").fetchall()
        # Outside of the transaction: `alive` reads /proc, and may be slow.
        gone = [(row["id"], row["process"], row["state"]) for row in rows if not self._stands(row, alive)]
        with self._transaction() as db:
            return [
                reservation_id
                for reservation_id, process, state in gone
                if db.execute(
                    "DELETE FROM claims WHERE id = ? AND process IS ? AND state = ?",
                    (reservation_id, process, state),
                ).rowcount
            ]

    def usage(self, owner: str | None = None) -> Usage:
        """What is held in all, or by one owner."""
        with self._transaction(write=False) as db:
            rows = db.execute("SELECT * FROM claims").fetchall()
        rows = [r for r in rows if owner is None or r["owner"] == owner]
        held = [r for r in rows if r["state"] != WAITING]
        kinds: dict[str, int] = {}
        for row in held:
            kinds[row["kind"]] = kinds.get(row["kind"], 0) + 1
        return Usage(
            memory=sum(r["memory"] for r in held),
            cores=sum(r["cores"] for r in held),
            kinds=kinds,
            waiting=len(rows) - len(held),
        )

    def queue(self) -> list[tuple[Reservation, Waiting]]:
        """The waiting reservations in order, each with its place and reason; for status pages."""
        with self._transaction(write=False) as db:
            rows = db.execute("SELECT * FROM claims ORDER BY place").fetchall()
        held = [Held(to_reservation(r), r["state"] == STARTING) for r in rows if r["state"] != WAITING]
        reservations = [to_reservation(r) for r in rows if r["state"] == WAITING]
        verdicts = decide(self.capacity, held, reservations)
        return [
            (reservation, verdict if isinstance(verdict, Waiting) else Waiting(1, 0, "about to start"))
            for reservation, verdict in zip(reservations, verdicts, strict=True)
        ]

    def _stands(self, row: sqlite3.Row, alive: Callable[[dict[str, Any]], bool]) -> bool:
        if row["process"] is not None:
            return alive(json.loads(row["process"]))
        if row["state"] == WAITING:
            return self._seen_within(row, FORGOTTEN_AFTER)
        return is_running(row["asker"])

    def _seen_within(self, row: sqlite3.Row, seconds: float) -> bool:
        """Whether somebody asked for it in the last `seconds`; what was written in another boot says nothing now."""
        return bool(of_this_boot(row["asker"]) and 0 <= self._clock() - row["seen"] <= seconds)

    def _insert(
        self, db: sqlite3.Connection, reservation: Reservation, state: str, process: str | None
    ) -> None:
        db.execute(
            "INSERT INTO claims (id, kind, owner, memory, cores, start_slot, state, asker, seen, process)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
            " asker = excluded.asker, seen = excluded.seen,"
            " state = CASE WHEN excluded.process IS NULL THEN state ELSE excluded.state END,"
            " process = COALESCE(excluded.process, process)",
            (
                reservation.id,
                reservation.kind,
                reservation.owner,
                reservation.memory,
                reservation.cores,
                int(reservation.start_slot),
                state,
                self._asker,
                self._clock(),
                process,
            ),
        )

    def _set_process(
        self, reservation_id: str, process: Process | Mapping[str, Any], state: str | None
    ) -> None:
        with self._transaction() as db:
            row = self._row(db, reservation_id)
            db.execute(
                "UPDATE claims SET process = ?, state = ? WHERE id = ?",
                (process_text(process), state or row["state"], reservation_id),
            )

    def _row(self, db: sqlite3.Connection, reservation_id: str) -> sqlite3.Row:
        row: sqlite3.Row | None = db.execute(
            "SELECT * FROM claims WHERE id = ?", (reservation_id,)
        ).fetchone()
        if row is None:
            raise UnknownReservation(
                f"the reservation {reservation_id!r} is not in the ledger", fix="ask for it again"
            )
        return row
