"""Secrets as chart values, one mapping a release: each chart's schema refuses the other's keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidehub.secrets.secret import Secret
from tidehub.secrets.sources import Resolved


def chart_values(resolved: Resolved) -> dict[str, dict[str, Any]]:
    """Values by chart, every secret still a `Secret`. One secret in two places is in both mappings.

    The keys are `jupyterhub` and `dask-gateway`, also for the daskhub chart, which nests them by these names.
    """
    values: dict[str, dict[str, Any]] = {"jupyterhub": {}, "dask-gateway": {}}
    for found in resolved.found.values():
        for goes in found.declared.charts:
            inner = values[goes.release]
            for part in goes.path[:-1]:
                inner = inner.setdefault(part, {})
            inner[goes.path[-1]] = list(found.values) if goes.as_list else found.value
    for chart, overrides in resolved.overrides.items():
        _merge(values.setdefault(chart, {}), overrides)
    return values


def revealed(values: Any) -> Any:
    """The same with the secrets in clear, for a 0600 file or a pipe to `helm`."""
    if isinstance(values, Secret):
        return values.reveal()
    if isinstance(values, Mapping):
        return {key: revealed(value) for key, value in values.items()}
    return [revealed(value) for value in values] if isinstance(values, list) else values


def _merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value
