"""Who holds and who waits for the machine's memory, in one sqlite file that hub and gateway share.

Every operation is one `BEGIN IMMEDIATE` transaction on a connection of its own, so that any number of threads
and processes may use the ledger at once, and a `kill -9` at any moment leaves it whole. The decision itself
is `queue.decide`. Sizes are bytes, times are seconds of the monotonic clock: it is one for all processes, no
correction of the date moves it, and it stands still while the machine sleeps. It counts from boot, so whoever
asks is written down with the boot's id.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from tidehub.capacity.queue import Admitted, Capacity, Claim, Held, Verdict, Waiting, decide, never_fits
from tidehub.errors import TidehubError

_WAITING, _STARTING, _RUNNING = "waiting", "starting", "running"

ABSENT_AFTER = 30.0
"""Seconds without a question after which a waiting claim is passed over (it keeps its place)."""
FORGOTTEN_AFTER = 600.0
"""Seconds without a question after which `reconcile` drops a waiting claim."""

MOST_MEMORY = 2**50
"""Bytes; a row that claims more is damaged, and would keep everybody waiting."""
MOST_CORES = 2**20

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


class Process(Protocol):
    """A process that can be written down, such as `local.isolation.ProcessHandle`."""

    def to_state(self) -> dict[str, Any]: ...


class NeverFits(TidehubError):
    """The claim is larger than what the machine can give, even alone."""


class UnknownClaim(TidehubError):
    """The claim is not in the ledger: it was released, or dropped because its process is gone."""


@dataclass(frozen=True)
class Usage:
    """What is held: `memory` bytes, `cores`, the number of held claims by kind, and how many wait."""

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
        self.capacity = capacity
        self._clock = clock
        self._asker = _identity_of_this_process()
        with _private_umask(), self._transaction() as db:
            db.execute(_SCHEMA)
            db.text_factory = _text_or_bytes
            damaged = [dict(row) for row in db.execute("SELECT * FROM claims") if not _readable(row)]
            if damaged:
                on_damage(damaged)
                db.executemany("DELETE FROM claims WHERE place = :place", damaged)

    def ask(self, claim: Claim) -> None:
        """Queue `claim`. Asking again with the same id keeps its place (after a restart, say).

        Raises `NeverFits` when it could not run here even alone.
        """
        never = never_fits(self.capacity, claim)
        if never:
            raise NeverFits(never, fix="choose less memory, or give the platform a larger machine")
        with self._transaction() as db:
            self._insert(db, claim, _WAITING, None)

    def turn(self, claim_id: str) -> Verdict:
        """May it go now? `Admitted` (from then on it holds its memory and a start slot) or `Waiting` with
        place and reason.

        Raises `UnknownClaim` when it was never asked for, or was dropped.
        """
        with self._transaction() as db:
            mine = self._row(db, claim_id)
            if mine["state"] != _WAITING:
                return Admitted()
            if db.execute("PRAGMA user_version").fetchone()[0]:
                return Waiting(1, 0, "the platform is being stopped")
            now = self._clock()
            if mine["asker"] != self._asker or not self._seen_within(mine, ABSENT_AFTER / 6):
                db.execute("UPDATE claims SET seen = ?, asker = ? WHERE id = ?", (now, self._asker, claim_id))
            rows = db.execute("SELECT * FROM claims ORDER BY place").fetchall()
            held = [Held(_claim(r), r["state"] == _STARTING) for r in rows if r["state"] != _WAITING]
            waiting = [
                _claim(r)
                for r in rows
                if r["state"] == _WAITING and (r["id"] == claim_id or self._seen_within(r, ABSENT_AFTER))
            ]
            verdict = next(
                v
                for c, v in zip(waiting, decide(self.capacity, held, waiting), strict=True)
                if c.id == claim_id
            )
            if isinstance(verdict, Admitted):
                state = _STARTING if mine["start_slot"] else _RUNNING
                db.execute("UPDATE claims SET state = ? WHERE id = ?", (state, claim_id))
            return verdict

    def launched(self, claim_id: str, process: Process | Mapping[str, Any]) -> None:
        """Its process exists, and still occupies the start slot. Raises `UnknownClaim`."""
        self._set_process(claim_id, process, None)

    def started(self, claim_id: str, process: Process | Mapping[str, Any]) -> None:
        """Its process is ready: the start slot is free for the next. Raises `UnknownClaim`."""
        self._set_process(claim_id, process, _RUNNING)

    def adopt(self, claim: Claim, process: Process | Mapping[str, Any]) -> None:
        """Enter a process that already runs (found again after a restart).

        It is never refused: its memory is in use.
        """
        with self._transaction() as db:
            self._insert(db, claim, _RUNNING, _process_text(process))

    def release(self, claim_id: str) -> None:
        """The claim is over, or given up. Releasing what is not there is not an error."""
        with self._transaction() as db:
            db.execute("DELETE FROM claims WHERE id = ?", (claim_id,))

    def pause(self) -> None:
        """Admit nobody from now on: the platform stops, and what ends must not be started again."""
        with self._transaction() as db:
            db.execute("PRAGMA user_version = 1")

    def resume(self) -> None:
        """Admit again; `up` says it once, before the parts start."""
        with self._transaction() as db:
            db.execute("PRAGMA user_version = 0")

    def process(self, claim_id: str) -> dict[str, Any] | None:
        """The process of a claim as `to_state()` wrote it; None where there is none."""
        with self._transaction() as db:
            row = db.execute("SELECT process FROM claims WHERE id = ?", (claim_id,)).fetchone()
        return json.loads(row["process"]) if row is not None and row["process"] is not None else None

    def processes(self) -> dict[str, dict[str, Any]]:
        """Every process that is written down, by claim."""
        with self._transaction() as db:
            rows = db.execute("SELECT id, process FROM claims WHERE process IS NOT NULL").fetchall()
        return {row["id"]: json.loads(row["process"]) for row in rows}

    def reconcile(self, alive: Callable[[dict[str, Any]], bool]) -> list[str]:
        """Drop claims whose process is gone; gives their ids.

        `alive` gets a process as `to_state()` wrote it. Admitted claims without a process go when the process
        that asked for them is gone, since nobody is left to start them; waiting ones when nobody asked for
        `FORGOTTEN_AFTER` seconds.
        """
        with self._transaction() as db:
            rows = db.execute("SELECT * FROM claims").fetchall()
        # Outside of the transaction: `alive` reads /proc, and may be slow.
        gone = [(row["id"], row["process"], row["state"]) for row in rows if not self._stands(row, alive)]
        with self._transaction() as db:
            return [
                claim_id
                for claim_id, process, state in gone
                if db.execute(
                    "DELETE FROM claims WHERE id = ? AND process IS ? AND state = ?",
                    (claim_id, process, state),
                ).rowcount
            ]

    def usage(self, owner: str | None = None) -> Usage:
        """What is held in all, or by one owner."""
        with self._transaction() as db:
            rows = db.execute("SELECT * FROM claims").fetchall()
        rows = [r for r in rows if owner is None or r["owner"] == owner]
        held = [r for r in rows if r["state"] != _WAITING]
        kinds: dict[str, int] = {}
        for row in held:
            kinds[row["kind"]] = kinds.get(row["kind"], 0) + 1
        return Usage(
            memory=sum(r["memory"] for r in held),
            cores=sum(r["cores"] for r in held),
            kinds=kinds,
            waiting=len(rows) - len(held),
        )

    def queue(self) -> list[tuple[Claim, Waiting]]:
        """The waiting claims in order, each with its place and reason; for status pages."""
        with self._transaction() as db:
            rows = db.execute("SELECT * FROM claims ORDER BY place").fetchall()
        held = [Held(_claim(r), r["state"] == _STARTING) for r in rows if r["state"] != _WAITING]
        claims = [_claim(r) for r in rows if r["state"] == _WAITING]
        verdicts = decide(self.capacity, held, claims)
        return [
            (claim, verdict if isinstance(verdict, Waiting) else Waiting(1, 0, "about to start"))
            for claim, verdict in zip(claims, verdicts, strict=True)
        ]

    def _stands(self, row: sqlite3.Row, alive: Callable[[dict[str, Any]], bool]) -> bool:
        if row["process"] is not None:
            return alive(json.loads(row["process"]))
        if row["state"] == _WAITING:
            return self._seen_within(row, FORGOTTEN_AFTER)
        return _is_running(row["asker"])

    def _seen_within(self, row: sqlite3.Row, seconds: float) -> bool:
        """Whether somebody asked for it in the last `seconds`; what was written in another boot says nothing now."""
        same_boot = _asker(row["asker"])[0] == _boot_id()
        return bool(same_boot and 0 <= self._clock() - row["seen"] <= seconds)

    def _insert(self, db: sqlite3.Connection, claim: Claim, state: str, process: str | None) -> None:
        db.execute(
            "INSERT INTO claims (id, kind, owner, memory, cores, start_slot, state, asker, seen, process)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
            " asker = excluded.asker, seen = excluded.seen,"
            " state = CASE WHEN excluded.process IS NULL THEN state ELSE excluded.state END,"
            " process = COALESCE(excluded.process, process)",
            (
                claim.id,
                claim.kind,
                claim.owner,
                claim.memory,
                claim.cores,
                int(claim.start_slot),
                state,
                self._asker,
                self._clock(),
                process,
            ),
        )

    def _set_process(self, claim_id: str, process: Process | Mapping[str, Any], state: str | None) -> None:
        with self._transaction() as db:
            row = self._row(db, claim_id)
            db.execute(
                "UPDATE claims SET process = ?, state = ? WHERE id = ?",
                (_process_text(process), state or row["state"], claim_id),
            )

    def _row(self, db: sqlite3.Connection, claim_id: str) -> sqlite3.Row:
        row: sqlite3.Row | None = db.execute("SELECT * FROM claims WHERE id = ?", (claim_id,)).fetchone()
        if row is None:
            raise UnknownClaim(f"the claim {claim_id!r} is not in the ledger", fix="ask for it again")
        return row

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            db = sqlite3.connect(self.path, timeout=30, isolation_level=None)
            try:
                db.row_factory = sqlite3.Row
                # WAL with NORMAL: a commit does not wait for the disk. Power loss may undo the last ones, and
                # after it every process in the ledger is gone anyway.
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("PRAGMA synchronous = NORMAL")
                db.execute("BEGIN IMMEDIATE")
                try:
                    yield db
                except BaseException:
                    db.execute("ROLLBACK")
                    raise
                db.execute("COMMIT")
            finally:
                db.close()
        except sqlite3.Error as error:
            raise TidehubError(
                f"the capacity ledger {self.path} cannot be used: {error}",
                expected="a sqlite file that this process may write",
                fix="run `tidehub down`, then `tidehub up`: a damaged ledger is set aside and made anew",
            ) from error


def _claim(row: sqlite3.Row) -> Claim:
    return Claim(row["id"], row["kind"], row["owner"], row["memory"], row["cores"], bool(row["start_slot"]))


def _process_text(process: Process | Mapping[str, Any]) -> str:
    return json.dumps(dict(process) if isinstance(process, Mapping) else process.to_state(), sort_keys=True)


@contextmanager
def _private_umask() -> Iterator[None]:
    old = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(old)


def _identity_of_this_process() -> str:
    pid = os.getpid()
    return f"{_boot_id()}:{pid}:{_start_ticks(pid)}"


def _is_running(asker: str) -> bool:
    boot, pid, ticks = _asker(asker)
    return boot == _boot_id() and _start_ticks(int(pid)) == int(ticks)


def _asker(text: str) -> tuple[str, str, str]:
    """Boot, pid and start time; the boot is empty in what an earlier version wrote."""
    boot, pid, ticks = f"::{text}".rsplit(":", 2)
    return boot.lstrip(":"), pid, ticks


@cache
def _boot_id() -> str:
    """Names the current run of the kernel (random(4)); empty where /proc does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _text_or_bytes(raw: bytes) -> str | bytes:
    """Text that is not UTF-8 must not end the look at all other rows."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw


def _readable(row: sqlite3.Row) -> bool:
    """Whether a row is one that this module wrote: sqlite keeps anything in any column."""
    texts = all(isinstance(row[name], str) for name in ("id", "kind", "owner", "state", "asker"))
    if not texts or row["state"] not in (_WAITING, _STARTING, _RUNNING):
        return False
    numbers = isinstance(row["cores"], int | float) and isinstance(row["seen"], int | float)
    if not numbers or not isinstance(row["memory"], int) or row["start_slot"] not in (0, 1):
        return False
    if (
        not 0 <= row["memory"] <= MOST_MEMORY
        or not 0 <= row["cores"] <= MOST_CORES
        or not _whole(*_asker(row["asker"])[1:])
    ):
        return False
    return row["process"] is None or _is_process(row["process"])


def _whole(*texts: str) -> bool:
    return all(re.fullmatch(r"-?[0-9]{1,19}", text) for text in texts)


def _is_process(text: object) -> bool:
    try:
        state = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return False
    if not isinstance(state, dict) or not isinstance(state.get("pid"), int):
        return False
    counts = ("started", "kills_at_start", "keeper", "keeper_started", "memory_limit")
    paths = state.get("cgroup", [])
    return (
        "started" in state
        and all(state.get(name) is None or isinstance(state[name], int) for name in counts)
        and isinstance(paths, list)
        and all(isinstance(path, str) for path in paths)
    )


def _start_ticks(pid: int) -> int:
    """The kernel's start time of a process in clock ticks (field 22 of proc_pid_stat(5));

    -1 when it is gone.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return -1
    fields = text[text.rindex(")") + 2 :].split()
    return -1 if fields[0] in "ZX" else int(fields[19])
