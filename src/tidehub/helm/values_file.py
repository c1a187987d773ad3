"""Values on their way to Helm: without a name, for one process, never in its arguments."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tidehub.secrets.secret import Secret


@contextmanager
def values_file(values: Mapping[str, Any] | None) -> Iterator[int | None]:
    """A descriptor of the values as JSON, to be inherited and read as /dev/fd/N; None for no values.

    The file has mode 0600 and no name: only who has the descriptor reads it, and no crash of ours leaves it behind.
    Raises `TypeError` for a value that no Helm chart can take.
    """
    if values is None:
        yield None
        return
    handle = _nameless()
    try:
        os.fchmod(handle, 0o600)
        with os.fdopen(handle, "wb", closefd=False) as stream:
            stream.write(json.dumps(values, ensure_ascii=False, default=_plain).encode())
        # macOS's /dev/fd/N goes on where this descriptor stands; Linux's begins anew (fd(4), proc(5)).
        os.lseek(handle, 0, os.SEEK_SET)
        yield handle
    finally:
        os.close(handle)


def _nameless() -> int:
    """In memory on Linux; elsewhere a private file whose name is gone before anything is written."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("values")
    handle, path = tempfile.mkstemp(prefix="tidehub-")
    os.unlink(path)  # noqa: PTH108
    return handle


def _plain(value: object) -> Any:
    """What JSON does not know itself: secrets, in clear, and mappings that are no dict."""
    if isinstance(value, Secret):
        return value.reveal()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not a Helm value")


def secrets_of(values: object) -> tuple[str, ...]:
    """Every `Secret` in values, in clear: for taking them out of what is shown."""
    if isinstance(values, Secret):
        return (values.reveal(),)
    if isinstance(values, Mapping):
        return tuple(found for each in values.values() for found in secrets_of(each))
    if isinstance(values, (list, tuple)):
        return tuple(found for each in values for found in secrets_of(each))
    return ()
