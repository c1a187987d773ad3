"""The state of one machine into a backup, with users at work or without."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tidehub.backup import databases
from tidehub.backup.container import BackupWriter, Kept
from tidehub.backup.site_files import SITE
from tidehub.errors import TidehubError
from tidehub.local.databases import database_environment
from tidehub.local.identity_files import saved_files
from tidehub.local.places import Places
from tidehub.system import sqlite
from tidehub.system.files import os_fault, read_private

TARGET = "machine"
STATE = "state/"
POSTGRES = "postgres/hub.dump"

MADE_AGAIN = frozenset(
    {
        "private/lock",
        "private/reserve",
        "private/control.sock",
        "private/holder.sock",
        "private/platform.json",
        "private/former.json",
        "private/hub.json",
        "private/gateway.json",
        "private/ledger.sqlite",
        "private/gateway.sqlite",
    }
)
"""What every start makes anew, and what is about processes: these are gone where a backup is restored."""


@dataclass(frozen=True)
class Made:
    """What a backup holds."""

    path: Path
    files: int
    users: int
    homes: bool
    warnings: tuple[str, ...] = ()


def back_up(
    places: Places,
    output: Path,
    *,
    homes: bool = True,
    site_files: tuple[Path, ...] = (),
    step: Callable[[str], None] = lambda text: None,
) -> Made:
    """Write the backup `output`. `homes`: users' files too. `site_files` are kept as they are.

    Raises `TidehubError`; then there is no file.
    """
    if not places.exists:
        raise TidehubError(f"no platform was set up in {places.state}", fix="name its state with --state DIR")
    warnings: list[str] = []
    with BackupWriter(output) as writer:
        step("copying databases and keys")
        files, database = _files(places, warnings.append)
        files |= {SITE + file.name: _site_file(file) for file in site_files}
        users = _users(files.get(f"{STATE}private/people.sqlite"))
        writer.start(
            {
                "target": TARGET,
                "platform": places.platform_id,
                "root": os.geteuid() == 0,
                "database": database,
                "people": sorted(users),
                "homes": homes,
            },
            files,
        )
        if homes:
            for count, directory in enumerate(sorted(users.values()), 1):
                step(f"copying homes: {count} of {len(users)}")
                if (places.homes / directory).exists():
                    writer.tree(f"homes/{directory}", places.homes / directory, warnings.append)
        step("finishing")
    return Made(output, len(files), len(users), homes, tuple(warnings))


def _files(places: Places, warn: Callable[[str], None]) -> tuple[dict[str, Kept], str]:
    """The files of the state by their names in the backup, and where the hub's database is."""
    found: dict[str, Kept] = {}
    # Users first: a home that is made after this moment is in the next backup, with its line.
    paths = sorted(
        places.private.rglob("*"),
        key=lambda path: (path != places.users, path),
    )
    for path in paths:
        name = str(path.relative_to(places.state))
        if name in MADE_AGAIN or name.endswith(sqlite.WRITTEN_BESIDE) or path.name.startswith("."):
            continue
        try:
            if stat.S_ISREG(path.lstat().st_mode):
                found[STATE + name] = _file(path)
        except FileNotFoundError:
            warn(f"{path} was left out: it went away meanwhile")
        except OSError as error:
            raise os_fault(error, path, "read") from error
    identity = f"{STATE}{places.identity.relative_to(places.state)}"
    for name, saved in saved_files(places).items():
        found[f"{identity}/{name}"] = Kept(saved.content, saved.mode, saved.uid, saved.gid)
    url = str(json.loads(read_private(places.hub_config) or "{}").get("database_url") or "")
    if not url.startswith("postgres"):
        return found, "sqlite"
    found[POSTGRES] = Kept(databases.postgres_dump(url, database_environment()))
    found.pop(f"{STATE}private/hub.sqlite", None)
    return found, databases.without_password(url)


def _site_file(path: Path) -> Kept:
    try:
        return _file(path)
    except OSError as error:
        raise os_fault(error, path, "read") from error


def _file(path: Path) -> Kept:
    found = path.stat()
    return Kept(sqlite.kept(path), stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid)


def _users(table: Kept | None) -> dict[str, str]:
    """Directory of each user's home by their name, those removed too: their files are still there."""
    if table is None:
        return {}
    users = sqlite.File(table.content, "the table of users", "restore it from an older backup")
    with users.reading() as database:
        rows = database.execute("SELECT name, directory FROM people")
        return {str(name): str(directory) for name, directory in rows}
