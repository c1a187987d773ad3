"""JSON that users send, read with bounds: what passes can be stored by any database and read again (pure)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

MOST_VALUES = 20_000
DEEPEST = 20
LONGEST_NUMBER = 2**53
"""Beyond it JSON's numbers are not exact (RFC 8259, section 6), and sqlite holds 64 bits."""


def read_json(body: bytes) -> Any:
    """The value of a JSON body; None for an empty one. Raises `ValueError`, in words to follow "The body"."""
    try:
        text = body.decode("utf-8").strip()
        value = json.loads(text, parse_constant=_no_constant) if text else None
    except RecursionError:
        raise ValueError(f"is nested more than {DEEPEST} levels deep") from None
    except ValueError as error:
        # Without the text itself: what was sent may hold a secret, and messages are logged.
        raise ValueError(f"is not valid JSON ({getattr(error, 'msg', type(error).__name__)})") from None
    fault = fault_of(value)
    if fault:
        raise ValueError(fault)
    return value


def fault_of(value: Any) -> str | None:
    """What keeps a JSON value from being stored and read again, to follow "The body"; None for a good one (pure)."""
    left, seen = [(value, 1)], 0
    while left:
        item, depth = left.pop()
        seen += 1
        if depth > DEEPEST:
            return f"is nested more than {DEEPEST} levels deep"
        if seen > MOST_VALUES:
            return f"holds more than {MOST_VALUES} values"
        if isinstance(item, Mapping):
            if any(not isinstance(key, str) for key in item):
                return "holds a key that is not text"
            left += [(key, depth) for key in item]
            left += [(inner, depth + 1) for inner in item.values()]
        elif isinstance(item, list | tuple | set | frozenset):
            left += [(inner, depth + 1) for inner in item]
        elif (fault := _fault_of_scalar(item)) is not None:
            return f"holds {fault}"
    return None


def _fault_of_scalar(item: Any) -> str | None:
    if isinstance(item, str):
        return fault_of_text(item)
    if isinstance(item, float):
        return None if abs(item) < float("inf") else "a number that is not finite"
    if isinstance(item, int) and abs(item) > LONGEST_NUMBER:
        return "a number beyond 2**53"
    return None


def fault_of_text(text: str) -> str | None:
    if "\0" in text:
        return "text with a NUL character"
    if any("\ud800" <= character <= "\udfff" for character in text):
        return "text that is not valid Unicode"
    return None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")
