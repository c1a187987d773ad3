"""`system/` is the bottom: it imports nothing of tidehub but the errors."""

from __future__ import annotations

import ast
from pathlib import Path

import tidehub.system


def test_only_the_errors_are_below() -> None:
    found = set()
    for file in Path(tidehub.system.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add(node.module or "")
            elif isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
    # A program of this layer (`measurer`) has no package to be relative to.
    above = {name for name in found if name.startswith("tidehub") and not name.startswith("tidehub.system.")}
    assert above == {"tidehub.errors"}


def test_the_measurer_needs_only_the_sweeper() -> None:
    text = (Path(tidehub.system.__file__).parent / "measurer.py").read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if "tidehub" in line and "import" in line] == [
        "from tidehub.system.sweeper import step_back"
    ]


def test_the_sweeper_needs_nothing_of_ours() -> None:
    text = (Path(tidehub.system.__file__).parent / "sweeper.py").read_text(encoding="utf-8")
    assert "import tidehub" not in text and "from ." not in text and "from tidehub" not in text
