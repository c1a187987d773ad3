"""The JSON Schema for editors: valid itself, agrees with the loader on good files, and refuses what it can see."""

from __future__ import annotations

import copy
from typing import Any

import jsonschema
import pytest

from tidehub.site import describe
from tidehub.site.json_schema import DIALECT, site_schema
from tidehub.site.presets import NAMES, text_of
from tidehub.site.reading.tree import read, to_data
from tidehub.site.units import QuantityError, parse_cores, parse_duration, parse_size

SCHEMA = site_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def data(preset: str) -> Any:
    root, problems, _ = read(text_of(preset), preset)
    assert root is not None and not problems
    return to_data(root)


def test_it_is_a_schema_of_its_dialect() -> None:
    assert SCHEMA["$schema"] == DIALECT
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("preset", NAMES)
def test_presets_pass(preset: str) -> None:
    VALIDATOR.validate(data(preset))


def test_a_file_on_a_preset_passes() -> None:
    VALIDATOR.validate({"preset": "laptop", "site": {"name": "Mine"}})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("site", "nam"), "x"),
        (("notebooks", "memory", "limit"), "10"),
        (("notebooks", "memory", "limit"), 10),
        (("notebooks", "memory", "limit"), "10G"),
        (("notebooks", "home", "size"), "10 gigs"),
        (("notebooks", "idle_timeout"), 3600),
        (("notebooks", "idle_timeout"), "1 m"),
        (("notebooks", "cpu", "limit"), "two"),
        (("dask", "worker", "cores", "min"), 1.5),
        (("dask", "engine"), "gatway"),
        (("dask", "cluster", "max_workers"), 0),
        (("machine",), {"port": 70000}),
        (("login", "allow", "everyone"), "yes"),
        (("kubernetes", "charts"), {"nginx": "1.0.0"}),
    ],
)
def test_mistakes_are_refused(path: tuple[str, ...], value: Any) -> None:
    wrong = copy.deepcopy(data("protocoast"))
    inner = wrong
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = value
    assert not VALIDATOR.is_valid(wrong)


@pytest.mark.parametrize("required", ["site", "login", "notebooks"])
def test_sections_are_required(required: str) -> None:
    wrong = data("protocoast")
    del wrong[required]
    assert not VALIDATOR.is_valid(wrong)


def pattern_of(kind: str) -> Any:
    from tidehub.site.json_schema import _QUANTITIES

    return jsonschema.Draft202012Validator(_QUANTITIES[kind])


@pytest.mark.parametrize(
    ("kind", "parse", "texts"),
    [
        ("size", parse_size, ["5 GiB", "5GiB", "1.5 GiB", "10 GB", "4Gi", "500 MB", "12 B", "1 kB", "1 KB",
                              "5", "5 G", "5 gib", "-1 GiB", "GiB", "1,5 GiB", "", "1 GiB 2 MiB"]),
        ("duration", parse_duration, ["20 min", "1 h 30 min", "90s", "2 d", "0.5 s", "1 hour", "3 days",
                                      "20", "1 m", "soon", "", "-1 s", "1 h x"]),
        ("cores", parse_cores, ["2", "0.5", "500m", "1.5 ", "2 cores", "x", "-1", "500 mm", ""]),
    ],
)  # fmt: skip
def test_patterns_agree_with_the_parsers(kind: str, parse: Any, texts: list[str]) -> None:
    for text in texts:
        try:
            parse(text)
            understood = True
        except QuantityError:
            understood = False
        assert pattern_of(kind).is_valid(text) == understood, text


def properties(node: Any) -> Any:
    if isinstance(node, dict):
        for value in node.get("properties", {}).values():
            yield value
        for value in node.values():
            yield from properties(value)
    elif isinstance(node, list):
        for value in node:
            yield from properties(value)


def test_every_key_has_its_description_and_a_default_that_it_allows() -> None:
    known = {key.description for key in describe.all_keys()}
    found = list(properties(SCHEMA))
    assert len(found) > 80
    described = {field["description"] for field in found if "description" in field}
    keys = {key.description for key in describe.all_keys() if key.section is None}
    assert keys <= described
    assert keys <= known
    for field in found:
        if "default" in field:
            whole = {
                "$defs": SCHEMA["$defs"],
                **{key: value for key, value in field.items() if key != "default"},
            }
            jsonschema.Draft202012Validator(whole).validate(field["default"])
