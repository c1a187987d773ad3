"""Values laid over each other as Helm lays values files: mappings merge, everything else replaces. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """The layers over each other, later ones above. Nothing in the result is shared with them.

    None stays: in what is handed to Helm it removes a default of the chart.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        _lay(merged, layer)
    return merged


def _lay(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        below = into.get(key)
        if isinstance(value, Mapping) and isinstance(below, dict):
            _lay(below, value)
        else:
            into[key] = deepcopy(value)
