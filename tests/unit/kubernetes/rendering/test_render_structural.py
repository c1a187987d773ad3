"""Our reading of structural schemas beside that of the package jsonschema."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidehub.kubernetes.rendering.structural import faults

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["name"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 3, "pattern": "^[a-c]+$"},
        "kind": {"enum": ["x", "y", 1]},
        "count": {"type": "integer", "minimum": 1, "maximum": 3},
        "share": {"type": "number"},
        "open": {"type": "boolean"},
        "parts": {
            "type": "array",
            "minItems": 1,
            "maxItems": 2,
            "uniqueItems": True,
            "items": {
                "type": "object",
                "properties": {"a": {"type": "integer"}},
                "additionalProperties": False,
            },
        },
        "labels": {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 1},
    },
    "oneOf": [{"required": ["kind"]}, {"required": ["count"]}],
}
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 4),
    st.floats(0, 2),
    st.sampled_from(["", "a", "ab", "abcd", "x"]),
)
PARTS = st.lists(
    st.one_of(SCALARS, st.fixed_dictionaries({}, optional={"a": SCALARS, "b": SCALARS})), max_size=3
)
VALUES = st.one_of(
    SCALARS,
    st.fixed_dictionaries(
        {},
        optional={
            "name": SCALARS,
            "kind": SCALARS,
            "count": SCALARS,
            "share": SCALARS,
            "open": SCALARS,
            "parts": st.one_of(SCALARS, PARTS),
            "labels": st.one_of(SCALARS, st.dictionaries(st.sampled_from(["a", "b"]), SCALARS)),
            "more": SCALARS,
        },
    ),
)


@given(VALUES)
def test_it_agrees_with_jsonschema(value: Any) -> None:
    right = not list(jsonschema.Draft7Validator(SCHEMA).iter_errors(value))
    assert (not list(faults(value, SCHEMA))) is right


@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        ({"x-kubernetes-int-or-string": True}, [1, "1"], [1.5, [], True]),
        ({"type": "string", "nullable": True}, [None, "a"], [1]),
        ({"type": "object", "properties": {"a": {}}}, [{"a": 1}, {}], [{"b": 1}]),
        ({"type": "object"}, [{"b": 1}], [[]]),
        (
            {"type": "object", "properties": {"a": {}}, "x-kubernetes-preserve-unknown-fields": True},
            [{"b": 1}],
            [1],
        ),
        ({"type": "integer", "minimum": 1, "exclusiveMinimum": True}, [2], [1, 0]),
        ({"type": "integer", "maximum": 1, "exclusiveMaximum": True}, [0], [1, 2]),
        ({"not": {"required": ["a"]}, "type": "object", "properties": {"a": {}}}, [{}], [{"a": 1}]),
        ({"allOf": [{"minimum": 1}, {"maximum": 2}], "type": "integer"}, [1, 2], [0, 3]),
        ({"anyOf": [{"minimum": 5}, {"maximum": 2}], "type": "integer"}, [1, 6], [3]),
        ({"type": "object", "minProperties": 1}, [{"a": 1}], [{}]),
        ({"type": "string", "pattern": "^(?i)[a-z]+$(?<bad"}, ["anything"], []),
    ],
)
def test_the_dialect_of_crds(schema: dict[str, Any], right: list[Any], wrong: list[Any]) -> None:
    assert [value for value in right if list(faults(value, schema))] == []
    assert [value for value in wrong if not list(faults(value, schema))] == []


def test_places_are_told_and_values_are_not() -> None:
    found = list(faults({"name": "a", "count": 1, "parts": [{"a": "hidden-value"}]}, SCHEMA))
    assert found == [("parts[0].a", "its CRD requires a whole number here")]
