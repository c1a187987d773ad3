"""Who is who on this machine: hub user name -> uid and home, for ever.

The table is the only thing that ties files to users, so nothing here is ever given out twice: a removed user's
uid and directory name stay reserved, and a damaged table is reported, never made anew.

Hub and gateway both write it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pwd
import re
import sqlite3
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tidehub.errors import Place, TidehubError
from tidehub.system import sqlite
from tidehub.system.files import PRIVATE_DIRECTORY, make_directory, write_private

DEFAULT_UIDS = range(70000, 80000)
"""Above what distributions give to accounts (60000), below the usual subordinate ids (100000)."""

CLAIMS = Path("/var/lib/tidehub-uids")
SLUG_LENGTH = 48
_DIRECTORY = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
"""What `safe_slug` makes; never a way out of the directory of homes."""
_SAFE = re.compile(r"[a-z0-9](?:[a-z0-9]|[-._](?=[a-z0-9]))*")


def proxy_uid(uids: range = DEFAULT_UIDS) -> int:
    """The uid (and gid) of the public proxy: it may connect to users' sockets and do nothing else."""
    return uids.start - 1


def services_uid() -> int:
    """The uid (and gid) of the platform's own services: identity provider, gates, culler."""
    return DEFAULT_UIDS.start - 2


def safe_slug(name: str) -> str:
    """A directory name for any text: lower-case ASCII, at most 48 characters, no path meaning.

    Text that is safe already stays as it is. Anything else becomes what is readable of it, three dashes and a part
    of its SHA-256; as no safe name holds two dashes in a row, the two kinds never meet.
    """
    if len(name) <= SLUG_LENGTH and _SAFE.fullmatch(name):
        return name
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    stem = re.sub(r"[^a-z0-9]+", "-", plain.lower())[: SLUG_LENGTH - 15].strip("-")
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{stem or 'x'}---{digest}"


@dataclass(frozen=True)
class Entry:
    """One line of the table. `number` is the user's uid when we are root, and names their run directory."""

    name: str
    number: int
    directory: str


def _has_account(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


class Users:
    """The identity table at `path`; `homes` is only looked at to stay clear of numbers already on files."""

    def __init__(
        self,
        path: Path,
        *,
        homes: Path,
        uids: range = DEFAULT_UIDS,
        taken: Callable[[int], bool] = _has_account,
        claims: UidClaims | None = None,
    ) -> None:
        self.claims = claims
        self.path = path
        self.database = sqlite.Database(
            path,
            "the table of users",
            "restore it from a backup: it says which uid owns which home. It can be made anew only together "
            f"with new homes (move {homes} away too)",
            steps=(self._create,),
        )
        self.transaction = self.database.transaction
        self.homes = homes
        self.uids = uids
        self._taken = taken

    def enrol(self, name: str) -> Entry:
        """The user's line, made at the first call.

        Raises `TidehubError` for a name that nothing can hold, a full range or a damaged table.
        """
        _check_name(name)
        # Almost always known: then nothing is written, and nobody who writes is waited for.
        with self.transaction(write=False) as db:
            known = self._find(db, name)
        if known is not None:
            if self.claims:
                self.claims.take(known.number)
            return known
        with self.transaction() as db:
            return self._find(db, name) or self._add(db, name)

    def find(self, name: str) -> Entry | None:
        """The user's line if there is one."""
        with self.transaction(write=False) as db:
            return self._find(db, name)

    def everyone(self) -> list[Entry]:
        """All users who have not been removed, oldest first."""
        with self.transaction(write=False) as db:
            rows = db.execute("SELECT name, number, directory FROM people WHERE removed = 0 ORDER BY number")
            return [Entry(*row) for row in rows if self._sound(*row)]

    def damaged(self) -> list[str]:
        """A line of words for each entry that cannot be used; its uid and its home stay reserved."""
        with self.transaction(write=False) as db:
            rows = db.execute("SELECT name, number, directory FROM people WHERE removed = 0 ORDER BY number")
            return [
                f"the entry of uid {number} in {self.path} is damaged: its user is {name!r}, its home {directory!r}"
                for name, number, directory in rows
                if not self._sound(name, number, directory)
            ]

    def _sound(self, name: object, number: object, directory: object) -> bool:
        texts = isinstance(name, str) and isinstance(directory, str)
        return texts and number in self.uids and bool(_DIRECTORY.fullmatch(str(directory)))

    def remove(self, name: str) -> bool:
        """Forget the name, keep its uid and directory reserved; False if there was none. Files stay."""
        with self.transaction() as db:
            changed = db.execute("UPDATE people SET removed = 1 WHERE name = ? AND removed = 0", (name,))
            return changed.rowcount > 0

    def _create(self, db: sqlite3.Connection) -> None:
        """Files of earlier versions have a part of this, and no version."""
        db.execute(
            "CREATE TABLE IF NOT EXISTS people (number INTEGER PRIMARY KEY, name TEXT NOT NULL,"
            " directory TEXT NOT NULL UNIQUE, removed INTEGER NOT NULL DEFAULT 0)"
        )
        db.execute("CREATE UNIQUE INDEX IF NOT EXISTS present ON people (name) WHERE removed = 0")
        db.execute("CREATE TABLE IF NOT EXISTS counter (next INTEGER NOT NULL)")
        if not db.execute("SELECT 1 FROM counter").fetchone():
            db.execute("INSERT INTO counter VALUES (?)", (self._first_free(),))
        db.execute(
            "CREATE TABLE IF NOT EXISTS launches (pid INTEGER NOT NULL, started INTEGER NOT NULL,"
            " boot TEXT NOT NULL, person TEXT NOT NULL, parent TEXT NOT NULL, name TEXT NOT NULL,"
            " handle TEXT NOT NULL, PRIMARY KEY (pid, started, boot))"
        )
        db.execute("CREATE INDEX IF NOT EXISTS launches_of ON launches (person)")

    def _first_free(self) -> int:
        """Past every number that already owns a home: a lost table must not hand out other users' files."""
        owners = [0]
        with contextlib.suppress(OSError), os.scandir(self.homes) as found:
            owners += [entry.stat(follow_symlinks=False).st_uid for entry in found]
        return max([self.uids.start, *(uid + 1 for uid in owners if uid in self.uids)])

    def _find(self, db: sqlite3.Connection, name: str) -> Entry | None:
        row = db.execute(
            "SELECT name, number, directory FROM people WHERE name = ? AND removed = 0", (name,)
        ).fetchone()
        if row and not self._sound(*row):
            raise TidehubError(
                f"the entry of {name!r} in the table of users is damaged: uid {row[1]!r}, home {row[2]!r}",
                where=Place(str(self.path)),
                expected=f"a uid of {self.uids.start}-{self.uids.stop - 1} and the name of a directory in {self.homes}",
                fix="restore the table from a backup; other users are not affected",
            )
        return Entry(*row) if row else None

    def _add(self, db: sqlite3.Connection, name: str) -> Entry:
        number = counted = self._next(db)
        while number in self.uids and (self._taken(number) or not self._claimed(number)):
            number += 1
        if number not in self.uids:
            number = self._abandoned(db) or number
        if number not in self.uids:
            raise TidehubError(
                f"no uid is left for {name!r}: all of {self.uids.start}-{self.uids.stop - 1} were given out",
                expected="uids are never used twice, because files of former users may still carry them",
                fix="give this platform a larger range of uids",
            )
        directory = safe_slug(name)
        used = db.execute("SELECT 1 FROM people WHERE directory = ?", (directory,)).fetchone()
        if used:
            directory = f"{directory.split('---')[0]}---{number}"
        db.execute("DELETE FROM counter")
        db.execute("INSERT INTO counter VALUES (?)", (max(number + 1, counted),))
        db.execute("INSERT INTO people (number, name, directory) VALUES (?, ?, ?)", (number, name, directory))
        return Entry(name, number, directory)

    def _next(self, db: sqlite3.Connection) -> int:
        """The first number that was never given out, also where the counter itself is damaged."""
        kept = [row[0] for row in db.execute("SELECT next FROM counter")]
        given: list[int] = [
            row[0] + 1 for row in db.execute("SELECT number FROM people") if row[0] in self.uids
        ]
        sound = [
            next_ for next_ in kept if isinstance(next_, int) and self.uids.start <= next_ <= self.uids.stop
        ]
        return max([self.uids.start, *sound, *given] + ([] if sound else [self._first_free()]))

    def _claimed(self, number: int) -> bool:
        return self.claims is None or self.claims.take(number)

    def _abandoned(self, db: sqlite3.Connection) -> int | None:
        """A number of a platform that is gone, which this one never gave out either."""
        if self.claims is None:
            return None
        mine = {row[0] for row in db.execute("SELECT number FROM people")}
        free = (uid for uid in self.uids if uid not in mine and not self._taken(uid))
        return next((uid for uid in free if self.claims.take_abandoned(uid)), None)


def _check_name(name: str) -> None:
    if not name or "\0" in name:
        raise TidehubError(f"{name!r} is not a user's name", expected="text without NUL bytes, not empty")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise TidehubError(f"{name!r} is not a user's name", expected="valid Unicode text") from None


class UidClaims:
    """Which platform of this machine a uid belongs to. `state` is the directory of this one, `platform` its id, which
    moves with the state.

    Every state has its own table of users, and all count from the same first uid. Two platforms of one machine would
    give one uid to two users, who could then read each other's files and end each other's programs. So a uid is
    claimed for the whole machine before it is given out: one file a uid, which appears whole or not at all.
    """

    def __init__(self, state: Path, platform: str, directory: Path = CLAIMS) -> None:
        self.state = state
        self.platform = platform
        self.directory = directory

    def take(self, uid: int) -> bool:
        """Make `uid` this platform's; False when it is another's. Raises `TidehubError` when nothing can be written."""
        return (
            self._holder(uid)[0] == self.platform or self._write(uid) or self._holder(uid)[0] == self.platform
        )

    def take_abandoned(self, uid: int) -> bool:
        """Take over a uid whose platform is gone with its homes. For when no other uid is left."""
        platform, state = self._holder(uid)
        if platform == self.platform or _lives(state, platform):
            return False
        self._path(uid).unlink(missing_ok=True)
        return self._write(uid)

    def home(self) -> Path | None:
        """The state directory in which this platform lives on this machine; None when it does not."""
        with contextlib.suppress(OSError):
            for path in sorted(self.directory.iterdir()):
                if path.name.isdigit():
                    platform, state = self._holder(int(path.name))
                    if platform == self.platform and _lives(state, platform):
                        return state
        return None

    def holder(self, uid: int) -> Path:
        """The state whose platform has the uid."""
        return self._holder(uid)[1]

    def settle(self, uids: Iterable[int]) -> None:
        """This platform's claims name the state as it is now: a claim of a moved state would look abandoned."""
        for uid in uids:
            platform, state = self._holder(uid)
            if platform == self.platform and state != self.state:
                self._path(uid).unlink(missing_ok=True)
                self._write(uid)

    def _path(self, uid: int) -> Path:
        return self.directory / str(uid)

    def _write(self, uid: int) -> bool:
        claim = json.dumps({"platform": self.platform, "state": str(self.state)})
        fresh = self.directory / f".{uid}.{os.getpid()}"
        try:
            make_directory(self.directory, PRIVATE_DIRECTORY)
            write_private(fresh, claim)
            try:
                # link(2) fails when the name exists, and what appears under it is whole.
                os.link(fresh, self._path(uid))
            except FileExistsError:
                return False
            finally:
                fresh.unlink(missing_ok=True)
        except (OSError, TidehubError) as error:
            reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else error.what
            raise TidehubError(
                f"uid {uid} cannot be claimed in {self.directory}: {reason}",
                expected="a directory that root may write: it keeps platforms of one machine from sharing uids",
            ) from error
        return True

    def _holder(self, uid: int) -> tuple[str, Path]:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            claim = json.loads(self._path(uid).read_text(encoding="utf-8"))
            return str(claim["platform"]), Path(claim["state"])
        # Unreadable: somebody's, and nobody can say whose.
        return "", Path("/")


def _lives(state: Path, platform: str) -> bool:
    if not platform:
        return True
    try:
        return (state / "private" / "platform-id").read_text(encoding="utf-8").strip().startswith(platform)
    except FileNotFoundError:
        return False
    except OSError:
        return True
