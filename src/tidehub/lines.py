"""Lines of a stream that somebody else writes: time linear in the bytes, memory bounded for any length of line."""

from __future__ import annotations

from collections.abc import Callable, Iterator

LONGEST_SHOWN = 16 * 2**10
"""Bytes of a line that are shown; of a longer one it is said how many are left out."""
_MARGIN = 4096
"""Bytes kept beyond them, so that a secret on the edge is hidden whole."""

Hide = Callable[[bytes], bytes]


def as_is(line: bytes) -> bytes:
    """Hides nothing."""
    return line


class Splitter:
    """Splits a stream into lines of at most `longest` bytes; what is longer is left out, and its size is said."""

    def __init__(self, hide: Hide = as_is, longest: int = LONGEST_SHOWN) -> None:
        self._hide = hide
        self._longest = longest
        self._head = bytearray()
        self._length = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The lines that are whole now."""
        *whole, rest = data.split(b"\n")
        for piece in whole:
            self._add(piece)
            yield self._line()
        self._add(rest)

    def rest(self) -> Iterator[bytes]:
        """What came after the last line feed, if anything."""
        if self._length:
            yield self._line()

    def clear(self) -> None:
        self._head, self._length = bytearray(), 0

    def _add(self, piece: bytes) -> None:
        self._head += piece[: max(0, self._longest + _MARGIN - len(self._head))]
        self._length += len(piece)

    def _line(self) -> bytes:
        line, more = self._hide(bytes(self._head)), self._length - self._longest
        self.clear()
        return line if more <= 0 else line[: self._longest] + b" ... (%d bytes more)" % more
