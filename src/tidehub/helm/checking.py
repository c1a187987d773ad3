"""The charts' shapes as Helm's own error: one type, whoever found it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidehub.charts import shape
from tidehub.charts.archive import Chart
from tidehub.helm.problems import ValuesInvalid


def require_shape(chart: Chart, values: Mapping[str, Any]) -> None:
    """Raises `ValuesInvalid` with everything that does not fit the chart. `values` are secrets in clear."""
    if found := shape.check(chart, values):
        raise ValuesInvalid(tuple((each.chart, each.path, each.says) for each in found))
