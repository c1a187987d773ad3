"""Where a damaged record goes when it is taken out of a database: a private file beside it, never into nothing."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tidehub.system.files import PRIVATE_DIRECTORY, make_directory, write_private
from tidehub.system.sqlite import WRITTEN_BESIDE

NAME = "set-aside"
"""The directory below `private`."""


def set_aside(private: Path, source: str, records: Iterable[Mapping[str, Any]]) -> Path:
    """Write `records` of the database `source` (`hub`, `gateway`, ...) into a new file, 0600, and give its path.

    Bytes are kept in base64. Raises `TidehubError` when it cannot be written: then nothing may be taken out.
    """
    path = _new_path(private, f"{source}.json")
    lines = [json.dumps(_plain(dict(record)), ensure_ascii=True, default=repr) for record in records]
    write_private(path, "[\n" + ",\n".join(lines) + "\n]\n")
    return path


def set_file_aside(private: Path, path: Path) -> Path:
    """Move a whole database file (with what sqlite keeps beside it) there, and give its new path."""
    target = _new_path(private, path.name)
    for suffix in (*WRITTEN_BESIDE, ""):
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            beside.replace(target.with_name(target.name + suffix))
    return target


def files_set_aside(private: Path) -> list[Path]:
    """What was set aside and is still there, oldest first; for `tidehub status`."""
    try:
        found = sorted((private / NAME).iterdir())
    except OSError:
        return []
    return [path for path in found if not path.name.endswith(WRITTEN_BESIDE)]


def _new_path(private: Path, name: str) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    return make_directory(private / NAME, PRIVATE_DIRECTORY) / f"{stamp}-{secrets.token_hex(8)}-{name}"


def _plain(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return {"base64": base64.b64encode(bytes(value)).decode("ascii")}
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return value
