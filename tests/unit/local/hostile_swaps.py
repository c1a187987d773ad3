"""A hostile process, run by path under the uid that owns `directory`: exchanges every name in it, without pause,
against links to what lies in `target`, which is not its own (renameat2(2), RENAME_EXCHANGE).

    python -I -S hostile_swaps.py DIRECTORY TARGET

Prints `ready` once it swaps. It ends when its parent does, or by a signal.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # linux/fs.h
_SET_PDEATHSIG = 1  # linux/prctl.h
_libc = ctypes.CDLL(None, use_errno=True)


def exchange(one: str, other: str) -> bool:
    """Whether the two names now stand for each other's file."""
    return not _libc.renameat2(
        _AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), ctypes.c_uint(_RENAME_EXCHANGE)
    )


def lures(target: str) -> list[tuple[str, str]]:
    """A link beside every name here: beside a file to a file in `target`, beside a directory to `target` itself."""
    found = []
    for path in Path().iterdir():
        if path.name.startswith("lure-"):
            continue
        with contextlib.suppress(OSError):
            Path(f"lure-{path}").symlink_to(target if path.is_dir() else f"{target}/victim")
        found.append((str(path), f"lure-{path}"))
    return found


def main() -> None:
    directory, target = sys.argv[1:]
    os.chdir(directory)  # whatever becomes of its name
    _libc.prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    said = False
    while True:
        with contextlib.suppress(OSError):
            pairs = lures(target)
            if not said:
                said = True
                print("ready", flush=True)
            for _ in range(20):
                for path, lure in pairs:
                    exchange(path, lure)


if __name__ == "__main__":
    main()
