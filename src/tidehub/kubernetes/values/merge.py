"""Values laid over each other as Helm lays values files: mappings merge, everything else replaces. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """The layers over each other, later ones above. Mappings and lists of the result are its own, leaves are shared.

    None stays: in what is handed to Helm it removes a default of the chart.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        _lay(merged, layer)
    return merged


def remove(values: dict[str, Any], *path: str) -> Any:
    """Takes the value at a path out, and the mappings around it that are empty then; None where there is none."""
    around: list[dict[str, Any]] = [values]
    for part in path[:-1]:
        inner = around[-1].get(part)
        if not isinstance(inner, dict):
            return None
        around.append(inner)
    value = around[-1].pop(path[-1], None)
    for outer, part in zip(reversed(around[:-1]), reversed(path[:-1]), strict=True):
        if not outer[part]:
            del outer[part]
    return value


def _lay(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        below = into.get(key)
        if isinstance(value, Mapping) and isinstance(below, dict):
            _lay(below, value)
        else:
            into[key] = _own(value)


def _own(value: Any) -> Any:
    # Not `deepcopy`: a `Secret` refuses to be copied.
    if isinstance(value, Mapping):
        return {key: _own(inner) for key, inner in value.items()}
    return [_own(inner) for inner in value] if isinstance(value, (list, tuple)) else value
