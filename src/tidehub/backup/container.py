"""The file of a backup: a gzipped tar whose first member says what is in it, and whose last one that it is whole.

Any `tar` opens it. Members below `files/` are listed in the manifest with their sums; those below `trees/` are whole
directories (users' homes) with their owners by number, and are counted at the end.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import stat
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

from tidehub import __version__, program
from tidehub.backup.trees import Segment, pack
from tidehub.errors import TidehubError

FORMAT = 1
"""Goes up when an older tidehub could not read the file."""
MANIFEST, END, FILES, TREES = "manifest.json", "end.json", "files/", "trees/"
_BROKEN = (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error)
COMPRESSION = 3
"""gzip level: homes are data, and a higher level costs hours for a few percent."""


@dataclass(frozen=True)
class Kept:
    """One file of a backup."""

    content: bytes = field(repr=False)
    mode: int = 0o600
    uid: int = 0
    gid: int = 0

    @property
    def sum(self) -> str:
        """Its SHA-256, in hexadecimal digits."""
        return hashlib.sha256(self.content).hexdigest()


class BackupWriter:
    """Writes a backup beside its final name and gives it that name when it is whole. A context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._partial = path.with_name(f".{path.name}.partial")
        self._count = 0
        if path.is_dir():
            raise TidehubError(f"{path} is a directory", fix="name a file in it that is not there yet")
        if path.exists():
            raise TidehubError(
                f"{path} is there already", fix="name another file: a backup is never overwritten"
            )
        try:
            # What a killed backup left, or what somebody laid there who would read ours: a new file, or none.
            self._partial.unlink(missing_ok=True)
            descriptor = os.open(self._partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise _fault(error, path, "written") from error
        os.fchmod(descriptor, 0o600)
        self._raw = os.fdopen(descriptor, "wb")
        self._gzip = gzip.GzipFile(filename="", fileobj=self._raw, mode="wb", compresslevel=COMPRESSION)
        self._tar = tarfile.TarFile(fileobj=self._gzip, mode="w", format=tarfile.PAX_FORMAT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if kind is None:
            self._finish()
            return
        with contextlib.suppress(OSError, tarfile.TarError, ValueError):
            self._raw.close()
        self._partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _fault(error, self.path, "written") from error

    def start(self, about: Mapping[str, Any], files: Mapping[str, Kept]) -> None:
        """Write the manifest with `about`, and the files below their names."""
        manifest = {
            "format": FORMAT,
            "tidehub": __version__,
            "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **about,
            "files": {
                name: {"sha256": kept.sum, "size": len(kept.content)} for name, kept in sorted(files.items())
            },
        }
        self._add(MANIFEST, Kept((json.dumps(manifest, indent=2) + "\n").encode()))
        for name, kept in sorted(files.items()):
            self._add(FILES + name, kept)

    def tree(self, name: str, root: Path, warn: Callable[[str], None]) -> None:
        """Add the directory `root` and all below it; what changes or goes meanwhile is told to `warn`."""
        for member, content in pack(root, f"{TREES}{name}", warn):
            self._tar.addfile(member, content)
            self._count += 1

    def _add(self, name: str, kept: Kept) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mode, member.uid, member.gid = len(kept.content), kept.mode, kept.uid, kept.gid
        member.mtime = int(time.time())
        self._tar.addfile(member, io.BytesIO(kept.content))

    def _finish(self) -> None:
        try:
            self._add(END, Kept(json.dumps({"in_trees": self._count}).encode()))
            self._tar.close()
            self._gzip.close()
            self._raw.flush()
            os.fsync(self._raw.fileno())
            self._raw.close()
            self._partial.replace(self.path)
        except OSError as error:
            self._partial.unlink(missing_ok=True)
            raise _fault(error, self.path, "written") from error


class BackupReader:
    """Reads a backup. `manifest` is known at once; `check` reads everything and raises unless it is whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._reading() as tar:
            first = tar.next()
            if first is None or first.name != MANIFEST:
                raise self._damaged("it does not begin with a manifest")
            self.manifest: dict[str, Any] = self._object(tar.extractfile(first))
        if self.manifest.get("format") != FORMAT:
            raise TidehubError(
                f"{path} is a backup of format {self.manifest.get('format')!r}, "
                f"made by tidehub {self.manifest.get('tidehub')}",
                expected=f"format {FORMAT}",
                fix="restore it with the tidehub that made it",
            )

    @property
    def target(self) -> str:
        """`machine` or `kubernetes`."""
        return str(self.manifest.get("target"))

    def check(self) -> None:
        """Read everything once. Raises `TidehubError` for a file that is cut short or was changed."""
        seen: set[str] = set()
        trees, whole = 0, False
        for member, content in self._members():
            if member.name == END:
                whole = self._object(content).get("in_trees") == trees
            elif member.name.startswith(FILES):
                seen.add(member.name.removeprefix(FILES))
                self._compare(member.name.removeprefix(FILES), content)
            elif member.name.startswith(TREES):
                trees += 1
                while content is not None and content.read(2**20):
                    pass
        missing = set(self.manifest["files"]) - seen
        if missing or not whole:
            raise self._damaged("it is cut short" if not missing else f"{min(missing)} is missing in it")

    def files(self) -> dict[str, Kept]:
        """The files by name, each compared with its sum."""
        found = {}
        for member, content in self._members():
            if member.name.startswith(FILES) and content is not None:
                name = member.name.removeprefix(FILES)
                data = self._compare(name, content)
                found[name] = Kept(data, stat.S_IMODE(member.mode), member.uid, member.gid)
            elif member.name.startswith(TREES):
                break
        return found

    def tree_members(self) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
        """What lies in the trees, in its order, each name without the `trees/`."""
        for member, content in self._members():
            if member.name.startswith(TREES):
                member.name = member.name.removeprefix(TREES)
                if member.islnk():
                    member.linkname = member.linkname.removeprefix(TREES)
                yield member, content

    def _members(self) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
        with self._reading() as tar:
            for member in tar:
                if (stored := cast("list[Segment] | None", member.sparse)) is not None:
                    # The bytes as they are stored; `unpack` lays them where the map says.
                    member.size = sum(length for _, length in stored)
                    member.sparse = None
                content = tar.extractfile(member) if member.isreg() else None
                yield member, _Content(content, self._damaged) if content is not None else None  # type: ignore[misc]

    @contextlib.contextmanager
    def _reading(self) -> Iterator[tarfile.TarFile]:
        try:
            with tarfile.open(self.path, "r|gz") as tar:
                yield tar
        except _BROKEN as error:
            raise self._damaged(str(error) or "it is cut short") from error
        except OSError as error:
            raise _fault(error, self.path, "read") from error

    def _compare(self, name: str, content: IO[bytes] | None) -> bytes:
        data = content.read() if content is not None else b""
        listed = self.manifest["files"].get(name) or {}
        if listed.get("sha256") != hashlib.sha256(data).hexdigest():
            raise self._damaged(f"{name} in it was changed")
        return data

    def _object(self, content: IO[bytes] | None) -> dict[str, Any]:
        try:
            found = json.loads(content.read() if content is not None else b"")
        except ValueError as error:
            raise self._damaged("its manifest is not JSON") from error
        if not isinstance(found, dict):
            raise self._damaged("its manifest is not JSON")
        return found

    def _damaged(self, why: str) -> TidehubError:
        return TidehubError(
            f"{self.path} cannot be restored: {why}",
            expected=f"a file that `{program.command('backup')}` wrote, whole",
            fix="name that file, or one from another day",
        )


class _Content(io.RawIOBase):
    """One member's bytes; who reads them gets words where the archive is broken."""

    def __init__(self, raw: IO[bytes], damaged: Callable[[str], TidehubError]) -> None:
        self._raw, self._damaged = raw, damaged

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        try:
            return self._raw.read(size)
        except _BROKEN as error:
            raise self._damaged(str(error) or "it is cut short") from error


def _fault(error: OSError, path: Path, doing: str) -> TidehubError:
    return TidehubError(
        f"{path} cannot be {doing}: {os.strerror(error.errno or 0) if error.errno else error}"
    )
