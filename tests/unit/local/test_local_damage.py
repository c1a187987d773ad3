"""Garbage in any column of any of our own tables costs that row; all others go on. Real sqlite files."""

from __future__ import annotations

import json
import sqlite3
import stat
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tidehub.capacity.ledger import ABSENT_AFTER, Ledger
from tidehub.capacity.queue import WORKER, Admitted, Capacity, Reservation
from tidehub.errors import TidehubError
from tidehub.identity.accounts import Account, AccountStore
from tidehub.local.isolation.launches import Launches, ProcessHandle
from tidehub.local.isolation.users import Users
from tidehub.local.missing import missing_parts, refuse_missing
from tidehub.local.places import Places
from tidehub.local.set_aside import files_set_aside, set_aside
from tidehub.local.supervisor import state as platform_state
from tidehub.system.processes import boot_id

GARBAGE: list[Any] = [
    "garbage",
    b"\xff\xfe\x00",
    10**18,
    -5,
    0,
    1.5,
    "[1, 2]",
    '{"pid": "x"}',
    "[" * 5000,
    "../../etc",
    "",
    "\0",
    None,
]
CAPACITY = Capacity(1000, 2, 3)


def columns(path: Path, table: str) -> list[str]:
    with closing(sqlite3.connect(path)) as database:
        return [row[1] for row in database.execute(f"PRAGMA table_info({table})")]


def overwrite(path: Path, table: str, column: str, rowid: int, value: Any) -> bool:
    """Past the schema where sqlite lets us; bytes also as text that is not UTF-8."""
    with closing(sqlite3.connect(path)) as database:
        cast = "CAST(? AS TEXT)" if isinstance(value, bytes) else "?"
        try:
            database.execute(f"UPDATE {table} SET {column} = {cast} WHERE rowid = ?", (value, rowid))
        except sqlite3.IntegrityError:
            return False
        database.commit()
        return True


def each_damage(path: Path, table: str) -> Iterator[tuple[str, Any]]:
    """Every column and garbage that could be written into row 2; the file is put back after each."""
    whole = path.read_bytes()
    for column in columns(path, table):
        for value in GARBAGE:
            if overwrite(path, table, column, 2, value):
                yield column, value
            path.write_bytes(whole)


def closed(path: Path) -> None:
    """Everything in the one file, so that it can be copied."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.execute("PRAGMA journal_mode = DELETE")


def test_the_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path, CAPACITY)
    for name in ("a", "b", "c"):
        ledger.ask(Reservation(name, WORKER, "ada", 100, 1.0))
        assert ledger.turns([name])[name] == Admitted()
        ledger.started(name, {"pid": 7, "started": 1, "boot": boot_id()})
    closed(path)
    tried = 0
    for _ in each_damage(path, "claims"):
        kept: list[dict[str, Any]] = []
        again = Ledger(path, CAPACITY, on_damage=kept.extend)
        assert {"a", "c"} <= set(again.processes())
        assert again.usage("ada").memory >= 200
        again.reconcile(lambda state: ProcessHandle.from_state(state).pid == 7)
        again.queue()
        again.ask(Reservation("new", WORKER, "bob", 1, 1.0))
        assert again.turns(["new"])["new"] == Admitted()
        assert len(kept) <= 1
        closed(path)
        tried += 1
    assert tried > 50


def test_a_jump_of_the_clock_drops_nothing_and_a_reboot_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    ledger = Ledger(tmp_path / "ledger.sqlite", Capacity(10, 2, 3))
    ledger.ask(Reservation("runs", WORKER, "ada", 10, 1.0))
    ledger.turns(["runs"])
    ledger.ask(Reservation("waits", WORKER, "ada", 5, 1.0))
    ledger.ask(Reservation("behind", WORKER, "bob", 5, 1.0))
    now = time.time()
    for jump in (-86400, 86400, 10 * ABSENT_AFTER):
        monkeypatch.setattr(time, "time", lambda jump=jump: now + jump)
        assert ledger.reconcile(lambda state: True) == []
        assert [reservation.id for reservation, _ in ledger.queue()] == ["waits", "behind"]
    monkeypatch.setattr("tidehub.capacity.ledger_rows.boot_id", lambda: "another")
    assert ledger.reconcile(lambda state: True) == ["runs", "waits", "behind"], (
        "nobody of that boot asks any more"
    )


@pytest.fixture
def users(tmp_path: Path) -> Users:
    (tmp_path / "private").mkdir()
    (tmp_path / "homes").mkdir()
    table = Users(
        tmp_path / "private" / "people.sqlite",
        homes=tmp_path / "homes",
        uids=range(70000, 70100),
        taken=lambda uid: False,
    )
    for name in ("ada", "bob", "eve"):
        table.enrol(name)
    return table


def launch(users: Users, pid: int, started: int) -> None:
    spec: Any = SimpleNamespace(user=SimpleNamespace(name="ada"), parent="servers", name=f"unit{pid}")
    Launches(users).record(spec, ProcessHandle(pid=pid, started=started, boot=boot_id()))


def test_the_table_of_started_processes(users: Users, tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            ticks = platform_state.start_ticks(process.pid)
            assert ticks is not None
            launch(users, 11, 1)
            launch(users, process.pid, ticks)
            launch(users, 13, 3)
            tried = 0
            for column, _ in each_damage(users.path, "launches"):
                kept: list[dict[str, Any]] = []
                launches = Launches(users)
                found = {line.handle.pid for line in launches.all()}
                assert {11, 13} <= found
                if column == "handle":
                    assert process.pid in found, "its other columns know the process"
                launches.mend(kept.extend)
                assert len(kept) <= 1
                launch(users, 17, 4)
                assert len(launches.all()) == 4 - len(kept)
                tried += 1
            assert tried > 50
        finally:
            process.kill()


def test_the_table_of_users_gives_nobody_another_ones_uid_or_home(users: Users) -> None:
    known = {entry.name: entry for entry in users.everyone()}
    whole = users.path.read_bytes()
    tried = 0
    for column in columns(users.path, "people"):
        for value in GARBAGE:
            if overwrite(users.path, "people", column, known["bob"].number, value):
                tried += 1
                assert users.find("ada") == known["ada"] and users.find("eve") == known["eve"]
                try:
                    bob = users.enrol("bob")
                except TidehubError as error:
                    assert "damaged" in str(error) and "backup" in (error.fix or "")
                    assert users.damaged()
                else:
                    assert bob.number in users.uids and bob.number not in (70000, 70002)
                    assert "/" not in bob.directory and bob.directory not in ("ada", "eve", "")
                new = users.enrol("new")
                assert new.number > 70002
            users.path.write_bytes(whole)
    assert tried > 15


@pytest.mark.parametrize("value", [*GARBAGE, "gone"])
def test_a_damaged_counter_gives_no_uid_twice(users: Users, value: Any) -> None:
    with closing(sqlite3.connect(users.path)) as database:
        if value == "gone":
            database.execute("DELETE FROM counter")
        elif value is not None:
            database.execute("UPDATE counter SET next = ?", (value,))
        database.commit()
    assert users.enrol("new").number == 70003
    assert users.enrol("newer").number == 70004


def test_accounts_of_the_identity_provider(tmp_path: Path) -> None:
    directory = tmp_path / "identity"
    with AccountStore.open(directory) as store:
        for name in ("ada", "bob", "eve"):
            store.add_hashed(Account(name, name.title(), f"{name}@example.org"), "hash")
    path = directory / "identity.sqlite"
    closed(path)
    tried = 0
    for column, value in each_damage(path, "accounts"):
        with AccountStore.open(directory) as store:
            names = {account.username for account in store.all()}
            assert {"ada", "eve"} <= names, (column, value)
        closed(path)
        tried += 1
    assert tried > 20
    kept = list(directory.glob("set-aside-*"))
    assert kept and all(stat.S_IMODE(copy.stat().st_mode) == 0o600 for copy in kept)


def test_what_is_set_aside_is_private_and_complete(tmp_path: Path) -> None:
    path = set_aside(tmp_path, "hub", [{"row": {"a": b"\xff", "b": "\ud800"}}, {"row": {}}])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert json.loads(path.read_text())[0]["row"] == {"a": {"base64": "/w=="}, "b": "\ud800"}
    assert files_set_aside(tmp_path) == [path]
    assert files_set_aside(tmp_path / "none") == []


# --- parts that are gone ------------------------------------------------------------------------------------------


@pytest.fixture
def whole(tmp_path: Path) -> Places:
    places = Places(tmp_path / "state")
    (places.homes / "ada").mkdir(parents=True)
    places.private.mkdir()
    Users(places.users, homes=places.homes, uids=range(70000, 70100)).enrol("ada")
    for path in (places.id_file, places.secrets, places.hub_database, places.gateway_database):
        path.write_text("x")
    return places


def test_a_whole_state_and_a_new_one_miss_nothing(whole: Places, tmp_path: Path) -> None:
    assert missing_parts(whole, own_hub_database=True) == []
    assert missing_parts(Places(tmp_path / "new"), own_hub_database=True) == []
    early = Places(tmp_path / "early")
    early.homes.mkdir(parents=True)
    early.private.mkdir()
    for path in (early.id_file, early.secrets):
        path.write_text("x")
    assert missing_parts(early, own_hub_database=True) == [], "a first start that was interrupted"


@pytest.mark.parametrize("name", ["platform-id", "secrets.json", "people.sqlite", "hub.sqlite", "homes"])
def test_what_is_gone_is_named_with_its_meaning_until_it_is_accepted(whole: Places, name: str) -> None:
    if name == "homes":
        whole.homes.rename(whole.state / "elsewhere")
    else:
        (whole.private / name).unlink()
    with pytest.raises(TidehubError, match=f"{name} is missing") as caught:
        refuse_missing(whole, [], own_hub_database=True)
    assert f"--accept-missing {name}" in (caught.value.fix or "")
    with pytest.raises(TidehubError):
        refuse_missing(
            whole, [other for other in ("homes", "hub.sqlite") if other != name], own_hub_database=True
        )
    assert [part.name for part in refuse_missing(whole, [name], own_hub_database=True)] == [name]
    assert not (whole.private / name).exists(), "asking makes nothing"
    with pytest.raises(TidehubError, match="not a part of a state"):
        refuse_missing(whole, ["everything"], own_hub_database=True)


def test_a_hub_database_on_postgresql_is_not_missed(whole: Places) -> None:
    whole.hub_database.unlink()
    assert missing_parts(whole, own_hub_database=False) == []


# --- after a reboot -----------------------------------------------------------------------------------------------


def test_a_process_of_an_earlier_boot_is_never_taken_for_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "platform.json"
    platform_state.write_state(path, platform_state.own_state(state="running"))
    found = platform_state.read_state(path)
    assert found is not None and found.alive and not found.before_reboot
    monkeypatch.setattr(platform_state, "boot_id", lambda: "another")
    assert not found.alive and found.before_reboot
