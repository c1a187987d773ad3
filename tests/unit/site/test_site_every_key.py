"""Every key with every kind of wrong value, in a file: refused at its own line, in words. Made from the catalogue."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from tidehub.site.describe import Key, all_keys
from tidehub.site.presets import text_of
from tidehub.site.problems import KeyPath, Problem, SiteError, dotted
from tidehub.site.reading.load import load_text
from tidehub.site.reading.tree import read, to_data

SENTINEL = "@@ here @@"
WRONG: dict[str, list[Any]] = {
    "size": [7, "1 G", "-1 GiB", [], "much"],
    "duration": [5, "5 m", {}, "soon"],
    "timeout": [5, "soon", True, "0 s"],
    "cores": ["x", [], -1, "1 GiB", 0.00001],
    "whole cores": [0, 1.5, "x", None],
    "text": [5, [], {}, "a\nb", ""],
    "address": ["no address", 7, "ftp://x.org/", "https://a:b@x.org/"],
    "list of text": ["x", [5], {"a": 1}, [[]]],
    "`true`, `false`": ["yes", 1, None, []],
    "choice": ["nonsense", 5, []],
    "whole number": ["x", 1.5, -1, True, 10**9],
    "mapping": [[], "x", {"nonsense": "1.0.0"}],
}
ANYTHING = {"notebooks.profiles[].description", "notebooks.profiles[].slug"}
"""Keys of kind text that take some of the wrong values, or have their own form."""
NOT_HERE = ("overrides",)


def leaves() -> Iterator[tuple[str, Any]]:
    for key in all_keys():
        if key.section is None and not key.name.startswith(NOT_HERE):
            for value in wrong_values(key):
                yield key.name, value


def wrong_values(key: Key) -> list[Any]:
    if key.name in ANYTHING:
        return [5, [], {}]
    if key.choices and key.kind.startswith("`"):
        return WRONG["choice"]
    if key.kind.startswith("mapping from"):
        return WRONG["mapping"] if key.choices else WRONG["mapping"][:2]
    kind = "whole number" if key.kind.startswith("whole number") else key.kind
    return WRONG.get(kind, [])


def base() -> dict[str, Any]:
    root, _, _ = read(text_of("protocoast"), "protocoast")
    assert root is not None
    data: dict[str, Any] = to_data(root)
    return data


def path_of(name: str) -> KeyPath:
    path: list[str | int] = []
    for part in name.split("."):
        path.append(part.removesuffix("[]"))
        if part.endswith("[]"):
            path.append(0)
    return tuple(path)


def file_with(path: KeyPath, value: Any) -> tuple[str, int]:
    """A site file (JSON is YAML) with one value replaced, and the line where that stands."""
    data: Any = base()
    inner = data
    for part, following in pairwise(path):
        if isinstance(inner, list):
            inner = inner[0]
        else:
            inner = inner.setdefault(part, [{}] if isinstance(following, int) else {})
    inner[path[-1]] = SENTINEL
    text = json.dumps(data, indent=1)
    line = next(number for number, written in enumerate(text.splitlines(), 1) if SENTINEL in written)
    return text.replace(json.dumps(SENTINEL), json.dumps(value)), line


def refused(text: str) -> tuple[Problem, ...]:
    with pytest.raises(SiteError) as caught:
        load_text(text, "site.yaml", environ={})
    assert "Traceback" not in str(caught.value)
    return caught.value.problems


CASES = list(leaves())
SECTIONS = [key.name for key in all_keys() if key.section is not None and not key.name.startswith(NOT_HERE)]


def test_the_unmutated_file_is_good() -> None:
    load_text(json.dumps(base(), indent=1), "site.yaml", environ={})


def test_there_are_as_many_as_promised() -> None:
    assert len(CASES) >= 250
    assert {key.kind.partition(",")[0] for key in all_keys() if key.section is None} <= {
        *(kind.partition(",")[0] for kind in WRONG),
        *(key.kind.partition(",")[0] for key in all_keys() if key.choices or key.name.startswith(NOT_HERE)),
    }


@pytest.mark.parametrize(
    ("name", "value"), CASES, ids=[f"{name}={json.dumps(value)}" for name, value in CASES]
)
def test_a_wrong_value_is_refused_at_its_line(name: str, value: Any) -> None:
    path = path_of(name)
    text, line = file_with(path, value)
    found = [problem for problem in refused(text) if problem.path[: len(path)] == path]
    assert found, f"nothing is said about {dotted(path)}"
    errors = [problem for problem in found if problem.severity == "error"]
    assert errors
    where = errors[0].where
    assert where is not None
    assert (where.file, where.line) == ("site.yaml", line), str(errors[0])
    assert errors[0].what
    assert where.column > 1


@pytest.mark.parametrize("name", SECTIONS)
@pytest.mark.parametrize("value", [5, "x", [5]], ids=["number", "text", "list"])
def test_a_section_that_is_none(name: str, value: Any) -> None:
    path = path_of(name)
    text, line = file_with(path, value)
    found = [problem for problem in refused(text) if problem.path[: len(path)] == path]
    assert [problem.where.line for problem in found if problem.where] == [line] * len(found)
    assert found


@pytest.mark.parametrize("name", SECTIONS)
def test_an_unknown_key_in_every_section(name: str) -> None:
    path = (*path_of(name), "zzz_unknown")
    text, line = file_with(path, 1)
    found = [problem for problem in refused(text) if problem.path == path]
    assert [(problem.what, problem.where.line if problem.where else 0) for problem in found] == [
        ("this key is not known", line)
    ]


def written_keys(value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    """Every key of a file but those of mappings whose keys are free."""
    if path and path[-1] in NOT_HERE:
        return
    if path and not isinstance(path[-1], int):
        yield path
    for part, inner in value.items() if isinstance(value, dict) else ():
        yield from written_keys(inner, (*path, part))
    for index, inner in enumerate(value if isinstance(value, list) else ()):
        yield from written_keys(inner, (*path, index))


@pytest.mark.parametrize("path", list(written_keys(base())), ids=dotted)
def test_a_misspelt_key_is_reported_once(path: KeyPath) -> None:
    """Also one that must be there: it is not said to be missing as well."""
    data = base()
    inner: Any = data
    for part in path[:-1]:
        inner = inner[part]
    misspelt = f"{path[-1]}x"
    inner[misspelt] = inner.pop(path[-1])
    problems = refused(json.dumps(data, indent=1))
    assert [one.what for one in problems if one.path == (*path[:-1], misspelt)] == ["this key is not known"]
    assert [one for one in problems if one.what == "this key is missing"] == []
