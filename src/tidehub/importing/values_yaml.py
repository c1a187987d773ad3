"""A Helm values file as data, with the place of every key: read as Helm reads it, and never without bound.

Helm decodes YAML 1.1 (sigs.k8s.io/yaml): `yes` and `on` are true, `0644` is octal. Anchors and `<<` are expanded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError

from tidehub.errors import Place, UsageError
from tidehub.site.problems import MOST_SHOWN, KeyPath, Problem

DEEPEST = 60
MOST_VALUES = 15_000
LONGEST_LINE = 200_000
"""Characters. Longer than a picture in base64; the scanner below takes quadratic time over some lines."""

_BOOLEANS = {
    **dict.fromkeys(("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"), True),
    **dict.fromkeys(("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"), False),
}
_NULLS = {"", "~", "null", "Null", "NULL"}
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9_]{0,40})", re.ASCII)
_OCTAL = re.compile(r"([-+]?)0o?([0-7_]{1,40})", re.ASCII)
_HEX = re.compile(r"[-+]?0x[0-9a-fA-F_]{1,32}", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?", re.ASCII)


class ValuesError(UsageError):
    """Values files that cannot be imported; `problems` holds all that was found."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("the values cannot be imported")

    def __str__(self) -> str:
        shown = [str(problem) for problem in self.problems[:MOST_SHOWN]]
        more = len(self.problems) - MOST_SHOWN
        return "\n".join([self.what, *shown, *([f"... and {more} more"] if more > 0 else [])])


@dataclass(frozen=True)
class Document:
    """What one file holds. `places` has every key and list item, by its path from the root."""

    file: str
    data: dict[str, Any]
    places: dict[KeyPath, Place]


@dataclass(frozen=True)
class _Node:
    value: Any
    """A scalar, a list of nodes, or a dict of (key's line, key's column, node)."""
    line: int
    column: int
    size: int = 1


class _Stop(Exception):
    pass


def read_values(text: str, file: str) -> Document:
    """The values in a text; `file` names it in messages. Raises `ValuesError` with every problem."""
    reader = _Reader(text, file)
    root = reader.document()
    if reader.problems:
        raise ValuesError(reader.problems)
    if root is None or root.value is None:
        return Document(file, {}, {})
    if not isinstance(root.value, dict):
        raise ValuesError([reader.problem(root.line, root.column, "this is not a values file", _EXPECTED)])
    places: dict[KeyPath, Place] = {}
    data = _flatten(root, (), file, places)
    return Document(file, data, places)


_EXPECTED = "keys such as hub:, singleuser:, gateway:, or jupyterhub: and dask-gateway:"


def _flatten(node: _Node, path: KeyPath, file: str, places: dict[KeyPath, Place]) -> Any:
    if isinstance(node.value, dict):
        found = {}
        for key, (line, column, value) in node.value.items():
            places[*path, key] = Place(file, line, column)
            found[key] = _flatten(value, (*path, key), file, places)
        return found
    if isinstance(node.value, list):
        for index, item in enumerate(node.value):
            places[*path, index] = Place(file, item.line, item.column)
        return [_flatten(item, (*path, index), file, places) for index, item in enumerate(node.value)]
    return node.value


class _Reader:
    def __init__(self, text: str, file: str) -> None:
        self.text, self.file = text, file
        self.problems: list[Problem] = []
        self.anchors: dict[str, _Node] = {}
        self.count = 0
        self.events: Iterator[Any] = iter(())

    def problem(
        self, line: int, column: int, what: str, expected: str | None = None, fix: str | None = None
    ) -> Problem:
        return Problem(what, where=Place(self.file, line, column), expected=expected, fix=fix)

    def say(self, line: int, column: int, what: str, fix: str | None = None) -> None:
        self.problems.append(self.problem(line, column, what, fix=fix))

    def document(self) -> _Node | None:
        for number, written in enumerate(self.text.split("\n"), start=1):
            if len(written) > LONGEST_LINE:
                self.say(number, 1, f"this line is longer than {LONGEST_LINE} characters")
                return None
        try:
            self.events = iter(YAML(typ="safe", pure=True).parse(self.text))
            return self._document()
        except _Stop:
            return None
        except ReaderError as error:
            before = self.text[: error.position]
            character = self.text[error.position : error.position + 1]
            line, column = before.count("\n") + 1, error.position - before.rfind("\n")
            self.say(line, column, f"the character {character!r} is not allowed in YAML")
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
            self.say(line, column, *self.words(line, column, str(error.problem or error.context)))
        except (YAMLError, ValueError, RecursionError, StopIteration) as error:
            said = str(error).splitlines() or [type(error).__name__]
            self.say(0, 0, f"the file is not YAML: {said[0][:200]}")
        return None

    def words(self, line: int, column: int, problem: str) -> tuple[str, str | None]:
        lines = self.text.split("\n")
        here = lines[line - 1] if 0 < line <= len(lines) else ""
        around = "\n".join(lines[max(line - 2, 0) : line])
        if "{{" in around:
            return _TEMPLATE
        if "\t" in here[: max(column, 1)] and not here[: column - 1].strip():
            return "a tab indents this line", "indent with spaces"
        if "mapping values are not allowed" in problem:
            return "a ':' where none can be", "quote the value, or check the indentation of this line"
        if "cannot start any token" in problem:
            return f"{here[column - 1 : column]!r} cannot start a value", "quote the value"
        if "stream end" in problem or "end of stream" in problem:
            return "something opened before (a quote, [ or {) is never closed", "close it"
        return f"this is not YAML ({problem[:200]})", "check the indentation here and on the lines above"

    def _document(self) -> _Node | None:
        root: _Node | None = None
        for event in self.events:
            kind = type(event).__name__
            if kind == "DocumentStartEvent" and root is not None:
                fix = "give one file for each document; Helm itself reads the first only"
                self.say(*_start(event), "a second document starts here", fix)
                raise _Stop
            if kind.startswith(("Stream", "Document")):
                continue
            root = self.node(event, 0)
        return root

    def node(self, event: Any, depth: int) -> _Node:
        line, column = _start(event)
        self.count += 1
        if depth > DEEPEST:
            self.say(line, column, f"nested more than {DEEPEST} levels deep")
            raise _Stop
        kind = type(event).__name__
        if kind == "AliasEvent":
            known = self.anchors.get(event.anchor)
            if known is None:
                self.say(line, column, f"*{event.anchor} refers to an anchor that is not defined above")
                return _Node(None, line, column)
            self.count += known.size
            return self.bounded(known, line, column)
        if kind == "ScalarEvent":
            node = _Node(self.scalar(event, line, column), line, column)
        elif kind == "SequenceStartEvent":
            self.tag(event, line, column, "seq")
            node = self.sequence(depth, line, column)
        else:
            self.tag(event, line, column, "map")
            node = self.mapping(depth, line, column)
        if event.anchor:
            self.anchors[event.anchor] = node
        return self.bounded(node, line, column)

    def bounded(self, node: _Node, line: int, column: int) -> _Node:
        if max(node.size, self.count) > MOST_VALUES:
            self.say(line, column, f"the file expands to more than {MOST_VALUES} values")
            raise _Stop
        return node

    def scalar(self, event: Any, line: int, column: int) -> Any:
        tag = self.tag(event, line, column, "str", "int", "float", "bool", "null")
        if event.style or tag.endswith(":str"):
            return event.value
        return as_helm_reads(event.value)

    def tag(self, event: Any, line: int, column: int, *known: str) -> str:
        tag = str(event.tag) if event.tag is not None else ""
        if tag and tag.rsplit(":", 1)[-1] not in known:
            shown = "".join(character if character.isprintable() else "?" for character in tag[:60])
            self.say(line, column, f"the tag {shown} is not known", "write a plain value")
        return tag

    def sequence(self, depth: int, line: int, column: int) -> _Node:
        items: list[_Node] = []
        while type(event := next(self.events)).__name__ != "SequenceEndEvent":
            items.append(self.node(event, depth + 1))
        return _Node(items, line, column, 1 + sum(item.size for item in items))

    def mapping(self, depth: int, line: int, column: int) -> _Node:
        own: dict[str, tuple[int, int, _Node]] = {}
        merged: dict[str, tuple[int, int, _Node]] = {}
        while type(event := next(self.events)).__name__ != "MappingEndEvent":
            written = str(getattr(event, "value", ""))
            is_text = type(event).__name__ in ("ScalarEvent", "AliasEvent")
            key = self.node(event, depth + 1)
            value = self.node(next(self.events), depth + 1)
            if type(event).__name__ == "AliasEvent":
                written = str(key.value)
            if not is_text or isinstance(key.value, (dict, list)):
                self.say(key.line, key.column, *(_TEMPLATE if self.is_template(key) else _ODD_KEY))
            elif written == "<<" and not event.style:
                self.merge(value, merged)
            elif written in own:
                fix = f"keep one; the first is on line {own[written][0]}"
                self.say(key.line, key.column, f"the key {written[:60]!r} stands here a second time", fix)
            else:
                own[written] = (key.line, key.column, value)
        items = {**merged, **own}
        return _Node(items, line, column, 1 + sum(1 + value.size for _, _, value in items.values()))

    def is_template(self, node: _Node) -> bool:
        lines = self.text.split("\n")
        here = lines[node.line - 1] if node.line <= len(lines) else ""
        return here[max(node.column - 2, 0) : node.column] == "{{"

    def merge(self, value: _Node, merged: dict[str, tuple[int, int, _Node]]) -> None:
        for source in value.value if isinstance(value.value, list) else [value]:
            if not isinstance(source.value, dict):
                self.say(value.line, value.column, "<< takes a mapping")
                return
            for key, entry in source.value.items():
                merged.setdefault(key, entry)


_ODD_KEY = ("a key must be plain text", None)
_TEMPLATE = (
    "this is a template, not values",
    "import the values as they were given to Helm: `helm get values RELEASE -o yaml`",
)


def as_helm_reads(text: str) -> Any:
    """The value of a plain scalar in YAML 1.1 as Helm's decoder takes it."""
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _DECIMAL.fullmatch(text):
        return int(text.replace("_", ""))
    if octal := _OCTAL.fullmatch(text):
        digits = octal[2].replace("_", "")
        return int(octal[1] + digits, 8) if digits else text
    if _HEX.fullmatch(text):
        return int(text.replace("_", ""), 16)
    if _FLOAT.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return text


def _start(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1
