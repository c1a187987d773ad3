"""What is passed through: the values for `overrides`, and those for the secrets file beside it."""

from __future__ import annotations

from typing import Any

from tidehub.importing.draft import Draft
from tidehub.importing.fates import ChartValues, Fate, Kind, leaves
from tidehub.importing.secrets_found import holds_secret
from tidehub.site.problems import KeyPath


def overrides_of(values: ChartValues) -> tuple[dict[str, Any], dict[str, Any]]:
    """Values for the site file and for the secrets file, by the fates; a list is kept whole, and so is code."""
    plain: dict[str, Any] = {}
    secret: dict[str, Any] = {}
    done: set[KeyPath] = set()
    for path, fate in list(values.fates.items()):
        declared = fate.kind is Kind.SECRET and str(fate.key).startswith("overrides.")
        if fate.kind is not Kind.PASSED and not declared:
            continue
        whole = whole_path(path)
        if whole in done:
            continue
        done.add(whole)
        value = values.rest.get(whole, values.get(*whole))
        target = _target(values, whole)
        if declared or holds_secret(value, str(whole[-1]), code="extraConfig" in whole):
            _hide(values, whole, target)
            _put(secret, target, value)
        else:
            _put(plain, target, value)
    return plain, secret


def whole_path(path: KeyPath) -> KeyPath:
    """The path up to the outermost list: Helm replaces lists as a whole."""
    for place, part in enumerate(path):
        if isinstance(part, int):
            return path[:place]
    return path


def _target(values: ChartValues, path: KeyPath) -> KeyPath:
    for length in range(len(path), 0, -1):
        if path[:length] in values.moves:
            return (*values.moves[path[:length]], *path[length:])
    return path


def _hide(values: ChartValues, whole: KeyPath, target: KeyPath) -> None:
    key = Draft.override_name(values, target)
    for leaf in leaves(values.get(*whole), whole):
        fate = values.fates[leaf]
        if fate.kind is Kind.PASSED:
            values.fates[leaf] = Fate(Kind.SECRET, key, fate.remark)


def _put(tree: dict[str, Any], path: KeyPath, value: Any) -> None:
    for part in path[:-1]:
        tree = tree.setdefault(str(part), {})
    tree[str(path[-1])] = value
