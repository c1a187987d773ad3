"""Values over values, as Helm lays files."""

from __future__ import annotations

from tidehub.kubernetes.values.merge import merge, remove
from tidehub.secrets.secret import Secret


def test_mappings_merge_and_all_else_replaces() -> None:
    below = {"a": {"x": 1, "y": [1, 2]}, "b": "text", "c": 0}
    above = {"a": {"y": [3], "z": None}, "b": {"now": "a mapping"}}
    assert merge(below, above) == {
        "a": {"x": 1, "y": [3], "z": None},
        "b": {"now": "a mapping"},
        "c": 0,
    }


def test_nothing_is_shared_with_the_layers() -> None:
    below = {"a": {"list": [{"x": 1}]}}
    merged = merge(below, {"a": {"more": 1}})
    merged["a"]["list"][0]["x"] = 2
    assert below == {"a": {"list": [{"x": 1}]}}


def test_secrets_stay_what_they_are() -> None:
    secret = Secret("not to be copied")
    assert merge({"a": [secret]}, {})["a"][0] is secret


def test_a_value_is_taken_out_with_what_is_empty_around_it() -> None:
    values = {"a": {"b": {"c": 1}, "d": 2}}
    assert remove(values, "a", "b", "c") == 1
    assert values == {"a": {"d": 2}}
    assert remove(values, "a", "b", "c") is None
    assert remove(values, "a", "d", "e") is None
    assert values == {"a": {"d": 2}}
