"""Consistent copies of databases that may be in use."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from tidehub.errors import TidehubError

DUMP_SECONDS = 1800.0
"""How long PostgreSQL's own programs may take; a hub's database is megabytes."""


def postgres_dump(url: str, environ: Mapping[str, str]) -> bytes:
    """The database at `url` as pg_dump's custom format. Raises `TidehubError`; no password is in it."""
    return _run(["pg_dump", "--format=custom", "--no-owner", "--no-privileges"], url, environ)


def postgres_restore(url: str, dump: bytes, environ: Mapping[str, str]) -> None:
    """Put `dump` into the empty database at `url`, all or nothing. Raises `TidehubError`."""
    _run(
        ["pg_restore", "--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges"],
        url,
        environ,
        dump,
    )


def without_password(url: str) -> str:
    """The address of a PostgreSQL database with what a backup may say of it."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    user = (parts.username or "") and f"{parts.username}@"
    return parts._replace(netloc=f"{user}{host}").geturl()


def _run(program: list[str], url: str, environ: Mapping[str, str], given: bytes | None = None) -> bytes:
    password = urlsplit(url).password
    env = {
        name: value
        for name, value in environ.items()
        if name.startswith("PG") or name in ("PATH", "HOME", "LANG")
    }
    if password:
        # libpq takes it from here; in the arguments every user of the machine could read it.
        env["PGPASSWORD"] = unquote(password)
    shown = without_password(url).replace("postgresql+psycopg", "postgresql", 1)
    try:
        done = subprocess.run(
            [*program, "--dbname", shown, "--no-password"],
            input=given,
            capture_output=True,
            env=env or dict(os.environ),
            timeout=DUMP_SECONDS,
        )
    except FileNotFoundError as error:
        raise TidehubError(
            f"{program[0]} is not installed, and the hub's database is PostgreSQL",
            fix="install PostgreSQL's client programs, at least as new as the server (Debian: postgresql-client)",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise TidehubError(f"{program[0]} did not end within {DUMP_SECONDS / 60:g} minutes") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["it gave no reason"]
        raise TidehubError(f"{program[0]} failed on {shown}: {said[-1]}", fix="look at machine.database_url")
    return done.stdout
