"""Charts whose digest no release set knows: trusted on first use, and from then on held to what came first.

The user's own `charts.lock.yaml` beside the site file keeps the digests, and goes into version control with it.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from tidehub.charts.documents import read_one
from tidehub.charts.fetch import ChartArchive, ChartStore
from tidehub.charts.lock import ChartLock
from tidehub.errors import Place, TidehubError, UsageError

NAME = "charts.lock.yaml"
_HEAD = """\
# Digests (sha256) of chart archives that tidehub took on trust the first time it saw them. Keep this file with the site
# file. A different archive under the same name and version is refused; remove its line only if you know why it changed.
"""


class Pins:
    """The user's file of pinned digests. Raises `UsageError` for a file that is something else."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._found = self._read()

    @classmethod
    def beside(cls, site_file: Path) -> Pins:
        """The pins that belong to a site file."""
        return cls(site_file.absolute().parent / NAME)

    def sha256(self, name: str, version: str) -> str | None:
        """The pinned digest, or None."""
        return self._found.get((name, version))

    def pin(self, name: str, version: str, sha256: str) -> None:
        """Write a digest down; the file is replaced whole."""
        # Read again: two commands at the same time pin different charts.
        self._found = {**self._read(), (name, version): sha256}
        lines = [_HEAD]
        for chart in sorted({chart for chart, _ in self._found}):
            lines.append(f"{chart}:\n")
            for (each, its), digest in sorted(self._found.items()):
                if each == chart:
                    lines.append(f'  "{its}": {digest}\n')
        handle, temporary = tempfile.mkstemp(dir=self.file.parent, prefix=f".{NAME}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.writelines(lines)
                stream.flush()
                os.fsync(stream.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(self.file)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def _read(self) -> dict[tuple[str, str], str]:
        try:
            found = read_one(self.file.read_bytes()) or {}
            pins = {
                (str(chart), str(version)): str(digest)
                for chart, versions in found.items()
                for version, digest in versions.items()
            }
            if wrong := [digest for digest in pins.values() if not re.fullmatch(r"[0-9a-f]{64}", digest)]:
                raise ValueError(f"{wrong[0]!r} is not a sha256")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError) as error:
            raise UsageError(
                f"the pinned charts cannot be read ({error})",
                where=Place(str(self.file)),
                expected="for each chart a mapping of versions to sha256 digests",
                fix="bring the file back from version control, or remove it to trust the next archives anew",
            ) from None
        return pins


def obtain(
    store: ChartStore,
    lock: ChartLock,
    pins: Pins,
    name: str,
    version: str,
    say: Callable[[str], None] = lambda line: None,
) -> ChartArchive:
    """The archive of a chart, verified against the release set's digest, else the pinned one, else pinned now.

    `say` gets one line where an archive is trusted for the first time. Raises `TidehubError` as `ChartStore.get` does;
    where the digest is not the pinned one, naming both.
    """
    locked = lock.sha256(name, version)
    pinned = None if locked else pins.sha256(name, version)
    found = store.get(name, version, locked or pinned)
    if not locked and not pinned:
        try:
            pins.pin(name, version, found.sha256)
        except OSError as error:
            raise TidehubError(
                f"the digest of {name} {version} cannot be written down ({error.strerror or error})",
                where=Place(str(pins.file)),
                expected="a directory of yours: an archive that is not pinned could change unnoticed",
                fix="make the site file's directory writable, or pin the chart from another account",
            ) from None
        say(
            f"{name} {version}: its digest is not known to this release set; "
            f"trusted as sha256 {found.sha256} and pinned in {pins.file}"
        )
    return found
