from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidehub.kubernetes.planning.three_way import merge_patch, merged

APPS = {"apiVersion": "apps/v1", "kind": "Deployment"}


def pod(**containers: dict[str, Any]) -> dict[str, Any]:
    return {
        **APPS,
        "spec": {"containers": [{"name": name, **fields} for name, fields in containers.items()]},
    }


@pytest.mark.parametrize(
    ("last", "live", "new", "expected"),
    [
        # What the server filled in stays.
        (
            {**APPS, "spec": {"replicas": 1}},
            {**APPS, "spec": {"replicas": 1, "progressDeadlineSeconds": 600}},
            {**APPS, "spec": {"replicas": 2}},
            {**APPS, "spec": {"replicas": 2, "progressDeadlineSeconds": 600}},
        ),
        # What only the last release had goes.
        (
            {**APPS, "spec": {"paused": True, "replicas": 1}},
            {**APPS, "spec": {"paused": True, "replicas": 1}},
            {**APPS, "spec": {"replicas": 1}},
            {**APPS, "spec": {"replicas": 1}},
        ),
        # What somebody set by hand is put back where the render says something, and stays elsewhere.
        (
            {**APPS, "spec": {"replicas": 1}},
            {**APPS, "spec": {"replicas": 5, "paused": True}},
            {**APPS, "spec": {"replicas": 1}},
            {**APPS, "spec": {"replicas": 1, "paused": True}},
        ),
        # Lists with names are merged by them.
        (
            pod(hub={"image": "a:1"}, old={"image": "b"}),
            pod(hub={"image": "a:1", "imagePullPolicy": "Always"}, old={"image": "b"}, injected={"image": "c"}),
            pod(new={"image": "d"}, hub={"image": "a:2"}),
            pod(new={"image": "d"}, hub={"image": "a:2", "imagePullPolicy": "Always"}, injected={"image": "c"}),
        ),
        # Other lists are replaced whole.
        (
            {**APPS, "spec": {"args": ["a"]}},
            {**APPS, "spec": {"args": ["a", "b"]}},
            {**APPS, "spec": {"args": ["c"]}},
            {**APPS, "spec": {"args": ["c"]}},
        ),
        # Without a last release nothing is removed.
        (None, {**APPS, "spec": {"x": 1}}, {**APPS, "spec": {"y": 2}}, {**APPS, "spec": {"x": 1, "y": 2}}),
        # An older version of the kind says nothing about the fields of this one.
        (
            {"apiVersion": "networking.k8s.io/v1beta1", "kind": "Ingress", "spec": {"a": 1}},
            {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "spec": {"a": 1}},
            {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "spec": {"b": 2}},
            {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "spec": {"a": 1, "b": 2}},
        ),
        # Lists of custom resources are replaced whole, whatever their elements are called.
        (
            {"apiVersion": "traefik.io/v1alpha1", "kind": "IngressRoute", "spec": {"env": [{"name": "a"}]}},
            {"apiVersion": "traefik.io/v1alpha1", "kind": "IngressRoute", "spec": {"env": [{"name": "a", "x": 1}]}},
            {"apiVersion": "traefik.io/v1alpha1", "kind": "IngressRoute", "spec": {"env": [{"name": "a"}]}},
            {"apiVersion": "traefik.io/v1alpha1", "kind": "IngressRoute", "spec": {"env": [{"name": "a"}]}},
        ),
    ],
)  # fmt: skip
def test_what_becomes_of_a_live_object(last: Any, live: Any, new: Any, expected: Any) -> None:
    before = deepcopy((last, live, new))
    assert merged(last, live, new) == expected
    assert (last, live, new) == before


def test_ports_of_a_network_policy_are_replaced_and_those_of_a_service_merged() -> None:
    live = {"apiVersion": "v1", "spec": {"ports": [{"port": 80, "protocol": "TCP", "nodePort": 30000}]}}
    new = {"apiVersion": "v1", "spec": {"ports": [{"port": 80, "name": "http"}]}}
    assert merged(None, live, new)["spec"]["ports"] == [
        {"port": 80, "protocol": "TCP", "nodePort": 30000, "name": "http"}
    ]
    policy = "networking.k8s.io/v1"
    wide = {"apiVersion": policy, "spec": {"ingress": [{"ports": [{"port": 80}, {"port": 81}]}]}}
    narrow = {"apiVersion": policy, "spec": {"ingress": [{"ports": [{"port": 80}]}]}}
    assert merged(None, wide, narrow) == narrow


def test_a_patch_says_only_what_changes() -> None:
    old = {"a": 1, "b": {"c": 1, "d": 2}, "l": [1]}
    new = {"b": {"c": 1, "d": 3}, "e": {"f": 1}, "l": [1, 2]}
    assert merge_patch(old, new) == {"a": None, "b": {"d": 3}, "e": {"f": 1}, "l": [1, 2]}
    assert merge_patch(old, old) == {}


_json = st.recursive(
    st.booleans() | st.integers(0, 3) | st.sampled_from("ab"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


def _patched(obj: Any, patch: Any) -> Any:
    """RFC 7386, section 2."""
    if not isinstance(patch, dict):
        return patch
    result = dict(obj) if isinstance(obj, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _patched(result.get(key), value)
    return result


@given(*[st.dictionaries(st.sampled_from("abcd"), _json, max_size=4)] * 2)
def test_a_patch_makes_one_of_the_other(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert _patched(old, merge_patch(old, new)) == new


@given(*[st.dictionaries(st.sampled_from("abcd"), _json, max_size=4)] * 3)
def test_a_merge_holds_what_the_render_says(last: Any, live: Any, new: Any) -> None:
    for api in (last, live, new):
        api["apiVersion"] = "apps/v1"
    result = merged(last, live, new)
    assert merged(new, result, new) == result
    assert set(new) <= set(result) <= set(new) | set(live)
