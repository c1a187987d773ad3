"""tidehub's own databases: real files, real processes that are killed, locks that are really held."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import tidehub
from tidehub.capacity.ledger import Ledger, ledger_file
from tidehub.capacity.queue import WORKER, Capacity, Reservation, Waiting
from tidehub.errors import TidehubError
from tidehub.identity.database import FILE_NAME
from tidehub.identity.database import Database as IdentityDatabase
from tidehub.identity.database import check as check_identity
from tidehub.local.isolation.users import Users
from tidehub.system import sqlite
from tidehub.system.files import is_full_disk
from tidehub.system.sqlite import Damaged, Database

FIRST = "CREATE TABLE IF NOT EXISTS t (a TEXT NOT NULL)"
SECOND = "ALTER TABLE t ADD COLUMN b TEXT; UPDATE t SET b = a"


def database(path: Path, *steps: sqlite.Step, durable: bool = True) -> Database:
    return Database(path, "the table of tests", "restore it", steps=steps or (FIRST,), durable=durable)


def ask(path: Path, question: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as plain, plain:
        return plain.execute(question).fetchall()


@contextmanager
def program(text: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Another process that says a line when it is where it shall be."""
    with subprocess.Popen(
        [sys.executable, "-c", text, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as started:
        try:
            assert started.stdout is not None
            assert started.stdout.readline() == "there\n"
            yield started
        finally:
            started.kill()


# --- making and upgrading -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
@pytest.mark.parametrize("durable", [True, False])
def test_the_mode_is_set_by_word_for_all_files(tmp_path: Path, umask: int, durable: bool) -> None:
    one = database(tmp_path / "t.sqlite", durable=durable)
    old = os.umask(umask)
    try:
        with one.transaction() as db:
            db.execute("INSERT INTO t VALUES ('x')")
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    finally:
        os.umask(old)
    assert len(modes) > 1, "something lies beside it while it is written"
    assert set(modes.values()) == {0o600}, modes


def test_one_killed_while_it_is_made_is_not_there_and_is_made_by_the_next(tmp_path: Path) -> None:
    """An empty file would be taken for a table that lost all users, and refused for ever."""
    path = tmp_path / "people.sqlite"
    with program(
        "import sys, time; from pathlib import Path; from tidehub.local.isolation.users import Users\n"
        "class Slow(Users):\n"
        "    def _create(self, db):\n"
        "        super()._create(db)\n"
        "        print('there', flush=True)\n"
        "        time.sleep(60)\n"
        "Slow(Path(sys.argv[1]), homes=Path(sys.argv[1]).parent).everyone()",
        path,
    ) as making:
        making.send_signal(signal.SIGKILL)
        making.wait()
    assert not path.exists()
    users = Users(path, homes=tmp_path, taken=lambda uid: False)
    users.database.check()
    assert users.enrol("ada").number == 70000
    users.database.check()


def test_a_link_that_leads_nowhere_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "t.sqlite").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TidehubError, match="cannot be used"):
        database(tmp_path / "t.sqlite").connect()
    assert [entry.name for entry in tmp_path.iterdir()] == ["t.sqlite"]


def test_many_who_make_it_at_once_have_one(tmp_path: Path) -> None:
    text = (
        "import sys; from pathlib import Path; from tidehub.system.sqlite import Database\n"
        "one = Database(Path(sys.argv[1]), 'the table of tests', '', steps=(sys.argv[2],))\n"
        "print('there', flush=True); sys.stdin.readline()\n"
        "with one.transaction() as db: db.execute('INSERT INTO t VALUES (?)', (sys.argv[3],))"
    )
    path = tmp_path / "t.sqlite"
    running = [program(text, path, FIRST, number) for number in range(6)]
    entered = [one.__enter__() for one in running]
    try:
        for one in entered:
            assert one.stdin is not None
            one.stdin.write("\n")
            one.stdin.flush()
        assert [one.wait(30) for one in entered] == [0] * 6
    finally:
        for context in running:
            context.__exit__(None, None, None)
    assert sorted(ask(path, "SELECT a FROM t")) == [(str(number),) for number in range(6)]
    assert [entry.name for entry in tmp_path.iterdir()] == ["t.sqlite"]


def test_an_older_file_is_brought_up_and_a_failure_leaves_it_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    with database(path).transaction() as db:
        db.execute("INSERT INTO t VALUES ('x')")

    def fails(db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM t")
        raise OSError("pulled out")

    with pytest.raises(OSError, match="pulled out"):
        database(path, FIRST, SECOND, fails).connect()
    assert ask(path, "SELECT * FROM t") == [("x",)] and ask(path, "PRAGMA user_version") == [(1,)]
    with database(path, FIRST, SECOND).transaction(write=False) as db:
        assert tuple(db.execute("SELECT a, b FROM t").fetchone()) == ("x", "x")
    assert ask(path, "PRAGMA user_version") == [(2,)]


def test_the_tables_of_the_first_versions_go_on(tmp_path: Path) -> None:
    """As the versions before this module wrote them: user_version 0, and the ledger's 1 while it was paused."""
    people = tmp_path / "people.sqlite"
    ask(
        people,
        "CREATE TABLE people (number INTEGER PRIMARY KEY, name TEXT NOT NULL, directory TEXT NOT NULL UNIQUE,"
        " removed INTEGER NOT NULL DEFAULT 0)",
    )
    ask(people, "CREATE TABLE counter (next INTEGER NOT NULL)")
    ask(people, "INSERT INTO counter VALUES (70007)")
    ask(people, "INSERT INTO people VALUES (70003, 'ada', 'ada', 0)")
    users = Users(people, homes=tmp_path, taken=lambda uid: False)
    assert users.enrol("ada").number == 70003 and users.enrol("bob").number == 70007

    path = tmp_path / "ledger.sqlite"
    capacity = Capacity(memory=10, cores=2, starts=2)
    Ledger(path, capacity).ask(Reservation("a", WORKER, "ada", 4, 1.0))
    ask(path, "DROP TABLE paused")
    ask(path, "PRAGMA user_version = 1")
    ledger = Ledger(path, capacity)
    verdict = ledger.turns(["a"])["a"]
    assert isinstance(verdict, Waiting) and "being stopped" in verdict.reason
    ledger.resume()
    assert not isinstance(ledger.turns(["a"])["a"], Waiting)


def identity(directory: Path) -> None:
    IdentityDatabase(directory).close()


OURS: dict[str, tuple[str, Callable[[Path], object], Callable[[Path], object]]] = {
    "users": (
        "people.sqlite",
        lambda directory: Users(directory / "people.sqlite", homes=directory).everyone(),
        lambda directory: Users(directory / "people.sqlite", homes=directory).database.check(),
    ),
    "ledger": (
        "ledger.sqlite",
        lambda directory: Ledger(directory / "ledger.sqlite", Capacity(memory=1, cores=1, starts=1)),
        lambda directory: ledger_file(directory / "ledger.sqlite").check(),
    ),
    "identity": (FILE_NAME, identity, check_identity),
}


@pytest.fixture(params=OURS)
def ours(
    request: pytest.FixtureRequest, tmp_path: Path
) -> tuple[Path, Callable[[], object], Callable[[], object]]:
    """The path of one of our databases, made; what uses it; what checks it."""
    name, use, check = OURS[request.param]
    tmp_path.chmod(0o700)
    use(tmp_path)
    return tmp_path / name, lambda: use(tmp_path), lambda: check(tmp_path)


def test_one_of_a_newer_tidehub_is_refused_and_left_alone(
    ours: tuple[Path, Callable[[], object], Callable[[], object]],
) -> None:
    path, use, _ = ours
    ask(path, "PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(TidehubError, match="has version 99") as caught:
        use()
    assert not isinstance(caught.value, Damaged), "the ledger must not be thrown away for it"
    assert str(path) in str(caught.value) and "the tidehub that wrote it" in (caught.value.fix or "")
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", ["garbage", "half", "middle", "other tables", "version"])
def test_one_that_is_damaged_is_told_in_one_form(
    ours: tuple[Path, Callable[[], object], Callable[[], object]], damage: str
) -> None:
    path, use, check = ours
    whole = path.read_bytes()
    if damage == "other tables":
        for (name,) in ask(
            path, "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
        ):
            ask(path, f"ALTER TABLE {name} RENAME TO other_{name}")
    elif damage == "version":
        ask(path, "PRAGMA user_version = -3")
    else:
        path.write_bytes(
            {
                "garbage": b"not a database " * 400,
                "half": whole[: len(whole) // 2],
                "middle": whole[:100] + b"\xa5" * 2000 + whole[2100:],
            }[damage]
        )
    faults = []
    for look in (check, use):
        try:
            look()
        except TidehubError as error:
            faults.append(error)
    if damage == "other tables" and path.name == FILE_NAME:
        return  # nothing of it is read when it is opened
    assert faults, "nobody noticed"
    for fault in faults:
        assert fault.where is not None and fault.where.file == str(path)
        assert fault.expected and fault.fix
        assert "is damaged" in fault.what or "has version -3" in fault.what


# --- what is on the disk, and when --------------------------------------------------------------------------------


def settings(path: Path, connection: sqlite3.Connection) -> tuple[str, int]:
    return (
        connection.execute("PRAGMA journal_mode").fetchone()[0],
        connection.execute("PRAGMA synchronous").fetchone()[0],
    )


def test_what_must_survive_a_power_cut_waits_for_the_disk(tmp_path: Path) -> None:
    full, normal = 2, 1
    tmp_path.chmod(0o700)
    with IdentityDatabase(tmp_path) as accounts:
        assert settings(tmp_path, accounts.connection) == ("delete", full)
    with Users(tmp_path / "people.sqlite", homes=tmp_path).transaction() as db:
        assert settings(tmp_path, db) == ("delete", full)
    with ledger_file(tmp_path / "ledger.sqlite").transaction() as db:
        assert settings(tmp_path, db) == ("wal", normal)


def test_one_in_the_other_mode_that_another_process_has_open_is_used_at_once(tmp_path: Path) -> None:
    """`up` on a running platform: the provider of an earlier version has its accounts open, in WAL."""
    path = tmp_path / "t.sqlite"
    with database(path).transaction() as db:
        db.execute("INSERT INTO t VALUES ('old')")
    with program(
        "import sqlite3, sys\n"
        "db = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "db.execute('PRAGMA journal_mode = WAL'); db.execute('SELECT * FROM t').fetchall()\n"
        "print('there', flush=True); sys.stdin.readline()",
        path,
    ):
        began = time.monotonic()
        with database(path).transaction() as db:
            db.execute("INSERT INTO t VALUES ('new')")
            assert settings(path, db) == ("wal", 2)
        assert time.monotonic() - began < 2, "nobody is waited for"
    with database(path).transaction() as db:
        assert settings(path, db) == ("delete", 2)
        assert [row["a"] for row in db.execute("SELECT a FROM t")] == ["old", "new"]


# --- faults while it is used --------------------------------------------------------------------------------------


def test_one_that_is_locked_is_not_damaged_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.1)
    one = database(tmp_path / "t.sqlite")
    with closing(one.connect()) as kept:
        with closing(sqlite3.connect(one.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(TidehubError, match="cannot be used: database is locked") as caught:
                with one.within(kept):
                    pytest.fail("it is locked")
            assert not isinstance(caught.value, Damaged) and "another program" in (caught.value.fix or "")
            other.execute("ROLLBACK")
            # A reader lets a change begin and not end.
            other.execute("BEGIN")
            other.execute("SELECT * FROM t").fetchall()
            with pytest.raises(TidehubError, match="database is locked"):
                with one.within(kept) as db:
                    db.execute("INSERT INTO t VALUES ('x')")
        with one.within(kept) as db:
            assert not db.execute("SELECT * FROM t").fetchall(), "what could not be committed is undone"
            db.execute("INSERT INTO t VALUES ('y')")


def test_a_full_disk_is_named_and_the_connection_goes_on(tmp_path: Path) -> None:
    one = database(tmp_path / "t.sqlite")
    with closing(one.connect()) as kept:
        kept.execute("PRAGMA max_page_count = 3")
        with pytest.raises(TidehubError, match="cannot be used: database or disk is full") as caught:
            with one.within(kept) as db:
                db.execute("INSERT INTO t VALUES (?)", ("x" * 100_000,))
        assert is_full_disk(caught.value) and "make room" in (caught.value.fix or "")
        with one.within(kept) as db:
            db.execute("INSERT INTO t VALUES ('small')")
            assert len(db.execute("SELECT * FROM t").fetchall()) == 1


def test_a_constraint_is_the_callers(tmp_path: Path) -> None:
    one = database(tmp_path / "t.sqlite")
    with pytest.raises(sqlite3.IntegrityError):
        with one.transaction() as db:
            db.execute("INSERT INTO t VALUES ('x')")
            db.execute("INSERT INTO t VALUES (NULL)")
    with one.transaction(write=False) as db:
        assert not db.execute("SELECT * FROM t").fetchall()


def test_a_look_changes_nothing_and_makes_nothing(tmp_path: Path) -> None:
    one = database(tmp_path / "odd name?x=1#%41.sqlite")
    one.check()
    with pytest.raises(TidehubError, match="cannot be used"):
        with one.reading():
            pytest.fail("there is nothing")
    assert not list(tmp_path.iterdir())
    with one.transaction() as db:
        db.execute("INSERT INTO t VALUES (CAST(? AS TEXT))", (b"\xff",))
    with one.reading() as db:
        assert db.execute("SELECT count(*) FROM t").fetchone() == (1,)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            db.execute("DELETE FROM t")
    content = one.copy()
    with sqlite.File(content, "the table in the backup", "restore an older one").reading() as db:
        assert db.execute("SELECT count(*) FROM t").fetchone() == (1,)
    with pytest.raises(Damaged, match="the table in the backup is damaged") as caught:
        with sqlite.File(content[:4096], "the table in the backup", "restore an older one").reading() as db:
            db.execute("SELECT * FROM t").fetchall()
    assert caught.value.where is None and caught.value.fix == "restore an older one"


def test_what_a_killed_process_left_half_written_is_read_as_it_was(tmp_path: Path) -> None:
    """A backup, or a look, before anything has opened it for writing."""
    one = database(tmp_path / "t.sqlite")
    with one.transaction() as db:
        db.executemany("INSERT INTO t VALUES (?)", [("whole",)] * 2000)
    with program(
        "import sqlite3, sys, time\n"
        "db = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "db.execute('PRAGMA cache_size = 2'); db.execute('BEGIN IMMEDIATE')\n"
        "db.execute('UPDATE t SET a = ?', ('half' * 100,))\n"
        "print('there', flush=True); time.sleep(60)",
        one.path,
    ) as writing:
        writing.send_signal(signal.SIGKILL)
        writing.wait()
    assert one.path.with_name("t.sqlite-journal").exists()
    with one.reading() as db:
        assert [tuple(row) for row in db.execute("SELECT a, count(*) FROM t GROUP BY a")] == [("whole", 2000)]
    one.check()


def test_databases_are_opened_in_one_place() -> None:
    """Who opens one by itself decides again about modes, journals, locks and words."""
    # The holder runs by path with the standard library alone; the other one is a program for a pod.
    allowed = {"system/sqlite.py", "local/supervisor/holder.py", "backup/hub_pod.py"}
    package = Path(tidehub.__file__).parent
    found = {
        str(file.relative_to(package))
        for file in package.rglob("*.py")
        if "sqlite3.connect(" in file.read_text(encoding="utf-8")
    }
    assert found == allowed
