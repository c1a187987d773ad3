"""Reading the logs of a platform: by part, the last lines, and as they grow. Secrets of the platform never show."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tidehub.errors import TidehubError, UsageError
from tidehub.local.places import Places
from tidehub.local.secrets import stored_values
from tidehub.local.supervisor.log import Redactor
from tidehub.system.files import os_fault

_BLOCK = 64 * 2**10
_POLL = 0.3


def log_files(places: Places) -> dict[str, Path]:
    """Every log by the name a person uses: `hub`, `servers/alice`, `clusters/...`. Raises `TidehubError`."""
    if not places.logs.is_dir():
        raise TidehubError(f"no platform was set up in {places.state}", fix="run: tidehub up")
    try:
        found = sorted(places.logs.glob("*.log"))
        below = sorted([*places.server_logs.rglob("*.log"), *places.cluster_logs.rglob("*.log")])
    except OSError as error:
        raise os_fault(error, places.logs, "read") from error
    return {str(path.relative_to(places.logs).with_suffix("")): path for path in [*found, *below]}


def choose(places: Places, part: str | None) -> dict[str, Path]:
    """The logs of `part`, of all below it (`servers`), or of every part of the platform. Raises `UsageError`."""
    files = log_files(places)
    if part is None:
        return {name: path for name, path in files.items() if "/" not in name}
    wanted = part.removesuffix(".log").strip("/")
    if wanted in files:
        return {wanted: files[wanted]}
    chosen = {name: path for name, path in files.items() if name.startswith(f"{wanted}/")}
    if not chosen:
        raise UsageError(
            f"there is no log of {part!r} in {places.logs}",
            expected=", ".join(files) or "no logs yet",
        )
    return chosen


def redactor(places: Places) -> Callable[[bytes], bytes]:
    """Hides the platform's secrets, also in logs that other programs wrote."""
    return Redactor(stored_values(places.secrets))


def last_lines(path: Path, count: int) -> list[bytes]:
    """The last `count` lines of a file, read from its end. A file that is gone has none."""
    if count <= 0:
        return []
    try:
        with path.open("rb") as stream:
            left = stream.seek(0, os.SEEK_END)
            data = b""
            while left and data.count(b"\n") <= count:
                step = min(_BLOCK, left)
                left -= step
                stream.seek(left)
                data = stream.read(step) + data
    except FileNotFoundError:
        return []
    except OSError as error:
        raise os_fault(error, path, "read") from error
    return data.splitlines()[-count:]


class _Followed:
    """A growing file; a rotation (another file of the same name, or a shorter one) starts it anew."""

    def __init__(self, path: Path, position: int) -> None:
        self._path = path
        self._position = position
        self._inode = _inode(path)
        self._rest = b""

    def more(self) -> list[bytes]:
        try:
            with self._path.open("rb") as stream:
                found = os.fstat(stream.fileno())
                if found.st_ino != self._inode or found.st_size < self._position:
                    self._inode, self._position, self._rest = found.st_ino, 0, b""
                stream.seek(self._position)
                data = stream.read()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise os_fault(error, self._path, "read") from error
        self._position += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        return lines


def follow(files: Mapping[str, Path], *, poll: float = _POLL) -> Iterator[tuple[str, bytes]]:
    """Lines as they are written, with the name of their log, for ever. `poll` is in seconds."""
    followed = {name: _Followed(path, _size(path)) for name, path in files.items()}
    while True:
        for name, one in followed.items():
            for line in one.more():
                yield name, line
        time.sleep(poll)


def _inode(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_ino
    return 0


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return 0
