"""`system/` is the bottom: it imports nothing of tidehub but the errors."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import tidehub
import tidehub.system
from tidehub.local.isolation.users import services_uid
from tidehub.system import as_user


def test_only_the_errors_are_below() -> None:
    found = set()
    for file in Path(tidehub.system.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add(node.module or "")
            elif isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
    # A program of this layer (`measurer`, `sweeper`) has no package to be relative to.
    above = {name for name in found if name.startswith("tidehub") and not name.startswith("tidehub.system.")}
    assert above == {"tidehub.errors"}


@pytest.mark.parametrize("program", ["measurer", "sweeper"])
def test_a_program_that_acts_as_users_needs_one_module_of_ours(program: str) -> None:
    """It starts in milliseconds, and nothing is loaded with the rights of a user."""
    directory = Path(tidehub.system.__file__).parent
    text = (directory / f"{program}.py").read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if "tidehub" in line and "import" in line] == [
        "from tidehub.system.as_user import run_as, step_back"
    ]
    below = (directory / "as_user.py").read_text(encoding="utf-8")
    assert "import tidehub" not in below and "from ." not in below and "from tidehub" not in below


def test_the_shield_is_the_platforms_own_uid() -> None:
    assert services_uid() == as_user.SHIELD


def test_processes_and_the_boot_are_read_in_one_place() -> None:
    """A pid is reused, and a start time means nothing after another boot: only one module may forget that."""
    # The holder runs by path with the standard library alone; `layout` serves the quick start of ./tidehub.
    allowed = {"system/processes.py", "local/supervisor/holder.py", "local/software/layout.py"}
    package = Path(tidehub.__file__).parent
    readers = {
        str(file.relative_to(package))
        for file in package.rglob("*.py")
        if re.search(r"random/boot_id|/stat\"|, \"stat\"|/ \"stat\"", file.read_text(encoding="utf-8"))
    }
    assert readers == allowed
