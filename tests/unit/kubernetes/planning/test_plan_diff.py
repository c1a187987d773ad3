from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidehub.kubernetes.planning.diff import apply, compare
from tidehub.kubernetes.planning.paths import Entry, write


def said(old: Any, new: Any) -> list[tuple[str, str, Any, Any]]:
    return [(change.where, change.kind, change.old, change.new) for change in compare(old, new)]


def deployment(*containers: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "Deployment", "spec": {"template": {"spec": {"containers": list(containers)}}}}


CONTAINERS = "spec.template.spec.containers"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            deployment({"name": "hub", "image": "hub:1"}),
            deployment({"name": "hub", "image": "hub:2"}),
            [(f"{CONTAINERS}[hub].image", "changed", "hub:1", "hub:2")],
        ),
        (
            deployment({"name": "hub", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}),
            deployment({"name": "hub", "env": [{"name": "A", "value": "3"}, {"name": "C", "value": "4"}]}),
            [
                (f"{CONTAINERS}[hub].env[A].value", "changed", "1", "3"),
                (f"{CONTAINERS}[hub].env[B]", "removed", {"name": "B", "value": "2"}, None),
                (f"{CONTAINERS}[hub].env[C]", "added", None, {"name": "C", "value": "4"}),
            ],
        ),
        (
            deployment({"name": "a"}, {"name": "b"}),
            deployment({"name": "b"}, {"name": "a"}),
            [(CONTAINERS, "reordered", (Entry(("a",)), Entry(("b",))), (Entry(("b",)), Entry(("a",))))],
        ),
        (
            deployment({"name": "hub", "ports": [{"containerPort": 80}]}),
            deployment({"name": "hub", "ports": [{"containerPort": 80, "protocol": "TCP", "name": "http"}]}),
            [
                (f"{CONTAINERS}[hub].ports[80].name", "added", None, "http"),
                (f"{CONTAINERS}[hub].ports[80].protocol", "added", None, "TCP"),
            ],
        ),
        (
            {"spec": {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}},
            {"spec": {"ports": [{"port": 53, "protocol": "UDP", "targetPort": 5353}, {"port": 53}]}},
            [
                ("spec.ports[53/UDP].targetPort", "added", None, 5353),
                ("spec.ports[53].protocol", "removed", "TCP", None),
            ],
        ),
        (
            deployment({"name": "hub", "volumeMounts": [{"mountPath": "/srv", "name": "db"}]}),
            deployment({"name": "hub", "volumeMounts": [{"mountPath": "/srv", "name": "pvc"}]}),
            [(f"{CONTAINERS}[hub].volumeMounts[/srv].name", "changed", "db", "pvc")],
        ),
        # Two elements of one name cannot be told apart: they are compared by their places.
        (
            {"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]},
            {"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "3"}]},
            [("env[1].value", "changed", "2", "3")],
        ),
        ({"args": ["a", "b"]}, {"args": ["a", "c"]}, [("args", "changed", ["a", "b"], ["a", "c"])]),
        (
            {"rules": [{"verbs": ["get"]}, {"verbs": ["list"]}]},
            {"rules": [{"verbs": ["get"]}, {"verbs": ["watch"]}]},
            [("rules[1].verbs", "changed", ["list"], ["watch"])],
        ),
        (
            {"data": {"values.yaml": "a", "old": "x"}},
            {"data": {"values.yaml": "b", "new": "y"}},
            [
                ("data.new", "added", None, "y"),
                ("data.old", "removed", "x", None),
                ('data."values.yaml"', "changed", "a", "b"),
            ],
        ),
        ({"a": True}, {"a": 1}, [("a", "changed", True, 1)]),
        ({"a": 1}, {"a": 1.0}, []),
        ({"a": {}}, {"a": []}, [("a", "changed", {}, [])]),
    ],
)  # fmt: skip
def test_two_objects_differ_in_these_fields(
    old: Any, new: Any, expected: list[tuple[str, str, Any, Any]]
) -> None:
    assert said(old, new) == expected
    assert apply(compare(old, new), old) == new


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("spec", "ports", Entry((80, "TCP")), "name"), "spec.ports[80].name"),
        (("spec", "ports", Entry((53, "UDP"))), "spec.ports[53/UDP]"),
        (("metadata", "annotations", "meta.helm.sh/x"), 'metadata.annotations."meta.helm.sh/x"'),
        (("rules", 0, "verbs"), "rules[0].verbs"),
    ],
)
def test_a_path_in_writing(path: Any, text: str) -> None:
    assert write(path) == text


_scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "TCP", "UDP", "80"])
_keys = st.sampled_from(
    [
        "a",
        "name",
        "env",
        "ports",
        "port",
        "containerPort",
        "protocol",
        "containers",
        "versions",
        "key",
        "services",
    ]
)
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=4),
    max_leaves=12,
)
_named = st.lists(
    st.fixed_dictionaries({"name": st.sampled_from("abcd")}, optional={"value": _scalars, "env": _values}),
    unique_by=lambda item: item["name"],
    max_size=4,
)
_objects = st.dictionaries(_keys, _values | _named, max_size=5)


@given(_objects)
def test_an_object_does_not_differ_from_itself(obj: dict[str, Any]) -> None:
    assert compare(obj, obj) == ()


@given(_objects, _objects)
def test_whatever_differs_is_said(old: dict[str, Any], new: dict[str, Any]) -> None:
    result = apply(compare(old, new), old)
    assert result == new
    assert compare(result, new) == ()


@given(_named, _named)
def test_lists_with_names_come_out_in_their_order(old: list[Any], new: list[Any]) -> None:
    assert apply(compare({"env": old}, {"env": new}), {"env": old}) == {"env": new}
