"""How a user calls this program: commands in messages are ready to be pasted into a shell."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

COMPLETES = "_TIDEHUB_COMPLETE"
"""Set where a shell asks which words go on, at every Tab: by the script of `tidehub completion`."""
CHECKOUT = "TIDEHUB_CHECKOUT"
"""The environment variable in which a checkout's program says which checkout that is."""


def command(*words: str | Path) -> str:
    """`tidehub` and the words, quoted: as `./tidehub` in its checkout, with its path elsewhere, where it is not the
    one that the shell finds."""
    return shlex.join([_name(), *map(str, words)])


def found_everywhere() -> str:
    """The program by a name that a shell finds wherever it stands: `tidehub`, or the path of a checkout's."""
    name = _name()
    return os.path.join(os.environ[CHECKOUT], "tidehub") if name == "./tidehub" else name  # noqa: PTH118


_stands: str | None = None


def stay_here() -> None:
    """Commands stay for a user who stands where this process does now, also when it goes elsewhere, as daemons do."""
    global _stands
    _stands = os.getcwd()  # noqa: PTH109  # compared as text


def _name() -> str:
    checkout = os.environ.get(CHECKOUT)
    if not checkout:
        return "tidehub"
    import shutil  # here: `bootstrap/enter.py` imports this module at every start

    program = os.path.join(checkout, "tidehub")  # noqa: PTH118  # compared as text
    found = shutil.which("tidehub")
    if found and os.path.realpath(found) == program:
        return "tidehub"
    try:
        return "./tidehub" if (_stands or os.getcwd()) == checkout else program  # noqa: PTH109  # compared as text
    except FileNotFoundError:  # where this program stands is gone
        return program
