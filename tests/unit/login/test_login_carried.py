"""Modules that travel as text: complete in their order, and at home where they arrive."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from tidehub.login import carried

OLDER = ("login.rule", "login.older_hub")
"""What the hub of jupyterhub chart 1 gets: Python 3.8, no pydantic."""
USERS = ("site.units", "login.entitled", "login.plain", "login.server_choices")
IN_EVERY_HUB = {"tornado", "traitlets"}


def imported(name: str) -> set[str]:
    """Modules that the text of a module imports when it runs, ours without `tidehub.`."""
    tree = ast.parse(carried.source(name))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "tidehub.login":
            found |= {f"tidehub.login.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("name", [*OLDER, *USERS])
def test_a_module_that_travels_imports_only_what_is_there(name: str) -> None:
    order = [*OLDER, *USERS]
    before = {f"tidehub.{other}" for other in order[: order.index(name)]}
    for module in imported(name):
        root = module.partition(".")[0]
        assert module in before if root == "tidehub" else root in IN_EVERY_HUB | sys.stdlib_module_names, (
            module
        )


@pytest.mark.parametrize("name", [*OLDER, *USERS])
def test_an_older_python_reads_it(name: str) -> None:
    ast.parse(carried.source(name), feature_version=(3, 8))


def test_a_text_may_run_twice_and_beside_another() -> None:
    first, second = carried.modules_text(["login.rule"]), carried.modules_text(["site.units"])
    text = first + second + first + "import tidehub.login.rule, tidehub.site.units\nprint(tidehub.site.units)"
    done = subprocess.run(
        [sys.executable, "-I", "-"], input=text, capture_output=True, text=True, cwd="/", timeout=60
    )
    assert done.stderr == ""
    assert done.stdout == "<module 'tidehub.site.units'>\n"


def test_the_text_of_a_module_stays_readable() -> None:
    assert "\nclass SiteRule:\n" in carried.modules_text(OLDER)
