"""The upstream charts' own schemas, where they are: they are not ours to keep here."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

VARIABLE = "TIDEHUB_CHART_SCHEMAS"
_BESIDE = Path(__file__).resolve().parents[4] / "shared" / "charts"


def directory() -> Path | None:
    named = os.environ.get(VARIABLE)
    place = Path(named) if named else _BESIDE
    return place if place.is_dir() else None


def schema(chart: str, version: str) -> dict[str, Any]:
    """The schema of a chart's values, without `required`: what is not stated comes from the chart's own values."""
    place = directory()
    path = place / f"{chart}-{version}.values.schema.json" if place else None
    if path is None or not path.is_file():
        pytest.skip(
            f"no schema of {chart} {version}: set {VARIABLE} to a directory with CHART-VERSION.values.schema.json "
            "(values.schema.json of the published chart archives)"
        )
    return dict(_optional(json.loads(path.read_text(encoding="utf-8"))))


def _optional(node: Any) -> Any:
    if isinstance(node, dict):
        return {
            key: _optional(value)
            for key, value in node.items()
            if key != "required" or isinstance(value, dict)
        }
    return [_optional(item) for item in node] if isinstance(node, list) else node
