"""The secrets file beside the site file: what its text says, and the same text with other values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tidehub.errors import Place
from tidehub.secrets.declared import Declared, Kept, kept_by, nearest
from tidehub.secrets.placeholders import is_placeholder
from tidehub.secrets.secret import Secret
from tidehub.site.problems import Problem
from tidehub.site.reading.tree import Entries, Items, Node, read

MADE = "made"
"""The section that says when each value was made."""
OVERRIDES = "overrides"
"""The section for secret chart values that no declaration knows, by chart."""
CHARTS = ("jupyterhub", "dask-gateway", "daskhub")
MOST_OLD = 9
"""Old keys that stay readable behind the newest."""

_ANCHOR = re.compile(r":\s+&")

Overrides = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Entry:
    """One secret as a file states it: values, the newest first; the file that holds it; or nothing yet."""

    declared: Declared
    where: Place
    values: tuple[Secret, ...] = ()
    file: Path | None = None
    made: datetime | None = None

    @property
    def is_placeholder(self) -> bool:
        return any(is_placeholder(value.reveal()) for value in self.values)


@dataclass(frozen=True)
class Stored:
    """What a secrets file holds, and what is wrong with it. Placeholders are no problem of the file."""

    entries: Mapping[str, Entry] = field(default_factory=dict)
    overrides: Overrides = field(default_factory=dict, repr=False)
    problems: tuple[Problem, ...] = ()


def beside(site_file: Path) -> Path:
    """`tidehub.yaml` has its secrets in `tidehub.secrets.yaml` beside it."""
    return site_file.with_name(f"{site_file.stem}.secrets.yaml")


def parse(data: bytes, file: str, base: Path) -> Stored:
    """What the text of a secrets file says. `file` names it in messages, `base` is what file names start from."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return Stored(
            problems=(Problem("the file is not UTF-8 text", where=Place(file), fix="save it as UTF-8"),)
        )
    root, found = read(text, file)[:2]
    problems = [_without_quotes(problem) for problem in found]
    if root is None or (root.value is None and not isinstance(root, Entries | Items)):
        return Stored(problems=tuple(problems))
    if not isinstance(root, Entries):
        fix = "put a blank after the ':'" if isinstance(root.value, str) and ":" in root.value else None
        what = "this is not a secrets file"
        problems.append(
            Problem(what, where=_place(file, root), expected="lines such as client_secret: VALUE", fix=fix)
        )
        return Stored(problems=tuple(problems))
    reader = _Reader(text, file, base, problems)
    entries = reader.entries(root)
    return Stored(entries, reader.overrides(root), tuple(problems))


class _Reader:
    def __init__(self, text: str, file: str, base: Path, problems: list[Problem]) -> None:
        self.lines = text.splitlines()
        self.file = file
        self.base = base
        self.problems = problems
        self.known = {declared.name: declared for declared in kept_by(Kept.SITE)}

    def say(
        self, node: Node, what: str, name: str = "", expected: str | None = None, fix: str | None = None
    ) -> None:
        path = (name,) if name else ()
        self.problems.append(Problem(what, path, _place(self.file, node), expected=expected, fix=fix))

    def entries(self, root: Entries) -> dict[str, Entry]:
        made = self.made(root)
        entries = {}
        for name, (key, value) in root.items.items():
            if name in (MADE, OVERRIDES):
                continue
            if name not in self.known:
                self.unknown(name, key)
            elif entry := self.entry(self.known[name], key, value):
                entries[name] = replace(entry, made=made.get(name))
        return entries

    def unknown(self, name: str, key: Node) -> None:
        # The name is not repeated: it may be half of a secret.
        meant = nearest(name, [*self.known, MADE, OVERRIDES])
        expected = None if meant else ", ".join(self.known)
        self.say(
            key, "this name is not known", expected=expected, fix=f"did you mean {meant}?" if meant else None
        )

    def entry(self, declared: Declared, key: Node, value: Node) -> Entry | None:
        entry = Entry(declared, _place(self.file, key))
        if isinstance(value, Entries):
            return self.from_file(entry, value)
        if not isinstance(value, Items) and value.value in (None, ""):
            line = self.lines[key.line - 1] if key.line <= len(self.lines) else ""
            if _ANCHOR.search(line):
                what = "a value that begins with & means something else in YAML"
                self.say(key, what, declared.name, fix="put the value between quotes")
            return entry
        items = value.items if isinstance(value, Items) else [value]
        if isinstance(value, Items) and not declared.rotation.keeps_old:
            self.say(value, "a list", declared.name, expected="one value")
            return None
        if not items or len(items) > MOST_OLD + 1:
            self.say(
                value,
                f"a list of {len(items)}",
                declared.name,
                expected=f"1 to {MOST_OLD + 1} values, the newest first",
            )
            return None
        if isinstance(value.value, str) and not isinstance(value, Items):
            items = [replace(value, value=piece) for piece in declared.pieces(value.value) or [""]]
        values = [self.value(declared, item, key) for item in items]
        kept = tuple(Secret(one) for one in values if one is not None)
        return replace(entry, values=kept) if len(kept) == len(items) else None

    def value(self, declared: Declared, node: Node, key: Node) -> str | None:
        if isinstance(node, Entries | Items):
            self.say(node, "a list or mapping inside a list", declared.name, expected=declared.shape.words)
            return None
        value = node.value
        if value is None or value == "":
            self.say(key, "no value is written", declared.name, expected=declared.shape.words)
            return None
        if not isinstance(value, str):
            written = self.written(node)
            if is_placeholder(written):
                return written
            kind = "true or false" if isinstance(value, bool) else "a number"
            self.say(
                node, f"YAML reads this value as {kind}", declared.name, fix="put the value between quotes"
            )
            return None
        return self.shaped(declared, node, value)

    def written(self, node: Node) -> str:
        """The text of a plain value on its line: sixty-four zeros are a number to YAML, and a placeholder to us."""
        line = self.lines[node.line - 1] if 0 < node.line <= len(self.lines) else ""
        return re.split(r"[\s,\]}]", line[node.column - 1 :], maxsplit=1)[0]

    def shaped(self, declared: Declared, node: Node, value: str) -> str | None:
        if declared.shape.fits(value) or is_placeholder(value):
            return value
        fix = None
        if value != value.strip():
            fix = "remove the blanks or line breaks at its ends"
        elif declared.shape.fits(value.strip("'\"")):
            fix = "remove the inner quotes"
        self.say(
            node,
            f"the value ({len(value)} characters) has the wrong form",
            declared.name,
            expected=declared.shape.words,
            fix=fix,
        )
        return None

    def from_file(self, entry: Entry, value: Entries) -> Entry | None:
        name = entry.declared.name
        for other, (key, _) in value.items.items():
            if other != "file":
                meant = f"did you mean {near}?" if (near := nearest(other, ["file"])) else None
                self.say(key, "this key is not known here", name, expected="file: PATH", fix=meant)
        given = value.items.get("file")
        if given is None or len(value.items) > 1:
            if given is None and not value.items:
                self.say(value, "an empty mapping", name, expected="a value, or {file: PATH}")
            return None
        path = given[1].value
        if not isinstance(path, str) or not path.strip() or "\0" in path:
            self.say(given[1], "this is not a file name", name, expected="file: PATH")
            return None
        return replace(entry, file=self.base / path)

    def made(self, root: Entries) -> dict[str, datetime]:
        if MADE not in root.items:
            return {}
        section = root.items[MADE][1]
        if not isinstance(section, Entries):
            if section.value is not None or isinstance(section, Items):
                self.say(section, "not a mapping", MADE, expected="names and times", fix="remove the section")
            return {}
        times = {}
        for name, (key, value) in section.items.items():
            moment = _moment(value.value)
            if moment is None:
                self.say(
                    key, "this is not a time", MADE, expected="such as 2026-11-22T08:30:00Z", fix="remove it"
                )
            else:
                times[name] = moment
        return times

    def overrides(self, root: Entries) -> Overrides:
        if OVERRIDES not in root.items:
            return {}
        section = root.items[OVERRIDES][1]
        if not isinstance(section, Entries):
            if section.value is not None or isinstance(section, Items):
                self.say(section, "not a mapping", OVERRIDES, expected="chart names: " + ", ".join(CHARTS))
            return {}
        charts: dict[str, Mapping[str, Any]] = {}
        for chart, (key, value) in section.items.items():
            if chart not in CHARTS:
                meant = nearest(chart, CHARTS)
                fix = f"did you mean {meant}?" if meant else None
                self.say(key, "no chart of that name", OVERRIDES, expected=", ".join(CHARTS), fix=fix)
            elif not isinstance(value, Entries):
                self.say(key, "not a mapping", f"{OVERRIDES}.{chart}", expected="values of the chart")
            else:
                charts[chart] = _hidden(value)
        return charts


def _hidden(node: Node) -> Any:
    """Chart values with every text as a `Secret`."""
    if isinstance(node, Entries):
        return {key: _hidden(value) for key, (_, value) in node.items.items()}
    if isinstance(node, Items):
        return [_hidden(item) for item in node.items]
    return Secret(node.value) if isinstance(node.value, str) else node.value


def texts(value: Any) -> Iterator[Secret]:
    """Every `Secret` inside chart values."""
    if isinstance(value, Secret):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)


_SPEAKS_OF_THE_TEXT = (
    (re.compile(r"refers to an anchor"), "a value that begins with * means something else in YAML"),
    (re.compile(r"^the tag |tag handle|tag"), "a value that begins with ! means something else in YAML"),
    (
        re.compile(r"cannot start a value$"),
        "the value begins with a character that means something else in YAML",
    ),
    (re.compile(r"is not allowed in YAML"), "a character on this line is not allowed in YAML"),
)
_SAFE = re.compile(
    r"this key stands here a second time|a second document starts here|a tab indents this line|a second ':'"
    r"|nested more than|expands to more than|longer than|never closed|is not closed before|does not fit the lines"
    r"|a key must be plain text|<< takes a mapping"
)


def _without_quotes(problem: Problem) -> Problem:
    """A problem of the YAML in words that repeat nothing of the text: any piece of it may be a secret."""
    for pattern, words in _SPEAKS_OF_THE_TEXT:
        if pattern.search(problem.what):
            return Problem(words, where=problem.where, fix="put the value between quotes")
    if _SAFE.search(problem.what):
        return replace(problem, path=())
    return Problem("this is not YAML", where=problem.where, fix="one line a secret: NAME: 'VALUE'")


def _place(file: str, node: Node) -> Place:
    return Place(file, node.line, node.column)


def _moment(value: Any) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value.strip())
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
