"""Conversions against the real readers: JupyterHub's and dask-gateway's traits, and Kubernetes' own grammar."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest
from dask_gateway_server.traitlets import MemoryLimit
from hypothesis import given
from hypothesis import strategies as st
from jupyterhub.traitlets import ByteSpecification
from traitlets import HasTraits, TraitError

from tidehub.local.isolation import cgroup_files
from tidehub.site.destinations import convert

GIB = 2**30


class Traits(HasTraits):  # type: ignore[misc]
    hub = ByteSpecification()
    gateway = MemoryLimit()


KUBERNETES = re.compile(r"(?P<number>[0-9]+)(?P<suffix>Ei|Pi|Ti|Gi|Mi|Ki|E|P|T|G|M|k|m)?")
"""The quantity grammar of Kubernetes (apimachinery, api/resource/quantity.go) without signs, points and exponents."""
FACTORS = {
    **{suffix: 2 ** (10 * power) for power, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), start=1)},
    **{suffix: 10 ** (3 * power) for power, suffix in enumerate(("k", "M", "G", "T", "P", "E"), start=1)},
    "m": Fraction(1, 1000),
    None: 1,
}  # fmt: skip


def kubernetes(text: str) -> Fraction:
    found = KUBERNETES.fullmatch(text)
    assert found is not None, text
    return Fraction(found["number"]) * Fraction(FACTORS[found["suffix"]])


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (5 * GIB, "5G"),
        (10 * GIB, "10G"),
        (GIB // 2, "512M"),
        (3 * GIB // 2, "1536M"),
        (2**40, "1T"),
        (1024, "1K"),
        (1000, 1000),
        (0, 0),
        (10**9, 10**9),
        ((10**10 + 1) * 1024, "10000000001K"),
        (25_769_803_776, "24G"),
    ],
)
def test_jupyterhubs_notation(size: int, text: str | int) -> None:
    assert convert.to_jupyterhub_memory(size) == text


@given(st.integers(0, 2**53) | st.integers(0, 2**23).map(lambda count: count * 2**40))
def test_the_real_traits_read_the_same_bytes(size: int) -> None:
    traits = Traits()
    traits.hub = convert.to_jupyterhub_memory(size)
    traits.gateway = convert.to_dask_memory(size)
    assert (traits.hub, traits.gateway) == (size, size)


@pytest.mark.parametrize("text", ["10Gi", "10GB", "10GiB", "10g", "10", "5 GiB"])
def test_what_the_real_traits_refuse_is_never_written(text: str) -> None:
    with pytest.raises(TraitError):
        Traits().hub = text
    with pytest.raises(TraitError):
        Traits().gateway = text


@pytest.mark.parametrize("size", [2**53 + 1, 2**60 + 1])
def test_what_no_notation_holds_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="exactly"):
        convert.to_jupyterhub_memory(size)


def test_negative_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        convert.to_jupyterhub_memory(-1)
    with pytest.raises(ValueError, match="negative"):
        convert.to_kubernetes_quantity(-1)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (50 * GIB, "50Gi"),
        (GIB, "1Gi"),
        (3 * GIB // 2, "1536Mi"),
        (10**10, "10G"),
        (500 * 10**6, "500M"),
        (1000, "1k"),
        (1234567, "1234567"),
        (2**60, "1Ei"),
        (0, "0"),
    ],
)
def test_kubernetes_notation(size: int, text: str) -> None:
    assert convert.to_kubernetes_quantity(size) == text


@given(st.integers(0, 2**63 - 1))
def test_kubernetes_reads_the_same_bytes(size: int) -> None:
    assert kubernetes(convert.to_kubernetes_quantity(size)) == size


@given(st.integers(1, 4096 * 1000))
def test_kubernetes_reads_the_same_cores(thousandths: int) -> None:
    text = convert.to_kubernetes_cpu(thousandths / 1000)
    assert kubernetes(text) * 1000 == thousandths
    assert text.endswith("m") == (thousandths % 1000 != 0)


@pytest.mark.parametrize("cores", [0, -1, 0.0001, 1.00005])
def test_cores_finer_than_kubernetes_counts(cores: float) -> None:
    with pytest.raises(ValueError, match="thousandths"):
        convert.to_kubernetes_cpu(cores)


def test_cores_of_the_hub_and_of_dask() -> None:
    assert (convert.to_jupyterhub_cpu(2.0), convert.to_jupyterhub_cpu(0.5)) == (2, 0.5)
    assert isinstance(convert.to_jupyterhub_cpu(2.0), int)
    assert convert.to_dask_cores(2.0) == 2
    with pytest.raises(ValueError, match="whole"):
        convert.to_dask_cores(1.5)


@pytest.mark.parametrize(("seconds", "whole"), [(3600.0, 3600), (0.5, 1), (1.0, 1), (1.2, 2), (0.0, 0)])
def test_whole_seconds_are_never_fewer(seconds: float, whole: int) -> None:
    assert convert.to_whole_seconds(seconds) == whole


def test_the_kernels_numbers_are_those_that_the_isolation_writes() -> None:
    assert convert.CPU_PERIOD == cgroup_files.CPU_PERIOD_US
    assert convert.to_cgroup_cpu_max(2) == f"200000 {cgroup_files.CPU_PERIOD_US}"
    assert convert.to_cgroup_cpu_max(0.001) == f"1000 {cgroup_files.CPU_PERIOD_US}"
    assert convert.to_cgroup_weight(1.5) == 1.5 * cgroup_files.WEIGHT_PER_CORE
    assert (convert.to_cgroup_weight(0.001), convert.to_cgroup_weight(4000)) == (1, 10_000)


@pytest.mark.parametrize(
    ("image", "name", "tag"),
    [
        ("quay.io/globalcoast/protocoast-notebook:main", "quay.io/globalcoast/protocoast-notebook", "main"),
        ("pangeo/ml-notebook", "pangeo/ml-notebook", ""),
        ("localhost:5000/x/y", "localhost:5000/x/y", ""),
        ("localhost:5000/x/y:1", "localhost:5000/x/y", "1"),
        ("x/y@sha256:0a", "x/y@sha256", "0a"),
        ("y", "y", ""),
    ],
)
def test_images_are_split_as_charts_join_them(image: str, name: str, tag: str) -> None:
    assert convert.split_image(image) == (name, tag)
    assert image == (f"{name}:{tag}" if tag else name)
