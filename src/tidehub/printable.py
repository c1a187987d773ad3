"""Text of others as a terminal, a page or a log may show it: what would control it stands there as text."""

from __future__ import annotations

import re

# C0 but tab and line feed, DEL, C1; marks, embeddings, overrides and isolates of bidirectional text, line and paragraph
# separators (Unicode 15, UAX #9); lone surrogates, which no terminal can be sent; tags, which hide text in text.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\U000e0000-\U000e007f]"
)

_COLORS = re.compile(r"\x1b\[[0-9;]*m")  # ECMA-48, SGR


def printable(text: str | bytes, *, lines: bool = True) -> str:
    r"""`text` with control characters as escapes (`\x1b`, `\u202e`); tabs stay, and line feeds where `lines`.

    Bytes that are not UTF-8 become escapes too. Time is linear in the length.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    if not text.isprintable():
        text = _CONTROLS.sub(_escape, text)
        if not lines:
            text = text.replace("\n", "\\n")
    return text


def without_colors(text: str) -> str:
    """`text` without what only sets colors, as dask-gateway and the proxy do around the level of each line of a log."""
    return _COLORS.sub("", text)


def _escape(found: re.Match[str]) -> str:
    number = ord(found.group())
    return (
        f"\\x{number:02x}"
        if number < 0x100
        else f"\\u{number:04x}"
        if number < 0x10000
        else f"\\U{number:08x}"
    )
