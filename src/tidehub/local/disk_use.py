"""What users' files take of the disk: measured by `system/measurer.py`, kept in one file that all parts may ask.

The hub measures and writes; the gateway and `tidehub status` read. What the file says is checked when it is read: it is
a memory of what was measured, and a damaged one is as good as none.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tidehub.capacity.disk import DiskUse
from tidehub.system import measurer
from tidehub.system.files import read_private, write_private
from tidehub.system.processes import interpreter_environment

MOST_BYTES = 2**63
_PROGRAM = Path(measurer.__file__)


@dataclass(frozen=True)
class Question:
    """Whose files, and where: directories whose parents only we can write, and which `uid` owns."""

    user: str
    uid: int
    trees: tuple[Path, ...]


async def measure(questions: Iterable[Question]) -> AsyncGenerator[tuple[str, DiskUse]]:
    """Users and what their files take, one after the other, as the background process finds out.

    It takes up to a minute a user. Closing the iterator ends it.
    """
    asked = list(questions)
    if not asked:
        return
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-S",
        str(_PROGRAM),
        env=interpreter_environment(),
        cwd="/",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        text = json.dumps([{"uid": one.uid, "trees": [str(tree) for tree in one.trees]} for one in asked])
        process.stdin.write(text.encode())
        process.stdin.close()
        for one in asked:
            line = await process.stdout.readline()
            if not line:
                return
            use = _use(json.loads(line))
            if use is not None:
                yield one.user, use
    finally:
        # Its whole session: what it has started to count as a user holds our pipe too.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()


def _use(found: object) -> DiskUse | None:
    if not isinstance(found, dict):
        return None
    size, complete = found.get("bytes"), found.get("complete")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < MOST_BYTES:
        return None
    return DiskUse(size, complete is True)


def write_uses(path: Path, uses: Mapping[str, DiskUse]) -> None:
    """Keep what was measured. Raises `TidehubError` (a full disk)."""
    content = {user: {"bytes": use.bytes, "complete": use.complete} for user, use in sorted(uses.items())}
    write_private(path, json.dumps({"users": content}, indent=2) + "\n")


def read_uses(path: Path) -> dict[str, DiskUse]:
    """What was measured last; nothing where nothing was, or where the file cannot be read."""
    try:
        text = read_private(path)
        users = json.loads(text)["users"] if text else {}
        found = {user: _use(value) for user, value in users.items()}
    except Exception:
        return {}
    return {user: use for user, use in found.items() if use is not None}
