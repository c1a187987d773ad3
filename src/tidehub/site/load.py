"""Reading a site file: every problem in one run, each with file, line and column; then one frozen `Site`."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tidehub.errors import Place
from tidehub.site import coherence
from tidehub.site.model import Site
from tidehub.site.problems import KeyPath, Problem, SiteError
from tidehub.site.quantities import WRITTEN
from tidehub.site.tree import Entries, Node, locate, read, to_data
from tidehub.site.words import problems_of

LARGEST_FILE = 2**20
"""Bytes. Real site files have a few thousand; anything larger is another file given by mistake."""

Override = tuple[str, Any]
"""A dotted key and the value it gets, from a command line: `("machine.port", 8443)`, `("site.url", None)`."""


@dataclass(frozen=True)
class Loaded:
    """A site, what a person should know about it, and where each written key stands."""

    site: Site
    warnings: tuple[Problem, ...]
    places: dict[KeyPath, Place]


def load_site(path: str | Path, *, overrides: Iterable[Override] = ()) -> Site:
    """The site that a file states. Raises `SiteError` with every problem of the file."""
    return load(path, overrides=overrides).site


def load(path: str | Path, *, overrides: Iterable[Override] = ()) -> Loaded:
    """The site with its warnings and the places of its keys. Raises `SiteError` with every problem."""
    file = str(path)
    return load_text(_text_of(Path(path), file), file, overrides=overrides, base=Path(path).absolute().parent)


def load_text(
    text: str, file: str, *, overrides: Iterable[Override] = (), base: Path | None = None
) -> Loaded:
    """As `load`, from text. `file` names it in messages; `base` is what relative file names start from."""
    root, problems = read(text, file)
    if root is None:
        if not problems:
            problems = [_empty(file)]
        raise SiteError(file, problems)
    if not isinstance(root, Entries):
        empty = root.value is None and root.size == 1
        raise SiteError(file, [*problems, _empty(file) if empty else _not_a_mapping(file, root)])
    data = to_data(root)
    overridden = [_override(data, key, value) for key, value in overrides]
    if base is not None:
        problems += _resolve_files(data, base)
    site, found = _validated(data)
    problems += found
    places = {path: Place(file, node.line, node.column) for path, node in _walk(root, ())}
    placed = _in_order([_placed(problem, root, file, overridden) for problem in problems])
    if site is None or any(problem.severity == "error" for problem in placed):
        raise SiteError(file, placed)
    return Loaded(site, tuple(placed), places)


@cache
def builtin_site() -> Site:
    """The site of a bare `tidehub up`: demo accounts, two profiles, Dask clusters that suit a laptop."""
    text = resources.files("tidehub.site").joinpath("builtin.yaml").read_text(encoding="utf-8")
    return load_text(text, "the built-in site").site


def _validated(data: dict[str, Any]) -> tuple[Site | None, list[Problem]]:
    try:
        site = Site.model_validate(data, context=WRITTEN)
    except ValidationError as error:
        problems = problems_of(error)
        return None, problems + _coherence_of_the_rest(data, problems)
    return site, coherence.check(site)


def _coherence_of_the_rest(data: dict[str, Any], problems: list[Problem]) -> list[Problem]:
    """What coherence says about the sections without a wrong value, so that one run shows everything."""
    wrong = {problem.path[0] for problem in problems if problem.path}
    for problem in problems:
        _drop(data, problem.path)
    try:
        site = Site.model_validate(data, context=WRITTEN)
    except ValidationError:
        return []
    return [finding for finding in coherence.check(site) if not wrong & set(finding.path[:1])]


def _drop(data: Any, path: KeyPath) -> None:
    for part in path[:-1]:
        data = data[part] if _has(data, part) else None
    if path and isinstance(data, dict):
        data.pop(path[-1], None)


def _has(data: Any, part: str | int) -> bool:
    if isinstance(data, dict):
        return part in data
    return isinstance(data, list) and isinstance(part, int) and part < len(data)


def _override(root: dict[str, Any], key: str, value: Any) -> KeyPath:
    data: Any = root
    path: KeyPath = tuple(int(part) if part.isdigit() else part for part in key.split("."))
    for part in path[:-1]:
        if isinstance(data, dict) and not isinstance(data.get(part), (dict, list)):
            data[str(part)] = {}
        data = data[part] if _has(data, part) else {}
    if isinstance(data, dict):
        data[str(path[-1])] = value
    elif _has(data, path[-1]):
        data[path[-1]] = value
    return path


def _resolve_files(data: dict[str, Any], base: Path) -> list[Problem]:
    """Make file names absolute: they are written relative to the site file. Lock files must exist."""
    problems = []
    notebooks = data.get("notebooks")
    profiles = notebooks.get("profiles") if isinstance(notebooks, dict) else None
    for index, profile in enumerate(profiles if isinstance(profiles, list) else []):
        if isinstance(profile, dict) and isinstance(profile.get("lock"), str) and profile["lock"]:
            profile["lock"] = str(base / profile["lock"])
            if not Path(profile["lock"]).is_file():
                path: KeyPath = ("notebooks", "profiles", index, "lock")
                problems.append(Problem(f"there is no file {profile['lock']}", path, expected="a lock file"))
    machine = data.get("machine")
    tls = machine.get("tls") if isinstance(machine, dict) else None
    for name in ("certificate", "key"):
        if isinstance(tls, dict) and isinstance(tls.get(name), str) and tls[name]:
            tls[name] = str(base / tls[name])
    return problems


def _placed(problem: Problem, root: Node, file: str, overridden: list[KeyPath]) -> Problem:
    if problem.where is not None:
        return problem
    if any(problem.path[: len(path)] == path for path in overridden):
        return replace(problem, where=Place("the command line"))
    node = locate(root, problem.path, key="not known" in problem.what)
    return problem.at(Place(file, node.line, node.column))


def _in_order(problems: list[Problem]) -> list[Problem]:
    return sorted(
        problems, key=lambda problem: (problem.where.line, problem.where.column) if problem.where else (0, 0)
    )


def _walk(node: Node, path: KeyPath) -> Iterator[tuple[KeyPath, Node]]:
    yield path, node
    if isinstance(node, Entries):
        for key, (_, value) in node.items.items():
            yield from _walk(value, (*path, key))
    else:
        for index, item in enumerate(getattr(node, "items", [])):
            yield from _walk(item, (*path, index))


def _empty(file: str) -> Problem:
    fix = "start with the sections site, login and notebooks; the examples show how"
    return Problem("the file is empty", where=Place(file, 1, 1), fix=fix)


def _not_a_mapping(file: str, root: Node) -> Problem:
    where = Place(file, root.line, root.column)
    return Problem(
        "this is not a site file", where=where, expected="sections such as site:, login: and notebooks:"
    )


def _text_of(path: Path, file: str) -> str:
    def refuse(what: str, fix: str | None = None, line: int = 0, column: int = 0) -> SiteError:
        return SiteError(file, [Problem(what, where=Place(file, line, column), fix=fix)])

    try:
        # Not blocking: opening a named pipe by mistake must not hang.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise refuse("there is no such file", "check the name given with --site") from None
    except (OSError, ValueError) as error:
        raise refuse(f"cannot be read ({getattr(error, 'strerror', None) or error})") from None
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise refuse("this is a directory", "give the site file inside it")
        if not stat.S_ISREG(mode):
            raise refuse("this is not a regular file", "give a file with the site's YAML")
        content = _read_all(handle, LARGEST_FILE + 1)
    except OSError as error:
        raise refuse(f"cannot be read ({error.strerror or error})") from None
    finally:
        os.close(handle)
    if len(content) > LARGEST_FILE:
        raise refuse("the file is larger than 1 MiB", "a site file has a few kilobytes: is it another file?")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise refuse("the file is UTF-16", "save it as UTF-8", 1, 1)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        what = f"the byte 0x{content[error.start]:02x} is not UTF-8"
        raise refuse(what, "save the file as UTF-8", before.count(b"\n") + 1, column) from None


def _read_all(handle: int, most: int) -> bytes:
    content = b""
    while len(content) < most and (piece := os.read(handle, most - len(content))):
        content += piece
    return content
