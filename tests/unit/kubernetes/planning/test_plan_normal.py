from __future__ import annotations

import base64
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidehub.kubernetes.planning.diff import compare
from tidehub.kubernetes.planning.normal import normal
from tidehub.kubernetes.planning.quantities import amount, canonical


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1000M", "1G"),
        ("1000m", "1"),
        (1, "1"),
        (0.5, "500m"),
        ("1024Mi", "1Gi"),
        ("1073741824", "1Gi"),
        ("1e3", "1k"),
        ("1E3", "1k"),
        ("0.1", "100m"),
        ("0", "0m"),
        ("100000u", "100m"),
        ("+2Gi", "2Gi"),
    ],
)
def test_one_quantity_in_two_writings(one: Any, other: Any) -> None:
    assert canonical(one) == canonical(other)


@pytest.mark.parametrize(
    ("one", "other"), [("1G", "1Gi"), ("1m", "1M"), ("1", "1k"), ("1E", "1Ei"), ("1P", "1Pi")]
)
def test_two_quantities(one: str, other: str) -> None:
    assert canonical(one) != canonical(other)


@pytest.mark.parametrize("text", ["", "Gi", "1 G", "1g", "ten", "1.2.3", "--1", "1" * 60, True, None, ["1"]])
def test_what_is_no_quantity_stays_as_it_is(text: Any) -> None:
    assert amount(text) is None
    assert canonical(text) == text


@given(
    st.integers(-(10**6), 10**6),
    st.sampled_from(["n", "u", "m", "", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti"]),
)
def test_the_canonical_writing_means_the_same(number: int, suffix: str) -> None:
    text = f"{number}{suffix}"
    again = canonical(text)
    assert amount(again) == amount(text)
    assert canonical(again) == again


def test_amounts() -> None:
    assert amount("1.5Gi") == Decimal(1610612736)
    assert amount("2E") == Decimal(2 * 10**18)
    assert amount("2e2") == Decimal(200)


def test_what_the_server_keeps_for_itself_is_no_difference() -> None:
    made = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "hub", "labels": {"app": "hub"}, "creationTimestamp": None},
        "spec": {"replicas": 1},
    }
    live = {
        **made,
        "metadata": {
            "name": "hub",
            "labels": {"app": "hub"},
            "uid": "0d5",
            "resourceVersion": "17",
            "generation": 3,
            "creationTimestamp": "2026-11-22T09:00:00Z",
            "managedFields": [{"manager": "helm"}],
            "annotations": {
                "meta.helm.sh/release-name": "jupyterhub",
                "meta.helm.sh/release-namespace": "hub",
                "deployment.kubernetes.io/revision": "3",
                "kubectl.kubernetes.io/last-applied-configuration": "{}",
            },
        },
        "status": {"replicas": 1},
    }
    assert compare(normal(made), normal(live)) == ()


def test_other_annotations_stay() -> None:
    obj = {
        "kind": "Ingress",
        "metadata": {"name": "x", "annotations": {"cert-manager.io/cluster-issuer": "a"}},
    }
    assert normal(obj)["metadata"]["annotations"] == {"cert-manager.io/cluster-issuer": "a"}


def test_quantities_are_compared_where_quantities_stand_and_nowhere_else() -> None:
    obj = {
        "kind": "Deployment",
        "metadata": {"name": "x"},
        "spec": {
            "resources": {"limits": {"memory": "1000M"}, "requests": {"cpu": 0.5, "memory": None}},
            "sizeLimit": "1024Mi",
            "args": ["1000M"],
            "env": [{"name": "SIZE", "value": "1000M"}],
        },
    }
    spec = normal(obj)["spec"]
    assert spec["resources"] == {"limits": {"memory": "1G"}, "requests": {"cpu": "500m"}}
    assert spec["sizeLimit"] == "1Gi"
    assert spec["args"] == ["1000M"] and spec["env"] == [{"name": "SIZE", "value": "1000M"}]


def test_a_secret_is_the_same_in_clear_and_in_base64() -> None:
    clear = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"token": "abc"}}
    coded = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s"},
        "data": {"token": base64.b64encode(b"abc").decode() + "\n"},
    }
    assert compare(normal(clear), normal(coded)) == ()


def test_the_given_object_is_left_alone() -> None:
    obj = {"kind": "Secret", "apiVersion": "v1", "metadata": {"uid": "1"}, "stringData": {"a": "b"}}
    normal(obj)
    assert obj == {"kind": "Secret", "apiVersion": "v1", "metadata": {"uid": "1"}, "stringData": {"a": "b"}}
