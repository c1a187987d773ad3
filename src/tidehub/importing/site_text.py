"""Site data as the text of a site file, with comments that say where things come from. Pure."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any

from tidehub.importing.build import Imported
from tidehub.importing.fates import Kind
from tidehub.site.problems import KeyPath
from tidehub.site.reading.tree import Entries, Node, read

_FLOW_WIDTH = 70


def site_text(imported: Imported, *, secrets_file: str, only_ascii: bool = False) -> str:
    """The text of `tidehub.yaml`. `secrets_file` is the name of the file beside it.

    `only_ascii` escapes everything else: some characters end a line in YAML and in no editor.
    """
    from ruamel.yaml import YAML

    yaml = YAML(typ="rt")
    yaml.width = 2**20
    yaml.allow_unicode = not only_ascii
    yaml.indent(mapping=2, sequence=4, offset=2)
    pieces = [_header(imported, secrets_file)]
    for section, content in imported.site.items():
        stream = io.StringIO()
        yaml.dump(_laid_out({section: content}, ()), stream)
        note = _OVERRIDES if section == "overrides" else ""
        pieces.append(note + _with_notes(stream.getvalue(), imported))
    return "\n".join(pieces)


_OVERRIDES = """\
# Kept from the Helm values because no key of a site file says it. It counts last: `tidehub validate` lists it. What
# you do not need can go, piece by piece.
"""


def _header(imported: Imported, secrets_file: str) -> str:
    names = ", ".join(_plain(name) for name in imported.files)
    lines = [f"# Made by `tidehub import` from {names}."]
    if imported.secrets or imported.secret_overrides:
        lines.append(f"# The secrets of these values are in {_plain(secrets_file)}, never here.")
    lines.append('# "chosen" marks what the values do not say: check these.')
    return "\n".join(lines) + "\n"


def _laid_out(value: Any, path: KeyPath) -> Any:
    from ruamel.yaml.comments import CommentedMap, CommentedSeq
    from ruamel.yaml.scalarstring import LiteralScalarString

    if isinstance(value, dict):
        made = CommentedMap((key, _laid_out(inner, (*path, key))) for key, inner in value.items())
        if len(path) > 1 and _is_short([f"{key}: {inner}" for key, inner in value.items()], value.values()):
            made.fa.set_flow_style()
        return made
    if isinstance(value, (list, tuple)):
        items = CommentedSeq(_laid_out(inner, (*path, index)) for index, inner in enumerate(value))
        if _is_short(map(str, value), value):
            items.fa.set_flow_style()
        return items
    if isinstance(value, str) and "\n" in value and _fits_a_block(value):
        return LiteralScalarString(value)
    return value


def _is_short(texts: Iterable[str], values: Iterable[Any]) -> bool:
    """Whether a collection of scalars fits on a line."""
    if any(isinstance(value, (dict, list)) or "\n" in str(value) for value in values):
        return False
    return sum(len(text) + 2 for text in texts) < _FLOW_WIDTH


def _fits_a_block(text: str) -> bool:
    lines = text.split("\n")
    return (
        all(line.replace("\t", " ").isprintable() and line == line.rstrip() for line in lines)
        and not text.startswith((" ", "\t", "\n"))
        and text.endswith("\n")
        and not text.endswith("\n\n")
    )


def _with_notes(text: str, imported: Imported) -> str:
    """The text with a comment behind each line whose value has something to say."""
    root, problems, _ = read(text, "")
    if root is None or problems:
        return text  # said when the whole text is read again
    lines = text.split("\n")
    notes: dict[int, list[str]] = {}
    for path, line in _lines(root, ()):
        note = _note(path, imported)
        if note and note not in notes.setdefault(line, []):
            notes[line].append(note)
    for line, said in notes.items():
        if said:
            lines[line - 1] += f"  # {'; '.join(said)}"
    return "\n".join(lines)


def _lines(node: Node, path: KeyPath) -> Iterator[tuple[KeyPath, int]]:
    if isinstance(node, Entries):
        for key, (own, value) in node.items.items():
            yield (*path, key), own.line
            yield from _lines(value, (*path, key))


def _note(path: KeyPath, imported: Imported) -> str | None:
    """The comment behind a key: where its value stood, or that it was chosen."""
    key = ".".join(str(part) for part in path)
    if any(chosen.key == key for chosen in imported.chosen):
        return f"{path[-1]} chosen" if key.endswith(("guarantee", "limit")) else "chosen"
    place = imported.origins.get(path)
    if place is None:
        return None
    return _plain(f"{place.file.rsplit('/', 1)[-1]}:{place.line}:{place.column}")


def _plain(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)


def counts(imported: Imported) -> dict[str, int]:
    """How many values had which fate."""
    return {str(kind): sum(leaf.fate.kind is kind for leaf in imported.leaves) for kind in Kind}
