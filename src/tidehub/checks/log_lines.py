"""The lines of the platform's logs that matter for one failure: written since the check began, faults or the user."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from tidehub.printable import without_colors

_FAULT = re.compile(
    r"\b(ERROR|CRITICAL|WARN(ING)?|Traceback|[A-Z]\w*(Error|Exception)\b|failed|refused|denied|killed|out of memory)",
)
_NOISE = re.compile(r"Skipping XSRF check|Setting new xsrf cookie|DeprecationWarning|FutureWarning")
_MOST_READ = 512 * 1024
"""Bytes read from the end of one log."""
_MOST_LINES = 8
"""Lines shown of one log."""
_LONGEST = 300


class LogFiles:
    """The log directory of a platform: one file a part (`hub.log`), folders for many (`servers/`, `clusters/`)."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._marks = dict(_sizes(root))

    def matter(self, parts: Iterable[str], words: Iterable[str]) -> list[str]:
        """The last lines of these parts that tell of a fault or hold one of `words`; a part's file name leads each."""
        wanted = tuple(words)
        found: list[str] = []
        for part in parts:
            for path in self._files(part):
                name = path.relative_to(self._root)
                found += [f"{name}: {line}" for line in that_matter(self._new_lines(path), wanted)]
        return found

    def _files(self, part: str) -> list[Path]:
        folder = self._root / part
        if folder.is_dir():
            return [path for path in sorted(folder.rglob("*.log")) if self._grew(path)]
        path = self._root / f"{part}.log"
        return [path] if path.is_file() else []

    def _grew(self, path: Path) -> bool:
        try:
            return path.stat().st_size != self._marks.get(path, 0)
        except OSError:
            return False

    def _new_lines(self, path: Path) -> list[str]:
        try:
            size = path.stat().st_size
            # Smaller than before: it was rotated meanwhile, so all of it is new.
            start = self._marks.get(path, 0)
            start = max(0 if size < start else start, size - _MOST_READ)
            with path.open("rb") as stream:
                stream.seek(start)
                return without_colors(stream.read().decode(errors="replace")).splitlines()
        except OSError:
            return []


def that_matter(lines: Iterable[str], words: Iterable[str]) -> list[str]:
    """The last of these lines that tell of a fault; without one, those that hold one of `words`."""
    wanted = tuple(words)
    found = [line for line in lines if _matters(line, wanted)]
    return [line[:_LONGEST] for line in _faults_first(found)]


def _sizes(root: Path) -> Iterable[tuple[Path, int]]:
    for path in root.rglob("*.log") if root.is_dir() else ():
        try:
            yield path, path.stat().st_size
        except OSError:
            continue


def _matters(line: str, words: tuple[str, ...]) -> bool:
    if _NOISE.search(line) or not line.strip():
        return False
    return bool(_FAULT.search(line)) or any(word in line for word in words)


def _faults_first(lines: list[str]) -> list[str]:
    faults = [line for line in lines if _FAULT.search(line)]
    return (faults or lines)[-_MOST_LINES:]
