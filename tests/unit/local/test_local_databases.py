from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from tidehub.capacity.queue import Capacity
from tidehub.errors import TidehubError, UsageError
from tidehub.local.addresses import free_ports
from tidehub.local.databases import (
    check_databases,
    check_hub_database,
    database_environment,
    hub_database_url,
    open_ledger,
)
from tidehub.local.places import Places
from tidehub.local.set_aside import files_set_aside


@pytest.fixture
def places(tmp_path: Path) -> Places:
    found = Places(tmp_path / "state")
    for directory in (found.private, found.identity):
        directory.mkdir(parents=True)
    return found


def make(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("create table users (name text primary key, note text)")
        database.executemany("insert into users values (?, ?)", [(str(n), "x" * 200) for n in range(500)])
        database.commit()


@pytest.mark.parametrize("name", ["hub.sqlite", "people.sqlite", "gateway.sqlite"])
@pytest.mark.parametrize("damage", ["empty", "garbage", "half", "middle"])
def test_a_damaged_database_is_named_with_its_remedy(places: Places, name: str, damage: str) -> None:
    path = places.private / name
    make(path)
    check_databases(places)
    whole = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "garbage": b"not a database " * 400,
            "half": whole[: len(whole) // 2],
            "middle": whole[:2048] + b"\xa5" * 8192 + whole[10240:],
        }[damage]
    )
    with pytest.raises(TidehubError, match="is damaged") as caught:
        check_databases(places)
    assert str(path) in str(caught.value)
    assert "backup" in (caught.value.fix or "")


@pytest.mark.parametrize("damage", [b"", b"not a database " * 400])
def test_a_damaged_ledger_is_set_aside_and_made_anew(places: Places, damage: bytes) -> None:
    places.ledger.write_bytes(damage)
    told: list[str] = []
    ledger = open_ledger(places, Capacity(memory=100, cores=2, starts=2), told.append)
    assert ledger.usage().memory == 0
    (kept,) = files_set_aside(places.private)
    assert kept.read_bytes() == damage
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    assert len(told) == 1 and str(kept) in told[0]
    open_ledger(places, Capacity(memory=100, cores=2, starts=2), told.append)
    assert len(told) == 1, "a good one stays"


def test_what_is_not_there_yet_is_no_damage(places: Places) -> None:
    check_databases(places)
    assert not list(places.private.iterdir()), "looking must not make files"


def test_libpq_finds_the_operators_password_file(tmp_path: Path) -> None:
    own = tmp_path / ".pgpass"
    own.write_text("")
    assert database_environment({"HOME": str(tmp_path), "PATH": "/bin"}) == {"PGPASSFILE": str(own)}
    assert database_environment({"HOME": str(tmp_path), "PGPASSFILE": "/x"}) == {"PGPASSFILE": "/x"}
    assert database_environment({"PGSSLMODE": "verify-full"}) == {"PGSSLMODE": "verify-full"}


def test_both_spellings_of_the_scheme() -> None:
    assert (
        hub_database_url("postgres://u@h/d") == hub_database_url("postgresql://u@h/d") == "postgresql://u@h/d"
    )


def test_a_server_that_does_not_answer_is_told_without_the_password() -> None:
    port = free_ports(1)[0]
    with pytest.raises(TidehubError, match=f"127.0.0.1:{port}/hub cannot be used") as caught:
        check_hub_database(f"postgres://th:hushhush@127.0.0.1:{port}/hub")
    assert "hushhush" not in str(caught.value)


def test_a_driver_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="database_url cannot be used"):
        check_hub_database("postgresql+nodriver://th@127.0.0.1/hub")
