"""Secrets as chart values, held against the charts' own schemas."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from site_chart_schemas import schema

from tidehub.secrets.charts import chart_values, revealed
from tidehub.secrets.declared import SECRETS, Kept, kept_by
from tidehub.secrets.secret import REDACTED, Secret
from tidehub.secrets.sources import Found, Resolved

CHARTS = [
    ("jupyterhub", "3.3.8"),
    ("jupyterhub", "4.4.0"),
    ("dask-gateway", "2022.6.1"),
    ("dask-gateway", "2026.3.0"),
]


def everything() -> Resolved:
    resolved = Resolved()
    for declared in kept_by(Kept.SITE):
        values = [Secret(f"{declared.name}-value"), Secret(f"{declared.name}-older")]
        kept = tuple(values if declared.rotation.keeps_old else values[:1])
        resolved.found[declared.name] = Found(declared, kept, "file", "a test")
    return resolved


@pytest.mark.parametrize(("chart", "version"), CHARTS)
def test_the_charts_take_them(chart: str, version: str) -> None:
    values = revealed(chart_values(everything()))[chart]
    assert values
    jsonschema.Draft7Validator(schema(chart, version)).validate(values)


def test_each_release_gets_what_is_declared_for_it_and_nothing_else() -> None:
    values = revealed(chart_values(everything()))
    expected = {(goes.release, goes.path, goes.as_list) for one in SECRETS for goes in one.charts}
    for release, path, as_list in expected:
        node: Any = values[release]
        for part in path:
            node = node[part]
        assert isinstance(node, list) == as_list
    leaves = sum(_leaves(values[release]) for release in values)
    assert leaves == len(expected) + 1  # the ring of keys has two


def _leaves(node: Any) -> int:
    if isinstance(node, dict):
        return sum(map(_leaves, node.values()))
    return len(node) if isinstance(node, list) else 1


def test_no_value_shows_until_it_is_revealed() -> None:
    values = chart_values(everything())
    assert "-value" not in repr(values)
    assert REDACTED in str(values)
    with pytest.raises(TypeError):
        json.dumps(values)


def test_a_secret_override_joins_and_wins() -> None:
    resolved = everything()
    resolved.overrides = {
        "jupyterhub": {
            "hub": {"db": {"password": Secret("mine")}, "services": {"news": {"apiToken": Secret("n")}}}
        },
        "daskhub": {"rbac": {"x": Secret("y")}},
    }
    values = revealed(chart_values(resolved))
    assert values["jupyterhub"]["hub"]["db"]["password"] == "mine"
    assert set(values["jupyterhub"]["hub"]["services"]) == {"dask-gateway", "news"}
    assert values["daskhub"] == {"rbac": {"x": "y"}}
