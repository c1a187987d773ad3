"""What `tidehub import` tells: as text, and as JSON. Never a value of a secret."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from tidehub import program
from tidehub.importing.build import Imported
from tidehub.importing.fates import Kind, LeafFate
from tidehub.importing.round_trip import Otherwise
from tidehub.importing.site_text import counts
from tidehub.site.problems import KeyPath, Problem, dotted

_TITLES = {
    Kind.TRANSLATED: "Translated",
    Kind.DROPPED: "Not needed any more",
    Kind.PASSED: "Kept under overrides, because a site file has no key for it",
    Kind.SECRET: "Secrets",
    Kind.REPLACED: "Stated again by a later file",
}


def lines(
    imported: Imported,
    problems: Iterable[Problem],
    otherwise: Iterable[Otherwise] = (),
    *,
    verbose: bool = False,
) -> Iterator[str]:
    """The report, section by section. `problems` are what the site file's own check says."""
    for remark in imported.remarks:
        yield str(remark)
    if verbose:
        yield from _section("Understood", _of(imported, Kind.UNDERSTOOD))
    for kind, title in _TITLES.items():
        yield from _section(title, _of(imported, kind))
    differ = list(otherwise)
    if differ:
        yield ""
        yield "Understood, and written in other words when the site becomes Helm values:"
        for one in differ:
            now = "elsewhere" if one.rendered is None else _value(one.rendered)
            yield f"  {one.leaf.where}: {_shown(one.leaf.path)}: {_value(one.original)} -> {now}"
    if imported.chosen:
        yield ""
        yield "Chosen, because the values do not say it. Check these:"
        for chosen in imported.chosen:
            yield f"  {chosen.key}: {chosen.value}"
            yield f"      {chosen.why}"
    if imported.placeholders:
        yield ""
        yield "Placeholders, to be replaced by real values:"
        for name, where in imported.placeholders:
            yield f"  {where}: {name}"
    said = list(problems)
    if said:
        yield ""
        yield f"What `{program.command('validate')}` says of the site file:"
        for problem in said:
            yield from (f"  {line}" for line in str(problem).splitlines())


def summary(imported: Imported) -> str:
    """One line with the numbers."""
    count = counts(imported)
    parts = [f"{sum(count.values())} values", f"{count['understood']} understood"]
    for kind, words in (
        ("translated", "translated"),
        ("dropped", "not needed any more"),
        ("passed through", "kept under overrides"),
        ("secret", "secret"),
        ("replaced", "stated again later"),
    ):
        if count[kind]:
            parts.append(f"{count[kind]} {words}")
    return f"{parts[0]}: {', '.join(parts[1:])}."


def _value(value: Any) -> str:
    text = "".join(character if character.isprintable() else " " for character in str(value)).strip()
    return text if len(text) <= 60 else f"{text[:57]}..."


def as_json(
    imported: Imported,
    problems: Iterable[Problem],
    written: dict[str, str],
    otherwise: Iterable[Otherwise] = (),
) -> dict[str, Any]:
    """The whole account, without the values: some are secrets."""
    return {
        "written": written,
        "model": imported.model,
        "counts": counts(imported),
        "values": [_leaf(leaf) for leaf in imported.leaves],
        "written_otherwise": [
            {**_leaf(one.leaf), "original": one.original, "rendered": one.rendered} for one in otherwise
        ],
        "chosen": [
            {"key": chosen.key, "value": chosen.value, "why": chosen.why} for chosen in imported.chosen
        ],
        "placeholders": [
            {"name": name, "file": where.file, "line": where.line, "column": where.column}
            for name, where in imported.placeholders
        ],
        "remarks": [remark.as_dict() for remark in imported.remarks],
        "problems": [problem.as_dict() for problem in problems],
    }


def _leaf(leaf: LeafFate) -> dict[str, Any]:
    return {
        "file": leaf.where.file,
        "line": leaf.where.line,
        "column": leaf.where.column,
        "chart": leaf.chart,
        "key": _shown(leaf.path),
        "fate": str(leaf.fate.kind),
        "site_key": leaf.fate.key,
        "remark": leaf.fate.remark,
    }


def _of(imported: Imported, kind: Kind) -> list[LeafFate]:
    """In the order of the files. Placeholders have a section of their own."""
    empty = {where for _, where in imported.placeholders} if kind is Kind.SECRET else set()
    found = [leaf for leaf in imported.leaves if leaf.fate.kind is kind and leaf.where not in empty]
    return sorted(
        found, key=lambda leaf: (imported.files.index(leaf.where.file), leaf.where.line, leaf.where.column)
    )


def _section(title: str, found: list[LeafFate]) -> Iterator[str]:
    if not found:
        return
    yield ""
    yield f"{title}:"
    for group in _together(found):
        first = group[0]
        path = group[0].path if len(group) == 1 else _common([leaf.path for leaf in group])
        many = f" ({len(group)} values)" if len(group) > 1 else ""
        to = f" -> {first.fate.key}" if first.fate.key and first.fate.kind is not Kind.PASSED else ""
        yield f"  {first.where}: {_shown(path)}{many}{to}"
        if first.fate.remark:
            yield f"      {first.fate.remark}"


def _together(found: list[LeafFate]) -> list[list[LeafFate]]:
    """Neighbours with the same fate are told once, as the mapping or list that holds them."""
    groups: list[list[LeafFate]] = []
    for _, group in groupby(found, key=_sort):
        groups.append(list(group))
    return groups


def _sort(leaf: LeafFate) -> tuple[Any, ...]:
    fate = leaf.fate
    key = fate.key if fate.kind is not Kind.PASSED else None
    depth = 2 if fate.kind is Kind.PASSED else 3
    return leaf.where.file, leaf.path[:depth], key, fate.remark


def _common(paths: list[KeyPath]) -> KeyPath:
    first = paths[0]
    for length in range(len(first), 0, -1):
        if all(path[:length] == first[:length] for path in paths):
            return first[:length]
    return ()


def _shown(path: KeyPath) -> str:
    text = dotted(path)
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= 200 else f"{text[:197]}..."
