"""The upstream charts' own schemas, where they are: they are not ours to keep here."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tidehub.charts.archive import open_chart

VARIABLE = "TIDEHUB_CHARTS"
"""A directory of published archives, CHART-VERSION.tgz."""


def schema(chart: str, version: str) -> dict[str, Any]:
    """The schema of a chart's values, without `required`: what is not stated comes from the chart's own values."""
    folder = os.environ.get(VARIABLE, "")
    path = Path(folder) / f"{chart}-{version}.tgz"
    if not folder or not path.is_file():
        pytest.skip(f"no schema of {chart} {version}: {VARIABLE} names no directory with {path.name}")
    return _of(path)


@cache
def _of(path: Path) -> dict[str, Any]:
    found = open_chart(path).schema
    assert found is not None
    return dict(_optional(found))


def _optional(node: Any) -> Any:
    if isinstance(node, dict):
        return {
            key: _optional(value)
            for key, value in node.items()
            if key != "required" or isinstance(value, dict)
        }
    return [_optional(item) for item in node] if isinstance(node, list) else node
