"""YAML syntax errors: what they mean in words, and how to read on behind one. Pure text work."""

from __future__ import annotations

import re

_SECTION = re.compile(r"([A-Za-z_][A-Za-z0-9_-]*)[ \t]*:(?=[ \t]|$)")
WHOLE_FILE = ""
"""The section of an error that stands before any section."""


def is_unclosed(problem: str) -> bool:
    """Whether the parser met the end of the text inside something; it began at the error's context."""
    return "<stream end>" in problem or "unexpected end of stream" in problem


def words_of(text: str, line: int, column: int, problem: str) -> tuple[str, str | None]:
    """The parser's `problem` at a place (both count from 1) as what is wrong, and what to do."""
    lines = text.splitlines()
    here = lines[line - 1] if 0 < line <= len(lines) else ""
    if "\t" in here[: max(column, 1)] and not here[: column - 1].strip():
        return "a tab indents this line", "indent with spaces"
    if "mapping values are not allowed" in problem and ":" in here[: column - 1]:
        return "a second ':' in this place", "quote the value, or check the indentation of this line"
    if "cannot start any token" in problem:
        character = here[column - 1 : column] or "this character"
        return f"{character!r} cannot start a value", "quote the value"
    if is_unclosed(problem):
        opened = here[column - 1 : column]
        if opened and opened in "'\"[{":
            closing = {"[": "]", "{": "}"}.get(opened, opened)
            return f"the {opened} that opens here is never closed", f"close it with {closing}"
        return "something opened before (a quote, [ or {) is never closed", "close it"
    if "',' or" in problem:
        closing = "]" if "']'" in problem else "}"
        return "a list or mapping in brackets is not closed before this", f"put a , or {closing} before it"
    if any(sign in problem for sign in ("<block end>", "expected ':'", "could not find", "mapping values")):
        return "this line does not fit the lines above it", "check its indentation, and the ':' after its key"
    return f"this is not YAML ({problem})", None


def section_at(lines: list[str], line: int) -> str:
    """The name of the section that holds a line (from 1), `WHOLE_FILE` before the first."""
    for text in reversed(lines[: max(line, 1)]):
        if found := _SECTION.match(text):
            return found[1]
    return WHOLE_FILE


def without(lines: list[str], line: int) -> list[str] | None:
    """The lines with the cause of an error at `line` (from 1) taken out, places kept. None if nothing is left there.

    A tab at the beginning becomes an indentation; any other line goes with the lines below it that are deeper.
    """
    index = min(line, len(lines)) - 1
    while index >= 0 and not lines[index].strip():
        index -= 1
    if index < 0:
        return None
    text, rest = lines[index], lines[index].lstrip()
    start = text[: len(text) - len(rest)]
    if "\t" in start:
        above = next((other for other in reversed(lines[:index]) if other.strip()), "")
        depth = len(above) - len(above.lstrip()) + (2 if above.rstrip().endswith(":") else 0)
        return [*lines[:index], " " * depth + rest, *lines[index + 1 :]]
    end = index + 1
    while end < len(lines) and (not lines[end].strip() or _depth(lines[end]) > len(start)):
        end += 1
    return [*lines[:index], *[""] * (end - index), *lines[end:]]


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip())
