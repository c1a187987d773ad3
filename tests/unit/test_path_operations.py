"""The rule that root, and any service, never acts by path below a directory that another uid can write, as a list.

Every operation of the packages below that changes or opens something by its path is found in their source text. Each
function that has one stands in `path_operations.toml` with a word for who owns the directory in which it acts, and
the reason. A test with a live attacker is in `local/test_service_attacks.py`.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import tidehub

PACKAGE = Path(tidehub.__file__).parent
TABLE = Path(__file__).with_name("path_operations.toml")
PACKAGES = ("local", "identity", "backup", "system", "capacity", "secrets")

WORDS = {
    "operator alone": "the directory and all above it are written by the operator (as root: root) alone",
    "by descriptor": "names are looked up in an open directory, without following links; what is found is checked",
    "as that user": "the process has become the user who owns the directory, or never was another",
    "private temporary directory": "made new for this, with mode 0700 (mkdtemp)",
    "no path": "an address of the network, or a database in memory",
    "not yet": "a fault that is known: another uid can write the directory",
}

OS = frozenset(
    {
        "chmod", "chown", "lchown", "link", "makedirs", "mkdir", "mkfifo", "mknod", "open", "remove", "removedirs",
        "removexattr", "rename", "renames", "replace", "rmdir", "setxattr", "symlink", "truncate", "unlink", "utime",
    }
)  # fmt: skip
PATHLIB = frozenset(
    {
        "chmod", "hardlink_to", "lchmod", "link_to", "mkdir", "rename", "rmdir", "symlink_to", "touch", "unlink",
        "write_bytes", "write_text",
    }
)  # fmt: skip
SHUTIL = frozenset(
    {
        "chown",
        "copy",
        "copy2",
        "copyfile",
        "copymode",
        "copystat",
        "copytree",
        "move",
        "rmtree",
        "unpack_archive",
    }
)
OTHERS = {
    "sqlite3": frozenset({"connect"}),
    "tempfile": frozenset(
        {"NamedTemporaryFile", "TemporaryDirectory", "TemporaryFile", "mkdtemp", "mkstemp"}
    ),
    "tarfile": frozenset({"open"}),
    "zipfile": frozenset({"ZipFile"}),
}
HELPERS = frozenset(
    {
        "alone", "make_directory", "make_private_directory", "make_shared", "make_temporary", "open_log",
        "own_directory", "remove_tree", "write_for_part", "write_new", "write_private",
    }
)  # fmt: skip
"""Functions of ours that act on the path which they are given: their callers decide whose it is."""
WRITING = frozenset("wax+")


class Operations(ast.NodeVisitor):
    """The operations of one module, by the qualified name of the function in which each stands."""

    def __init__(self) -> None:
        self.found: dict[str, list[str]] = {}
        self._where: list[str] = []

    def _named(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        self._where.append(node.name)
        self.generic_visit(node)
        self._where.pop()

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = _named

    def visit_Call(self, node: ast.Call) -> None:
        operation = _operation(node)
        if operation:
            self.found.setdefault(".".join(self._where) or "<module>", []).append(operation)
        self.generic_visit(node)


def _operation(node: ast.Call) -> str:
    """What a call does to a path, in the words of the source; nothing for anything else."""
    called = node.func
    if isinstance(called, ast.Name):
        if called.id in HELPERS:
            return called.id
        return f"open({_mode(node, 1)!r})" if called.id == "open" and _writes(node, 1) else ""
    if not isinstance(called, ast.Attribute):
        return ""
    name, owner = called.attr, called.value.id if isinstance(called.value, ast.Name) else ""
    if owner == "os":
        return f"os.{name}" if name in OS else ""
    if owner == "shutil":
        return f"shutil.{name}" if name in SHUTIL else ""
    if owner in OTHERS:
        return f"{owner}.{name}" if name in OTHERS[owner] else ""
    if name in ("bind", "connect") and owner and not node.keywords and len(node.args) == 1:
        # A socket's address: a host and a port are a tuple, a path is not.
        return "" if isinstance(node.args[0], ast.Tuple) else f".{name}"
    if name == "replace":
        # str.replace takes two texts, Path.replace one target.
        return ".replace" if len(node.args) == 1 and not node.keywords else ""
    if name == "open" and owner != "os":
        return f".open({_mode(node, 0)!r})" if _writes(node, 0) else ""
    return f".{name}" if name in PATHLIB else ""


def _mode(node: ast.Call, position: int) -> str:
    given = [word.value for word in node.keywords if word.arg == "mode"]
    if len(node.args) > position:
        given.append(node.args[position])
    return (
        given[0].value
        if given and isinstance(given[0], ast.Constant) and isinstance(given[0].value, str)
        else ""
    )


def _writes(node: ast.Call, position: int) -> bool:
    return bool(WRITING & set(_mode(node, position)))


def operations() -> dict[str, list[str]]:
    """`module:function` to its operations, for every function of ours that has some."""
    return dict(_all())


def _all() -> Iterator[tuple[str, list[str]]]:
    for package in PACKAGES:
        for path in sorted((PACKAGE / package).rglob("*.py")):
            module = ".".join(("tidehub", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
                ".__init__"
            )
            visitor = Operations()
            visitor.visit(ast.parse(path.read_text(encoding="utf-8")))
            for function, found in visitor.found.items():
                yield f"{module}:{function}", found


def table() -> dict[str, tuple[str, str]]:
    """`module:function` to the word and the reason."""
    listed = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    return {
        f"{module}:{function}": (str(text).partition(": ")[0], str(text).partition(": ")[2])
        for module, functions in listed.items()
        for function, text in functions.items()
    }


def test_every_operation_by_path_says_who_owns_its_directory() -> None:
    listed = table()
    new = {name: found for name, found in operations().items() if name not in listed}
    assert not new, (
        "these functions act on paths, and nobody has said yet who can write the directory in which they act:\n"
        + "\n".join(f"  {name}: {', '.join(sorted(set(found)))}" for name, found in sorted(new.items()))
        + f"\nAsk of each: can another uid than the process's write that directory, or one above it, while this runs?"
        f" If so, work by descriptor, or in a process that has become that uid. Then add a line to {TABLE.name}:"
        ' below ["the module"], "the function" = "WORD: why", with one of the words: ' + ", ".join(WORDS)
    )


def test_the_list_says_nothing_of_functions_that_are_gone() -> None:
    gone = sorted(set(table()) - set(operations()))
    assert not gone, f"these act on no path any more; remove them from {TABLE.name}: {', '.join(gone)}"


def test_every_entry_has_a_known_word_and_a_reason() -> None:
    for name, (word, reason) in table().items():
        assert word in WORDS, f"{name}: {word!r} is not one of {', '.join(WORDS)}"
        assert len(reason) > 4, f"{name}: say why"


def test_no_known_fault_is_left() -> None:
    left = [name for name, (word, _) in table().items() if word == "not yet"]
    assert not left


@pytest.mark.parametrize(
    "source",
    [
        "os.chown(path, 1, 1)",
        "os.unlink(name, dir_fd=parent)",
        "path.write_text('x')",
        "(place / 'x').mkdir()",
        "path.replace(other)",
        "path.open('ab')",
        "open(path, mode='w')",
        "shutil.rmtree(path)",
        "sqlite3.connect(path)",
        "listening.bind(str(path))",
        "write_private(path, text)",
    ],
)
def test_an_operation_is_found(source: str) -> None:
    visitor = Operations()
    visitor.visit(ast.parse(f"class A:\n    async def f(self):\n        {source}\n"))
    assert list(visitor.found) == ["A.f"]


@pytest.mark.parametrize(
    "source", ["text.replace('a', 'b')", "open(path)", "path.open('rb')", "s.bind(('h', 1))"]
)
def test_what_changes_nothing_is_not_listed(source: str) -> None:
    visitor = Operations()
    visitor.visit(ast.parse(source))
    assert not visitor.found
