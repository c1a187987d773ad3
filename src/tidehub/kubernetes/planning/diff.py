"""Two objects, field by field. Pure.

`compare(old, new)` lists what differs; `apply(changes, old)` gives `new` back, so nothing that differs goes unsaid.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

from tidehub.kubernetes.planning.paths import Entry, Path, entry_of, merge_key, write

Kind = Literal["added", "changed", "removed", "reordered"]


@dataclass(frozen=True)
class FieldChange:
    """One field that differs. `old` is None where it is added, `new` where it is removed.

    Of a list whose elements only changed their order, `old` and `new` are the keys of its elements.
    """

    path: Path
    kind: Kind
    old: Any = None
    new: Any = None

    @property
    def where(self) -> str:
        """The path in writing: `spec.template.spec.containers[hub].image`."""
        return write(self.path)


def compare(old: Any, new: Any, path: Path = ()) -> tuple[FieldChange, ...]:
    """What has to change for `old` to become `new`, in the order of the fields' names."""
    return tuple(_compare(old, new, path))


def apply(changes: Iterable[FieldChange], obj: Any) -> Any:
    """`obj` with the changes made; `obj` itself stays as it is. Raises `KeyError` for a path that is not there."""
    result = deepcopy(obj)
    for change in changes:
        result = _applied(change, change.path, result)
    return result


def _compare(old: Any, new: Any, path: Path) -> Iterator[FieldChange]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        yield from _mappings(old, new, path)
    elif isinstance(old, list) and isinstance(new, list):
        yield from _lists(old, new, path)
    elif not _same(old, new):
        yield FieldChange(path, "changed", old, new)


def _same(old: Any, new: Any) -> bool:
    # In JSON true is not a number, though in Python True == 1.
    return isinstance(old, bool) == isinstance(new, bool) and bool(old == new)


def _mappings(old: Mapping[str, Any], new: Mapping[str, Any], path: Path) -> Iterator[FieldChange]:
    for key in sorted({*old, *new}, key=str):
        here = (*path, key)
        if key not in new:
            yield FieldChange(here, "removed", old[key])
        elif key not in old:
            yield FieldChange(here, "added", None, new[key])
        else:
            yield from _compare(old[key], new[key], here)


def _lists(old: Sequence[Any], new: Sequence[Any], path: Path) -> Iterator[FieldChange]:
    fields = merge_key(path, old, new, shown=True)
    if fields is None:
        if len(old) == len(new) and not all(_scalar(item) for item in (*old, *new)):
            for place, (one, other) in enumerate(zip(old, new, strict=True)):
                yield from _compare(one, other, (*path, place))
        elif len(old) != len(new) or not all(map(_same, old, new)):
            yield FieldChange(path, "changed", old, new)
        return
    before = {entry_of(item, fields): item for item in old}
    after = {entry_of(item, fields): item for item in new}
    for entry in [*before, *(one for one in after if one not in before)]:
        assert entry is not None
        here = (*path, entry)
        if entry not in after:
            yield FieldChange(here, "removed", before[entry])
        elif entry not in before:
            yield FieldChange(here, "added", None, after[entry])
        else:
            yield from _compare(before[entry], after[entry], here)
    # What `apply` would make of the changes above: what stays in its order, then what is new.
    reached = [*(one for one in before if one in after), *(one for one in after if one not in before)]
    if reached != list(after):
        yield FieldChange(path, "reordered", tuple(reached), tuple(after))


def _scalar(value: Any) -> bool:
    return not isinstance(value, Mapping | list)


def _applied(change: FieldChange, path: Path, value: Any) -> Any:
    if not path:
        return _reordered(change, value) if change.kind == "reordered" else deepcopy(change.new)
    part, rest = path[0], path[1:]
    if isinstance(part, Entry):
        return _entry_applied(change, part, rest, value)
    if not rest and change.kind == "removed":
        del value[part]
    elif not rest and change.kind == "added":
        value[part] = deepcopy(change.new)
    else:
        value[part] = _applied(change, rest, value[part])
    return value


def _entry_applied(change: FieldChange, entry: Entry, rest: Path, items: list[Any]) -> list[Any]:
    if not rest and change.kind == "added":
        return [*items, deepcopy(change.new)]
    place = _place(change.path[: len(change.path) - len(rest) - 1], entry, items)
    if not rest and change.kind == "removed":
        return [*items[:place], *items[place + 1 :]]
    items[place] = _applied(change, rest, items[place])
    return items


def _place(path: Path, entry: Entry, items: list[Any]) -> int:
    fields = merge_key(path, items, shown=True)
    for place, item in enumerate(items):
        if fields is not None and entry_of(item, fields) == entry:
            return place
    raise KeyError(write((*path, entry)))


def _reordered(change: FieldChange, items: list[Any]) -> list[Any]:
    fields = merge_key(change.path, items, shown=True)
    if fields is None:
        raise KeyError(change.where)
    by_entry = {entry_of(item, fields): item for item in items}
    return [by_entry[entry] for entry in change.new]
