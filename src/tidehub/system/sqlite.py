"""tidehub's own SQLite databases: made, opened, upgraded and refused in one way.

What is decided here for all of them, with the reason:

* A database that must survive a power cut (`durable`, the rule) keeps SQLite's rollback journal with FULL: what was
  committed is on the disk. WAL with FULL would be quicker, but WAL needs memory that all its users share, which the
  network file systems do not give that home directories often live on (https://sqlite.org/wal.html, section 1); and
  nobody notices a few milliseconds beside the start of a server or the hash of a password.
* One about processes of this boot alone is in WAL with NORMAL where the file system can: a commit waits for no disk,
  readers for no writer, and after a power cut all that it tells of has ended anyway.
* A change is one `BEGIN IMMEDIATE`: who writes after reading must not find that another was quicker.
* The version of the tables is the file's `user_version`. Older files are brought up step by step in one transaction;
  newer ones are refused. Steps can be repeated.
* Text that is not UTF-8 comes out as bytes, so that it ends the look at no other row.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Lock
from urllib.parse import quote

from tidehub.errors import Place, TidehubError

from .files import PRIVATE_DIRECTORY, PRIVATE_FILE, os_fault, remedy

BUSY_SECONDS = 30.0
"""How long others who write are waited for."""
WRITTEN_BESIDE = ("-wal", "-shm", "-journal")
"""Ends of the names of the files that SQLite keeps beside a database."""

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
"""The last one: a table or a column that was made here is not there."""
_REMEDIES = {
    sqlite3.SQLITE_FULL: remedy(errno.ENOSPC),
    sqlite3.SQLITE_IOERR: remedy(errno.EIO),
    sqlite3.SQLITE_BUSY: "another program has it open: end that one, then start again",
    sqlite3.SQLITE_PERM: remedy(errno.EACCES),
    sqlite3.SQLITE_READONLY: remedy(errno.EACCES),
    sqlite3.SQLITE_CANTOPEN: remedy(errno.EACCES),
}

Step = str | Callable[[sqlite3.Connection], None]
"""What makes the next version of the tables: statements with semicolons between them, or a function."""


class Damaged(TidehubError):
    """A database that sqlite cannot read as a whole."""


class File:
    """An sqlite file, ours or another program's, or the content of one. `what` it is for messages ("the hub's
    database"), and `restore`, what to do when it is damaged. Nothing is touched before the first use; each failure is
    a `TidehubError` with the path.
    """

    def __init__(self, source: Path | bytes, what: str, restore: str) -> None:
        self.path = source if isinstance(source, Path) else Path()
        self._content = None if isinstance(source, Path) else source
        self._where = Place(str(source)) if isinstance(source, Path) else None
        self._what = what
        self._restore = restore

    def check(self) -> None:
        """Raise `Damaged` when the file is. One that is missing is not: it is made at its first use."""
        try:
            if self.path.stat().st_size == 0:
                # An empty file is an empty database to sqlite: everything would be gone without a word.
                raise self._damaged("it is empty")
        except FileNotFoundError:
            return
        except OSError as error:
            raise os_fault(error, self.path, "read") from error
        with self.reading() as connection:
            self._look_through(connection)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that only reads, after what a killed process left half-written was put in order."""
        with self.in_words():
            with closing(self.at() if self._content is None else sqlite3.connect(":memory:")) as connection:
                if self._content is not None:
                    connection.deserialize(self._content)
                connection.execute("PRAGMA query_only = ON")
                yield connection

    def copy(self) -> bytes:
        """The database as of one moment, also while it is written to."""
        with tempfile.TemporaryDirectory(prefix="tidehub-") as place, self.reading() as source:
            copied = Path(place, "copy.sqlite")
            with closing(sqlite3.connect(copied)) as target:
                source.backup(target)
                # What was copied from a database in WAL mode asks for the same mode; one file is what is kept.
                target.execute("PRAGMA journal_mode = DELETE")
                self._look_through(target)
            return copied.read_bytes()

    def at(self, path: Path | None = None, *, any_thread: bool = False) -> sqlite3.Connection:
        """The file as it is, or one in its place; never made by sqlite, which would follow a link that leads nowhere.
        Raises `sqlite3.Error`.
        """
        address = f"file:{quote(str(path or self.path))}?mode=rw"
        return sqlite3.connect(
            address, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=not any_thread
        )

    @contextmanager
    def in_words(self) -> Iterator[None]:
        """Faults of sqlite as `TidehubError`; a constraint that is hurt is left to the caller."""
        try:
            yield
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
            raise
        except sqlite3.DatabaseError as error:
            kind = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            if kind in _DAMAGED:
                raise self._damaged(str(error)) from error
            raise TidehubError(
                f"{self._what} cannot be used: {error}",
                where=self._where,
                expected="a file that this user may write, and that nobody keeps locked",
                fix=_REMEDIES.get(kind),
            ) from error

    def _look_through(self, connection: sqlite3.Connection) -> None:
        found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(1)")]
        if found != ["ok"]:
            raise self._damaged("; ".join(found).replace("\n", " "))

    def _damaged(self, why: str) -> Damaged:
        expected = "the database that tidehub made"
        return Damaged(
            f"{self._what} is damaged: {why}", where=self._where, expected=expected, fix=self._restore
        )


class Database(File):
    """One of our own: private, made when it is missing, brought up to the last of `steps`."""

    def __init__(
        self, path: Path, what: str, restore: str, *, steps: Sequence[Step], durable: bool = True
    ) -> None:
        super().__init__(path, what, restore)
        self._steps = steps
        self._durable = durable

    @contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[sqlite3.Connection]:
        """All or nothing, on a connection of its own."""
        with closing(self.connect()) as connection, self.within(connection, write=write):
            yield connection

    @contextmanager
    def within(self, connection: sqlite3.Connection, *, write: bool = True) -> Iterator[sqlite3.Connection]:
        """`transaction` on a connection that is kept."""
        with self.in_words():
            connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # a full disk has ended it already
                    connection.execute("ROLLBACK")
                raise

    def connect(self) -> sqlite3.Connection:
        """A connection, for the caller to close."""
        if not self.path.exists():
            self._make()
        return self._open(self.path)

    def _make(self) -> None:
        """Whole or not at all: an empty file would be taken for one that lost everything."""
        draft = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.part")
        try:
            self.path.parent.mkdir(PRIVATE_DIRECTORY, parents=True, exist_ok=True)
            # sqlite would make it by the umask; the files beside it take their mode from this one.
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
            os.fchmod(descriptor, PRIVATE_FILE)
            os.close(descriptor)
            try:
                self._open(draft).close()
                with contextlib.suppress(FileExistsError):  # another process was quicker
                    os.link(draft, self.path)
            finally:
                draft.unlink()
        except OSError as error:
            raise os_fault(error, self.path, "make") from error

    def _open(self, path: Path) -> sqlite3.Connection:
        with self.in_words():
            connection = self.at(path)
            try:
                self._settle(connection)
                if _version(connection) != len(self._steps):
                    self._upgrade(connection)
            except BaseException:
                connection.close()
                raise
        return connection

    def _settle(self, connection: sqlite3.Connection) -> None:
        execute = connection.execute
        connection.row_factory = sqlite3.Row
        connection.text_factory = _text_or_bytes
        execute("PRAGMA foreign_keys = ON")
        execute("PRAGMA secure_delete = ON")
        execute(f"PRAGMA synchronous = {'FULL' if self._durable else 'NORMAL'}")
        journal = "delete" if self._durable else "wal"
        if execute("PRAGMA journal_mode").fetchone()[0] != journal:
            # It stays as it is while another process has it open in the other mode, or the file system cannot.
            with contextlib.suppress(sqlite3.OperationalError):
                execute(f"PRAGMA journal_mode = {journal}")

    def _upgrade(self, connection: sqlite3.Connection) -> None:
        with self.within(connection):
            version = _version(connection)
            if not 0 <= version <= len(self._steps):
                raise TidehubError(
                    f"{self._what} has version {version}, and this tidehub knows versions up to {len(self._steps)}",
                    where=Place(str(self.path)),
                    expected="a database that this tidehub or an older one made",
                    fix=f"use the tidehub that wrote it, or {self._restore}",
                )
            for step in self._steps[version:]:
                if callable(step):
                    step(connection)
                else:
                    for statement in step.split(";"):
                        connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {len(self._steps)}")


def kept(path: Path) -> bytes:
    """What the file at `path` holds, for a backup; an sqlite database (by its first bytes,
    https://sqlite.org/fileformat.html, 1.3) as of one moment. Raises `OSError` and `TidehubError`.
    """
    with path.open("rb") as file:
        if file.read(16) != b"SQLite format 3\0":
            file.seek(0)
            return file.read()
    return File(path, path.name, "restore it from an older backup").copy()


class Changes:
    """Whether any process, this one included, has committed to a file since the last look, for next to nothing.

    It keeps a connection of its own, because sqlite tells of the commits of others only (PRAGMA data_version). May be
    used from any thread.
    """

    def __init__(self, file: File) -> None:
        self._watched = file
        self._lock = Lock()
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    def mark(self) -> tuple[object, ...]:
        """Another value than before when something was committed in between, or the file is another one.

        Raises `TidehubError` when the file cannot be read.
        """
        with self._lock, self._watched.in_words():
            try:
                status = self._watched.path.stat()
                file = (status.st_dev, status.st_ino)
                if self._connection is None or file != self._file:
                    self._forget()
                    self._connection = self._watched.at(any_thread=True)
                    self._file = file
                return (*file, self._connection.execute("PRAGMA data_version").fetchone()[0])
            except BaseException as error:
                self._forget()
                if isinstance(error, OSError):
                    raise os_fault(error, self._watched.path, "read") from error
                raise

    def close(self) -> None:
        """Give the connection back; the next `mark` opens another one."""
        with self._lock:
            self._forget()

    def _forget(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _text_or_bytes(raw: bytes) -> str | bytes:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw
