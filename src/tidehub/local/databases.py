"""The platform's databases, looked at before anything starts: damage is told in words, not by a part's traceback."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from tidehub.capacity.ledger import Ledger
from tidehub.capacity.queue import Capacity
from tidehub.errors import TidehubError, UsageError
from tidehub.local.isolation import Isolation
from tidehub.local.places import Places
from tidehub.local.set_aside import set_aside, set_file_aside
from tidehub.system.files import os_fault

CONNECT_SECONDS = 10
"""How long a PostgreSQL server may take to answer."""

_AWAY = "Without one: move it away and start again; then"


def check_databases(places: Places) -> None:
    """Raise `TidehubError` when one of the sqlite files in the state is damaged. A missing one is made by its part."""
    for path, without in _remedies(places).items():
        _check_sqlite(path, without)


def _remedies(places: Places) -> dict[Path, str]:
    """What to do about each file when there is no backup."""
    away = _AWAY
    return {
        places.hub_database: f"{away} users log in anew, and shares and tokens of the hub are lost; files stay",
        places.users: "Without one nobody knows which uid owns which home: make the table anew only together "
        f"with new homes (move {places.homes} away too)",
        places.gateway_database: f"{away} running clusters are lost",
    }


def check_identity_database(path: Path) -> None:
    """The same for the identity provider's, which only the owner of its directory may open."""
    _check_sqlite(path, f"{_AWAY} the demo accounts get new passwords")


def open_ledger(places: Places, capacity: Capacity, warn: Callable[[str], None]) -> Ledger:
    """The ledger of this start. A damaged one is set aside and made anew, for hub and gateway enter what runs.

    Raises `TidehubError` when it cannot be written.
    """
    try:
        _check_sqlite(places.ledger, "")
    except Damaged as error:
        kept = set_file_aside(places.private, places.ledger)
        warn(f"{error.what}. It is made anew from what runs; the damaged file is {kept}")
    return Ledger(places.ledger, capacity, on_damage=ledger_damage(places, warn))


def ledger_damage(places: Places, warn: Callable[[str], None]) -> Callable[[list[dict[str, Any]]], None]:
    """What becomes of unreadable rows of the ledger: kept in a file, and told. Whoever runs them enters them again."""
    return _keep(places, "ledger", "the ledger of memory", warn)


def mend_users(places: Places, isolation: Isolation, warn: Callable[[str], None]) -> None:
    """Take damaged lines out of the table of started processes; name entries of users that cannot be used."""
    isolation.mend(_keep(places, "launches", "the table of started processes", warn))
    for words in isolation.users.damaged():
        warn(f"{words}. This user cannot start anything until the table is restored from a backup")


def _keep(
    places: Places, source: str, what: str, warn: Callable[[str], None]
) -> Callable[[list[dict[str, Any]]], None]:
    def keep(rows: list[dict[str, Any]]) -> None:
        kept = set_aside(places.private, source, rows)
        warn(f"{len(rows)} damaged entries of {what} were removed. A copy is in {kept}")

    return keep


def _check_sqlite(path: Path, without: str) -> None:
    try:
        if path.stat().st_size == 0:
            # An empty file is an empty database to sqlite: everything would be gone without a word.
            raise _damaged(path, "empty", without)
    except FileNotFoundError:
        return
    except OSError as error:
        raise os_fault(error, path, "read") from error
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True)) as database:
            found = [str(row[0]) for row in database.execute("PRAGMA quick_check(1)")]
    except sqlite3.DatabaseError as error:
        raise _damaged(path, str(error), without) from error
    if found != ["ok"]:
        raise _damaged(path, "; ".join(found).replace("\n", " "), without)


class Damaged(TidehubError):
    """A database that sqlite cannot read as a whole."""


def _damaged(path: Path, why: str, without: str) -> Damaged:
    return Damaged(
        f"{path} is damaged: {why}",
        expected="the database that tidehub made here",
        fix=f"restore it from a backup. {without}",
    )


def hub_database_url(url: str) -> str:
    """`url` as SQLAlchemy takes it: libpq's other spelling of the scheme is not known there."""
    return url.replace("postgres://", "postgresql://", 1) if url.startswith("postgres://") else url


def check_hub_database(url: str) -> None:
    """Raise unless the PostgreSQL server at `url` lets us in. The password is in no message."""
    from sqlalchemy import create_engine
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

    shown = urlsplit(url)
    where = f"{shown.hostname or 'local socket'}{f':{shown.port}' if shown.port else ''}{shown.path}"
    try:
        engine = create_engine(hub_database_url(url), connect_args={"connect_timeout": CONNECT_SECONDS})
    except (ImportError, NoSuchModuleError, ArgumentError) as error:
        raise UsageError(
            f"machine.database_url cannot be used: {_first_line(error)}",
            expected="postgresql://user@host/database",
            fix="leave out the driver: psycopg 3 is the one that tidehub brings",
        ) from error
    try:
        with engine.connect():
            pass
    except SQLAlchemyError as error:
        raise TidehubError(
            f"the hub's database at {where} cannot be used: {_first_line(getattr(error, 'orig', None) or error)}",
            expected="a PostgreSQL server that lets this user in, with a database that they own",
            fix="look at machine.database_url. A password belongs in a password file: ~/.pgpass, or one that "
            "PGPASSFILE names",
        ) from error
    finally:
        engine.dispose()


def database_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What libpq is told by the environment (PostgreSQL 17 manual, 34.15); the hub gets it.

    Its HOME is not the operator's, so the operator's own password file is named where the environment names none.
    """
    told = {name: value for name, value in environ.items() if name.startswith("PG")}
    own = Path(environ.get("HOME", "/nonexistent"), ".pgpass")
    if "PGPASSFILE" not in told and os.access(own, os.R_OK):
        told["PGPASSFILE"] = str(own)
    return told


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
