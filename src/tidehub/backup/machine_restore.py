"""A backup of one machine into a new state, all of it or nothing."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tidehub import program
from tidehub.backup import databases
from tidehub.backup.container import BackupReader, Kept
from tidehub.backup.machine import POSTGRES, STATE, TARGET
from tidehub.backup.site_files import put_site_files, site_files, write_new
from tidehub.backup.unpacking import remove_tree, unpack
from tidehub.errors import TidehubError
from tidehub.identity.database import check as check_identity_database
from tidehub.local.databases import (
    check_databases,
    check_hub_database,
    database_environment,
)
from tidehub.local.isolation.users import UidClaims
from tidehub.local.places import Places, command
from tidehub.system.files import PASSABLE_DIRECTORY, PRIVATE_DIRECTORY, make_directory, os_fault
from tidehub.system.sqlite import File


@dataclass(frozen=True)
class Restored:
    """What came back."""

    state: Path
    users: int
    homes: bool
    database: str
    site_files: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {**asdict(self), "state": str(self.state)}


def restore(
    backup: Path,
    places: Places,
    *,
    database_url: str | None = None,
    site_into: Path | None = None,
    step: Callable[[str], None] = lambda text: None,
) -> Restored:
    """Make the state `places` from `backup`. There must be none yet: nothing is ever overwritten.

    `database_url` is where a PostgreSQL database goes, which must be empty; by default where it was. `site_into` is
    the directory for the site file and its secrets. Raises `TidehubError`; then the state is as it was.
    """
    step("reading the backup")
    reader = BackupReader(backup)
    if reader.target != TARGET:
        raise TidehubError(
            f"{backup} is a backup of the target {reader.target}, and this would be a state of one machine",
            fix=f"restore it with `{program.command('restore', '--target', 'kubernetes')}`",
        )
    reader.check()
    files = reader.files()
    _refuse_unfit(reader.manifest, places, files)
    to_put = site_files(files, site_into)
    url = _prepare_database(reader.manifest, database_url)
    if os.geteuid() == 0:
        places.require_own_parents()
    fresh = places.state.with_name(f".{places.state.name}.restoring")
    try:
        remove_tree(fresh)
        # New and ours, or an error: until it is whole nobody else can reach anything in it.
        fresh.mkdir(mode=PRIVATE_DIRECTORY)
        fresh.chmod(PRIVATE_DIRECTORY)
        _lay_out(files, fresh, reader.manifest)
        step("bringing back homes")
        make_directory(fresh / "homes", PASSABLE_DIRECTORY)
        unpack(reader.tree_members(), fresh, owners=os.geteuid() == 0, roots=("homes",))
        step("checking what came back")
        check_databases(Places(fresh))
        check_identity_database(Places(fresh).identity)
        _claim_uids(reader.manifest, files, places)
        if url:
            step("filling the hub's database")
            databases.postgres_restore(url, files[POSTGRES].content, database_environment())
        fresh.chmod(PASSABLE_DIRECTORY)
        if places.state.exists():
            places.state.rmdir()
        fresh.rename(places.state)
    except OSError as error:
        raise os_fault(error, Path(error.filename or places.state), "write") from error
    finally:
        with contextlib.suppress(OSError):
            remove_tree(fresh)
    put_site_files(to_put)
    return Restored(
        places.state,
        len(reader.manifest.get("people", [])),
        bool(reader.manifest.get("homes")),
        str(reader.manifest.get("database")),
        tuple(str(path) for path in to_put),
    )


def _refuse_unfit(manifest: dict[str, Any], places: Places, files: dict[str, Kept]) -> None:
    if places.state.exists() and (not places.state.is_dir() or any(places.state.iterdir())):
        raise TidehubError(
            f"{places.state} is not empty, and nothing is overwritten",
            expected="a state that does not exist yet",
            fix=f"stop the platform and move it away: {_move_away(places.state)}",
        )
    root = os.geteuid() == 0
    if bool(manifest.get("root")) != root:
        made, here = ("root", "an ordinary user") if not root else ("an ordinary user", "root")
        raise TidehubError(
            f"the backup was made by {made}, and you are {here}",
            expected="the same kind of user: as root every user has a uid of their own",
            fix="restore it as root" if not root else "restore it as an ordinary user",
        )
    holder = _living_platform(manifest) if root else None
    if holder is not None and holder != places.state:
        raise TidehubError(
            f"this platform still lives in {holder}",
            expected="one state of a platform on a machine: both would use the same users' uids",
            fix=f"stop it and move it away: {_move_away(holder)}",
        )


def _move_away(state: Path) -> str:
    return f"{command(state, 'down')} && {shlex.join(['mv', str(state), f'{state}.before'])}"


def _living_platform(manifest: dict[str, Any]) -> Path | None:
    """The state of this machine that has the platform's id, by what its uids say."""
    return UidClaims(Path("/"), str(manifest.get("platform"))).home()


def _prepare_database(manifest: dict[str, Any], given: str | None) -> str:
    """The PostgreSQL database to fill; nothing where the hub's is a file. Raises unless it is there and empty."""
    recorded = str(manifest.get("database") or "")
    if not recorded.startswith("postgres"):
        return ""
    url = given or recorded
    check_hub_database(url)
    from sqlalchemy import create_engine, inspect

    from tidehub.local.databases import hub_database_url

    engine = create_engine(hub_database_url(url))
    try:
        tables = inspect(engine).get_table_names()
    finally:
        engine.dispose()
    if tables:
        raise TidehubError(
            f"the database {databases.without_password(url)} holds {len(tables)} tables, and nothing is overwritten",
            expected="an empty database",
            fix="make a new one (createdb) and name it with --database, and in machine.database_url",
        )
    return url


def _lay_out(files: dict[str, Kept], fresh: Path, manifest: dict[str, Any]) -> None:
    owners = bool(manifest.get("root"))
    for name, kept in files.items():
        if not name.startswith(STATE):
            continue
        parts = Path(name.removeprefix(STATE)).parts
        if ".." in parts or len(parts) < 2 or parts[0] not in ("private", "services"):
            raise TidehubError(f"the backup holds {name!r}, which does not belong in a state")
        path = fresh.joinpath(*parts)
        make_directory(fresh / parts[0], PRIVATE_DIRECTORY if parts[0] == "private" else PASSABLE_DIRECTORY)
        # A part's own directory belongs to its user, as the files in it do.
        ids = (kept.uid, kept.gid) if owners else (None, None)
        for depth in range(2, len(parts)):
            make_directory(fresh.joinpath(*parts[:depth]), PRIVATE_DIRECTORY, uid=ids[0], gid=ids[1])
        write_new(path, kept)
        if owners:
            os.chown(path, kept.uid, kept.gid)


def _claim_uids(manifest: dict[str, Any], files: dict[str, Kept], places: Places) -> None:
    """As root: users' uids are this platform's on this machine, or the restore does not happen."""
    table = files.get(f"{STATE}private/people.sqlite")
    if not manifest.get("root") or table is None:
        return
    with File(
        table.content, "the table of users in the backup", "restore an older backup"
    ).reading() as database:
        uids = [int(row[0]) for row in database.execute("SELECT number FROM people")]
    claims = UidClaims(places.state, str(manifest.get("platform")))
    for uid in uids:
        if not claims.take(uid) and not claims.take_abandoned(uid):
            raise TidehubError(
                f"uid {uid}, which owns files in the backup, belongs to another platform of this machine "
                f"({claims.holder(uid)})",
                expected="uids that only one platform uses: its users could read these files",
                fix="restore on another machine, or remove that platform with its homes first",
            )
    claims.settle(uids)
