"""What a user may send to the hub and the gateway, bar what is right: bodies and addresses that were not foreseen."""

from __future__ import annotations

import json
from collections.abc import Iterator

DEEP = 3000
"""Levels of nesting; Python's parser of JSON refuses more than about 1,000."""

NOT_JSON = [b"{", b"[1,2", b"\xff\xfe\x00", b"{'profile': 1}", b"nul", b'{"profile": "\xff"', b"\x00"]
"""Bodies that cannot be read as JSON."""

VALUES: list[object] = [
    [1, 2],
    [],
    "text",
    7,
    True,
    10**30,
    -1,
    1.5,
    {"x": 1},
    "",
    "a\0b",
    "\ud800",
    "x" * 100_000,
    ["minimal"],
    {"profile": None},
    None,
    "\u202e\u0007",
    "2026-99-99T00:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    {"": {"last_activity": "0001-01-01T00:00:00+14:00"}},
]
"""JSON values of every kind, for a place that expects one kind."""


def bodies_instead_of_an_object() -> Iterator[bytes]:
    """Whole bodies that are not objects, or are not JSON."""
    yield from NOT_JSON
    for value in VALUES:
        if value is not None and not isinstance(value, dict):
            yield json.dumps(value).encode()
    yield b"NaN"
    yield b"[" * DEEP + b"]" * DEEP


def options_that_are_not_ours() -> Iterator[bytes]:
    """Bodies of `POST users/NAME/server` that have to be refused."""
    yield from bodies_instead_of_an_object()
    for value in VALUES:
        yield json.dumps({"profile": value}).encode() if value is not None else b'{"profile": NaN}'
    yield json.dumps({"unknown": 1}).encode()
    yield json.dumps({"__jupyterhub_bytes__": True, "data": "AAAA"}).encode()
    yield b'{"profile": ' + b"[" * DEEP + b"]" * DEEP + b"}"
    yield b'{"profile": ' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}"
    yield b'{"profile": 1' + b"0" * 5000 + b"}"
    yield json.dumps({f"key{n}": n for n in range(10_000)}).encode()
    yield b'{"profile": "' + b"x" * 3_000_000 + b'"}'


def with_fields(*names: str) -> Iterator[bytes]:
    """Objects with one field of each kind of value, also of values that JSON lacks and Python reads."""
    for name in names:
        for value in VALUES:
            yield json.dumps({name: value}).encode()
        yield f'{{"{name}": NaN}}'.encode()
        yield f'{{"{name}": -Infinity}}'.encode()
        yield f'{{"{name}": 1{"0" * 5000}}}'.encode()
        yield f'{{"{name}": {"[" * DEEP}{"]" * DEEP}}}'.encode()
