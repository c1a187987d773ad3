"""Programs of tests that end with the tests, also when these are killed."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path


def with_us(argv: Sequence[str | Path]) -> list[str]:
    """The same command, which the kernel kills when the thread that starts it has ended (PR_SET_PDEATHSIG)."""
    setpriv = shutil.which("setpriv")
    assert setpriv is not None, "setpriv of util-linux is missing"
    return [setpriv, "--pdeathsig", "KILL", "--", *map(str, argv)]
