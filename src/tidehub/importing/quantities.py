"""Quantities as charts write them, exact: the same letters mean different things in different places.

`10G` is 10 GiB to JupyterHub and dask-gateway (powers of 1024) and 10 GB to Kubernetes (powers of 1000).
Sources: traitlets' ByteSpecification in jupyterhub.traitlets, MemoryLimit in dask_gateway_server.traitlets, and
the Kubernetes quantity grammar (apimachinery, resource.Quantity).
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

_TRAIT = re.compile(r"([0-9]{1,20}(?:\.[0-9]{0,12})?) ?([KMGT])", re.ASCII)
_QUANTITY = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,12})?)([A-Za-z]{0,2}|[eE][0-9]{1,2})", re.ASCII)
_KUBERNETES = {
    **{unit: 1024**power for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), start=1)},
    **{unit: 1000**power for power, unit in enumerate(("", "k", "M", "G", "T", "P", "E"))},
    "m": Fraction(1, 1000),
}
_LARGEST = 2**63 - 1


def trait_bytes(value: Any) -> int | None:
    """Bytes of a JupyterHub or dask-gateway memory setting: a number of bytes, or `10G`, `1.5 G`. None otherwise."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return int(value) if 0 < value <= _LARGEST and value == int(value) else None
    if isinstance(value, str) and (found := _TRAIT.fullmatch(value.strip())):
        return _whole(Fraction(found[1].rstrip(".")) * 1024 ** ("KMGT".index(found[2]) + 1))
    return None


def kubernetes_bytes(value: Any) -> int | None:
    """Bytes of a Kubernetes quantity: `50Gi`, `50G`, `1e9`, a number. None for anything else, and for fractions."""
    exact = _quantity(value)
    return None if exact is None else _whole(exact)


def kubernetes_cores(value: Any) -> float | None:
    """Cores of a Kubernetes quantity or number: `500m`, `2`, `0.5`. None for anything else."""
    exact = _quantity(value)
    return float(exact) if exact is not None and 0 < exact <= 4096 else None


def _quantity(value: Any) -> Fraction | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return Fraction(value) if abs(value) <= _LARGEST else None
    found = _QUANTITY.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        return None
    unit = found[2]
    if unit[:1] in ("e", "E") and unit[1:].isdigit():
        return Fraction(found[1]) * Fraction(10 ** int(unit[1:]))
    factor = _KUBERNETES.get(unit)
    return None if factor is None else Fraction(found[1]) * factor


def _whole(exact: Fraction) -> int | None:
    return int(exact) if exact.denominator == 1 and 0 < exact <= _LARGEST else None
