"""The platform's databases, looked at before anything starts: damage is told in words, not by a part's traceback."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tidehub.capacity.ledger import Ledger, ledger_file
from tidehub.capacity.queue import Capacity
from tidehub.errors import TidehubError, UsageError
from tidehub.local.isolation import Isolation
from tidehub.local.isolation.users import Users
from tidehub.local.places import Places
from tidehub.local.set_aside import set_aside, set_file_aside
from tidehub.system import sqlite

CONNECT_SECONDS = 10
"""How long a PostgreSQL server may take to answer."""


def check_databases(places: Places) -> None:
    """Raise `TidehubError` when one of the sqlite files in the state is damaged. A missing one is made by its part."""
    Users(places.users, homes=places.homes).database.check()
    for path, what, lost in (
        (
            places.hub_database,
            "hub",
            "users have to log in again, and shares and tokens of the hub are lost; files stay",
        ),
        (places.gateway_database, "gateway", "running clusters are lost"),
    ):
        restore = f"restore it from a backup. Without one: move it away and start again; then {lost}"
        sqlite.File(path, f"the {what}'s database", restore).check()


def open_ledger(places: Places, capacity: Capacity, warn: Callable[[str], None]) -> Ledger:
    """The ledger of this start. A damaged one is set aside and made anew, for hub and gateway enter what runs.

    Raises `TidehubError` when it cannot be written.
    """
    try:
        ledger_file(places.ledger).check()
    except sqlite.Damaged as error:
        kept = set_file_aside(places.private, places.ledger)
        warn(f"{error.what}. It is created again from what runs; the damaged file is {kept}")
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
