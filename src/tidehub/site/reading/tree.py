"""A YAML text as a tree that knows where everything stands.

Built from ruamel.yaml's events rather than its constructors: that keeps the position of every key, finds all
duplicate keys in one run, bounds depth and size before anything is expanded, and constructs nothing but text,
numbers, true, false and null. Plain scalars follow the YAML 1.2 core schema (`yes` and `on` are text).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError

from tidehub.errors import Place
from tidehub.site.problems import KeyPath, Problem
from tidehub.site.reading.syntax import is_unclosed, words_of

DEEPEST = 40
MOST_NODES = 20_000
LONGEST_LINE = 20_000
"""Characters. The scanner below takes quadratic time over some lines; nobody writes such lines by hand."""
_INTEGER = re.compile(r"[-+]?[0-9]{1,40}", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?", re.ASCII)
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


@dataclass(frozen=True)
class Node:
    """A value and its place; lines and columns count from 1. `size` counts nodes with aliases expanded."""

    line: int
    column: int
    value: Any = None
    size: int = 1
    end: tuple[int, int] = (0, 0)
    """Line and column after the last character of a scalar; unknown for collections."""

    def place(self, file: str) -> Place:
        """Where it stands, for a message."""
        return Place(file, self.line, self.column, *self.end)


@dataclass(frozen=True)
class Entries(Node):
    """A mapping: key to (the key's own node, the value)."""

    items: dict[str, tuple[Node, Node]] = field(default_factory=dict)


@dataclass(frozen=True)
class Items(Node):
    """A list."""

    items: list[Node] = field(default_factory=list)


class _Stop(Exception):
    """Reading cannot go on; the problem is recorded."""


def read(text: str, file: str) -> tuple[Node | None, list[Problem], int | None]:
    """The tree of a YAML text, the problems of its YAML, and the line where reading stopped for a syntax error.

    There is no tree when it could not be read to its end; the last problem then says why. The line is None when
    nothing is gained by reading on without it (a text too deep, too long, or of several documents).
    """
    builder = _Builder(text, file)
    for number, written in enumerate(text.split("\n"), start=1):
        if len(written) > LONGEST_LINE:
            what = f"this line is longer than {LONGEST_LINE} characters"
            builder.say(number, 1, what, "break it, or check the file")
            return None, builder.problems, None
    stopped = None
    try:
        return builder.document(), builder.problems, None
    except _Stop:
        pass
    except ReaderError as error:
        stopped, column = _position(text, error.position)
        shown = text[error.position : error.position + 1]
        builder.say(stopped, column, f"the character {shown!r} is not allowed in YAML")
    except MarkedYAMLError as error:
        problem, noticed, opened = str(error.problem or error.context), error.problem_mark, error.context_mark
        here = noticed is not None and opened is not None and noticed.line == opened.line
        # Where it was opened tells more than where the parser noticed.
        mark = (opened if is_unclosed(problem, here) else None) or noticed or opened
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        builder.say(line, column, *words_of(text, line, column, problem, here))
        stopped = line or None
    except (YAMLError, ValueError, RecursionError) as error:
        builder.say(0, 0, f"the file is not YAML: {str(error).splitlines()[0]}")
    return None, builder.problems, stopped


def to_data(node: Node) -> Any:
    """Plain mappings, lists and scalars."""
    if isinstance(node, Entries):
        return {key: to_data(value) for key, (_, value) in node.items.items()}
    if isinstance(node, Items):
        return [to_data(item) for item in node.items]
    return node.value


def locate(root: Node, path: KeyPath, *, key: bool = False) -> Node:
    """The node at `path`, or its nearest existing parent; with `key`, the key's own node."""
    node = shown = root
    for part in path:
        if isinstance(node, Entries) and part in node.items:
            own, node = node.items[str(part)]
            shown = own if key else node
        elif isinstance(node, Items) and isinstance(part, int) and part < len(node.items):
            node = shown = node.items[part]
        else:
            break
    return shown


class _Builder:
    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.events: Iterator[Any] = iter(YAML(typ="safe", pure=True).parse(text))
        self.anchors: dict[str, Node] = {}
        self.count = 0

    def say(self, line: int, column: int, what: str, fix: str | None = None, path: KeyPath = ()) -> None:
        self.problems.append(Problem(what, path, Place(self.file, line, column), fix=fix))

    def document(self) -> Node | None:
        root: Node | None = None
        for event in self.events:
            kind = type(event).__name__
            if kind == "DocumentStartEvent" and root is not None:
                self.say(
                    *_start(event), "a second document starts here", "keep one document: one site, one file"
                )
                raise _Stop
            if kind.startswith(("Stream", "Document")):
                continue
            root = self.node(event, (), 0)
        return root

    def node(self, event: Any, path: KeyPath, depth: int) -> Node:
        line, column = _start(event)
        self.count += 1
        if depth > DEEPEST:
            self.say(line, column, f"nested more than {DEEPEST} levels deep", path=path[:3])
            raise _Stop
        kind = type(event).__name__
        if kind == "AliasEvent":
            known = self.anchors.get(event.anchor)
            if known is None:
                fix = "quote it, if a text starting with * is meant"
                self.say(line, column, f"*{event.anchor} refers to an anchor that is not defined above", fix)
                return Node(line, column)
            self.count += known.size
            return self.bounded(known, line, column)
        if event.tag is not None:
            self.say(
                line, column, f"the tag {str(event.tag)[:60]} is not used in site files", "write plain values"
            )
        if kind == "ScalarEvent":
            value = event.value if event.style else _plain(event.value)
            mark = event.end_mark
            node: Node = Node(line, column, value, end=(mark.line + 1, mark.column + 1))
        elif kind == "SequenceStartEvent":
            node = self.list(path, depth, line, column)
        else:
            node = self.mapping(path, depth, line, column)
        if event.anchor:
            self.anchors[event.anchor] = node
        return self.bounded(node, line, column)

    def bounded(self, node: Node, line: int, column: int) -> Node:
        if node.size > MOST_NODES or self.count > MOST_NODES:
            self.say(line, column, f"the file expands to more than {MOST_NODES} values", "shorten it")
            raise _Stop
        return node

    def list(self, path: KeyPath, depth: int, line: int, column: int) -> Items:
        items: list[Node] = []
        while type(event := next(self.events)).__name__ != "SequenceEndEvent":
            items.append(self.node(event, (*path, len(items)), depth + 1))
        return Items(line, column, size=1 + sum(item.size for item in items), items=items)

    def mapping(self, path: KeyPath, depth: int, line: int, column: int) -> Entries:
        own: dict[str, tuple[Node, Node]] = {}
        merged: dict[str, tuple[Node, Node]] = {}
        while type(event := next(self.events)).__name__ != "MappingEndEvent":
            written = str(getattr(event, "value", ""))
            merge = type(event).__name__ == "ScalarEvent" and written == "<<" and not event.style
            key = self.node(event, path, depth + 1)
            value = self.node(below := next(self.events), (*path, written), depth + 1)
            if getattr(below, "value", None) == "" and not below.style:
                # Nothing is written: the parser places it on a later line; a reader looks at the key.
                value = replace(value, line=key.line, column=key.column, end=key.end)
            if type(event).__name__ != "ScalarEvent":
                self.say(key.line, key.column, "a key must be plain text", path=path)
            elif merge:
                self.merge(value, merged, path)
            elif written in own:
                first = own[written][0]
                fix = f"keep one; the first is on line {first.line}"
                self.say(key.line, key.column, "this key stands here a second time", fix, (*path, written))
            else:
                own[written] = (key, value)
        items = {**merged, **own}
        return Entries(line, column, size=1 + sum(1 + value.size for _, value in items.values()), items=items)

    def merge(self, value: Node, merged: dict[str, tuple[Node, Node]], path: KeyPath) -> None:
        for source in value.items if isinstance(value, Items) else [value]:
            if not isinstance(source, Entries):
                fix = "write <<: *name, with &name on a mapping above"
                self.say(value.line, value.column, "<< takes a mapping", fix, path)
                return
            for key, entry in source.items.items():
                merged.setdefault(key, entry)


def _start(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _plain(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def _position(text: str, index: int) -> tuple[int, int]:
    before = text[:index]
    return before.count("\n") + 1, index - (before.rfind("\n") + 1) + 1
