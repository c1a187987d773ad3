"""Chart archives from an air-gapped directory, the cache, or their repository: verified, and only then given out."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tidehub.charts import download
from tidehub.errors import Place, TidehubError, UsageError
from tidehub.system.files import PRIVATE_FILE, replace

CHARTS = "TIDEHUB_CHARTS"
"""Environment: a directory of archives named NAME-VERSION.tgz; the same as `--charts DIR`."""
LARGEST = 20 * 2**20
"""Bytes of one archive. The largest that tidehub knows has a tenth of a megabyte."""
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+-]*")


@dataclass(frozen=True)
class ChartArchive:
    """One packaged chart on this machine; its bytes had this digest when they were read."""

    name: str
    version: str
    path: Path
    sha256: str


def default_cache() -> Path:
    """Where downloaded archives are kept for this user."""
    import platformdirs

    return platformdirs.user_cache_path("tidehub") / "charts"


def given_directory(option: Path | None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The air-gapped directory: `--charts`, else `TIDEHUB_CHARTS`. Raises `UsageError` where it is not a directory."""
    stated = str(option) if option else environ.get(CHARTS, "")
    if not stated:
        return None
    directory = Path(stated).expanduser()
    if not directory.is_dir():
        raise UsageError(
            "the directory of charts does not exist",
            where=Place(str(directory)),
            expected="a directory with archives named NAME-VERSION.tgz",
            fix=f"correct {'--charts' if option else CHARTS}",
        )
    return directory


class ChartStore:
    """Gives archives out. `cache` is made when first needed; `offline` never asks the network."""

    def __init__(
        self,
        cache: Path | None = None,
        *,
        directory: Path | None = None,
        offline: bool = False,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.cache = cache or default_cache()
        self.directory = directory
        self.offline = offline
        self._environ = environ

    def get(self, name: str, version: str, sha256: str | None = None) -> ChartArchive:
        """The archive of a version whose digest is `sha256`; without one, whatever the first source holds.

        Sources in order: the air-gapped directory, the cache, the repository. Raises `TidehubError` where no source
        has it, where what it has is something else (naming both digests), or is too large or no archive.
        """
        if not _NAME.fullmatch(name) or not _VERSION.fullmatch(version):
            raise UsageError(f"{name!r} {version!r} is not the name and version of a chart")
        if self.directory and (path := self.directory / f"{name}-{version}.tgz").is_file():
            return ChartArchive(name, version, path, verified(_read(path), name, version, sha256, str(path)))
        if found := self._cached(name, version, sha256):
            return found
        if self.offline:
            raise TidehubError(
                f"the chart {name} {version} is not on this machine",
                expected=f"{name}-{version}.tgz in {self.directory or 'the directory that --charts names'}, "
                f"or in the cache {self.cache}",
                fix="fetch it where there is a network, copy it here and name its directory with --charts",
            )
        archive, published = download.archive(name, version, largest=LARGEST, environ=self._environ)
        where = f"the repository of {name}"
        verified(archive, name, version, published, where, by="the repository's index")
        digest = verified(archive, name, version, sha256, where)
        path = self._path(name, version, digest)
        write_whole(path, archive)
        return ChartArchive(name, version, path, digest)

    def _path(self, name: str, version: str, digest: str) -> Path:
        return self.cache / digest / f"{name}-{version}.tgz"

    def _cached(self, name: str, version: str, sha256: str | None) -> ChartArchive | None:
        """From the cache, only under a known digest: without one, the repository says what is current.

        Offline, one single cached archive of the version is as good. A damaged one is forgotten.
        """
        if sha256:
            digests = [sha256]
        elif self.offline and self.cache.is_dir():
            digests = sorted(
                each.parent.name for each in self.cache.glob(f"*/{name}-{version}.tgz") if each.is_file()
            )
        else:
            digests = []
        if len(digests) > 1:
            raise TidehubError(
                f"the cache holds {len(digests)} different archives of {name} {version}",
                where=Place(str(self.cache)),
                expected="one whose digest is pinned: " + ", ".join(digests),
                fix="remove the wrong ones, or run once with a network",
            )
        for digest in digests:
            path = self._path(name, version, digest)
            try:
                data = _read(path)
            except TidehubError:
                continue
            if hashlib.sha256(data).hexdigest() == digest:
                return ChartArchive(name, version, path, digest)
            path.unlink(missing_ok=True)
        return None


def verified(
    data: bytes, name: str, version: str, sha256: str | None, where: str, *, by: str = "the lock"
) -> str:
    """The digest of an archive. Raises `TidehubError` where it is not a gzip file, or not the expected one."""
    if data[:2] != b"\x1f\x8b":
        raise TidehubError(
            f"{name} {version} is not a packaged chart: it is not a gzip file",
            where=Place(where),
            expected="a .tgz archive",
            fix="a proxy or login page may have answered in its place; fetch it again",
        )
    digest = hashlib.sha256(data).hexdigest()
    if sha256 and digest != sha256:
        raise TidehubError(
            f"the archive of {name} {version} is another one than {by} says: sha256 {digest}",
            where=Place(where),
            expected=f"sha256 {sha256}",
            fix="get the published archive; do not install this one before you know why it differs",
        )
    return digest


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all. Raises `TidehubError` where that cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, data, mode=PRIVATE_FILE)
    except OSError as error:
        raise TidehubError(
            f"a chart cannot be kept ({error.strerror or error})",
            where=Place(str(path)),
            expected="a cache directory that can be written, with room",
            fix="free or make that directory, or set XDG_CACHE_HOME to another",
        ) from None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(LARGEST + 1)
    except OSError as error:
        raise TidehubError(
            f"the chart cannot be read ({error.strerror or error})",
            where=Place(str(path)),
            fix="check the file's owner and mode",
        ) from None
    if len(data) > LARGEST:
        raise TidehubError(
            f"the chart is larger than {LARGEST // 2**20} MiB",
            where=Place(str(path)),
            fix="this is another file",
        )
    return data
