"""Kubernetes quantities, so that `1000M` and `1G` are the same. Pure.

Source: the serialisation format in k8s.io/apimachinery, pkg/api/resource.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

_SUFFIXES = {
    "n": Decimal(10) ** -9, "u": Decimal(10) ** -6, "m": Decimal(10) ** -3, "": Decimal(1),
    "k": Decimal(10) ** 3, "M": Decimal(10) ** 6, "G": Decimal(10) ** 9, "T": Decimal(10) ** 12,
    "P": Decimal(10) ** 15, "E": Decimal(10) ** 18,
    "Ki": Decimal(2) ** 10, "Mi": Decimal(2) ** 20, "Gi": Decimal(2) ** 30, "Ti": Decimal(2) ** 40,
    "Pi": Decimal(2) ** 50, "Ei": Decimal(2) ** 60,
}  # fmt: skip
_WRITTEN = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d{1,2})|([numkMGTPE]|[KMGTPE]i)?)")
_MOST_DIGITS = 40


def amount(value: Any) -> Decimal | None:
    """The number that a quantity means; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    text = str(value)
    found = _WRITTEN.fullmatch(text) if len(text) <= _MOST_DIGITS else None
    if found is None:
        return None
    number, exponent, suffix = found.groups()
    return Decimal(f"{number}{exponent}") if exponent else Decimal(number) * _SUFFIXES[suffix or ""]


def canonical(value: Any) -> Any:
    """The shortest writing of a quantity: equal ones give the same text. What is not a quantity stays as it is."""
    number = amount(value)
    if number is None:
        return value
    if not number:
        return "0"
    whole = [f"{int(number / size)}{suffix}" for suffix, size in _SUFFIXES.items() if not (number / size) % 1]
    # Finer than a nano: the server rounds it up, which is not for us to guess.
    return min(whole, key=lambda text: (len(text), text.endswith("i"))) if whole else str(value)
