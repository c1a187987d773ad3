"""YAML syntax errors: what they mean in words, and how to read on behind one. Pure text work."""

from __future__ import annotations

import re

_SECTION = re.compile(r"([A-Za-z_][A-Za-z0-9_-]*)[ \t]*:(?=[ \t]|$)")
WHOLE_FILE = ""
"""The section of an error that stands before any section."""


def is_unclosed(problem: str, same_line: bool) -> bool:
    """Whether something is not closed, a quote or a bracket; it was opened at the error's context.

    `same_line`: opened on the line where the parser noticed. Inside of brackets on one line rather a comma is missing.
    """
    ended = "<stream end>" in problem or "unexpected end of stream" in problem
    return ended or ("',' or" in problem and not same_line)


def words_of(text: str, line: int, column: int, problem: str, same_line: bool) -> tuple[str, str | None]:
    """The parser's `problem` at a place (both count from 1) as what is wrong, and what to do.

    `same_line`: see `is_unclosed`.
    """
    lines = text.splitlines()
    here = lines[line - 1] if 0 < line <= len(lines) else ""
    if "\t" in here[: max(column, 1)] and not here[: column - 1].strip():
        return "a tab indents this line", "indent with spaces"
    if "mapping values are not allowed" in problem and ":" in here[: column - 1]:
        return "a second ':' in this place", "quote the value, or check the indentation of this line"
    if "cannot start any token" in problem:
        character = here[column - 1 : column] or "this character"
        return f"{character!r} cannot start a value", "quote the value"
    if "',' or" in problem and not is_unclosed(problem, same_line):
        return (
            "the entries in brackets are not parted before this",
            "put a , before it, or quote the whole value",
        )
    if is_unclosed(problem, same_line):
        opened = here[column - 1 : column]
        if opened and opened in "'\"[{":
            closing = {"[": "]", "{": "}"}.get(opened, opened)
            comma = ", and part its entries with ," if opened in "[{" else ""
            return f"the {opened} that opens here is never closed", f"close it with {closing}{comma}"
        return "something opened before (a quote, [ or {) is never closed", "close it"
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
