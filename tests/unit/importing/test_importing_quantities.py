"""Amounts in values mean what the programs that read them take them for: their own parsers decide."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidehub.importing.quantities import kubernetes_bytes, kubernetes_cores, trait_bytes

GIB = 2**30


def _jupyterhub(value: Any) -> int:
    traitlets = pytest.importorskip("jupyterhub.traitlets")
    return int(traitlets.ByteSpecification().validate(None, value))


def _dask_gateway(value: Any) -> int:
    from traitlets import HasTraits

    traitlets = pytest.importorskip("dask_gateway_server.traitlets")

    class Config(HasTraits):  # type: ignore[misc]
        memory = traitlets.MemoryLimit()

    return int(Config(memory=value).memory)


@pytest.mark.parametrize("value", ["5G", "10G", "512M", "1.5G", "2T", "100K", 1073741824, 5368709120])
def test_memory_is_what_jupyterhub_and_dask_gateway_take_it_for(value: Any) -> None:
    assert trait_bytes(value) == _jupyterhub(value) == _dask_gateway(value)


@pytest.mark.parametrize("value", ["16 G", "2 G"])
def test_dask_gateway_takes_a_blank(value: str) -> None:
    assert trait_bytes(value) == _dask_gateway(value)


@pytest.mark.parametrize("value", ["10Gi", "4 GiB", "4GB", "10g", "ten", "", "10"])
def test_what_they_refuse_is_none(value: str) -> None:
    assert trait_bytes(value) is None
    from traitlets import TraitError

    with pytest.raises(TraitError):
        _jupyterhub(value)


@given(st.integers(1, 4096), st.sampled_from("KMGT"))
def test_memory_is_exact(number: int, unit: str) -> None:
    assert trait_bytes(f"{number}{unit}") == _jupyterhub(f"{number}{unit}")


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("50Gi", 50 * GIB),
        ("50G", 50 * 10**9),
        ("1e9", 10**9),
        ("1E3", 1000),
        ("2k", 2000),
        ("1500M", 1500 * 10**6),
        ("0.5Gi", GIB // 2),
        ("2000m", 2),
        (1024, 1024),
        ("1Ei", 2**60),
    ],
)
def test_sizes_of_kubernetes(value: Any, size: int) -> None:
    assert kubernetes_bytes(value) == size


@pytest.mark.parametrize(
    "value", ["5GB", "5GiB", "5K", "five", "", "1.5", "1m", "0", -1, True, None, [], "9" * 30]
)
def test_what_is_no_size_of_kubernetes(value: Any) -> None:
    assert kubernetes_bytes(value) is None


@pytest.mark.parametrize(
    ("value", "cores"), [("500m", 0.5), (2, 2.0), ("0.1", 0.1), (0.05, 0.05), ("1k", 1000.0)]
)
def test_cores(value: Any, cores: float) -> None:
    assert kubernetes_cores(value) == cores


@pytest.mark.parametrize("value", [0, -1, "many", True, None, 10**9, "1 core"])
def test_what_is_no_number_of_cores(value: Any) -> None:
    assert kubernetes_cores(value) is None
