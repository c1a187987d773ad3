from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from tidehub.errors import TidehubError
from tidehub.local.software import interpreter


def fake_python(place: Path, **told: object) -> Path:
    """A program that answers the question about itself as told."""
    place.parent.mkdir(parents=True, exist_ok=True)
    answer = {
        "version": [3, 11, 2],
        "executable": str(place),
        "stdlib": str(place.parent),
        "lacks": [],
        **told,
    }
    place.write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
    place.chmod(0o755)
    (place.parent / "os.py").write_text("")
    return place


def test_the_running_python_is_understood() -> None:
    found = interpreter.examine(Path(sys.executable))
    assert found.version == sys.version_info[:3]
    assert found.executable == Path(os.path.realpath(sys.executable))
    assert all(part.exists() for part in found.parts)


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"version": [3, 10, 13]}, "is Python 3.10"),
        ({"version": [3, 15, 0]}, "is Python 3.15"),
        ({"lacks": ["sqlite3", "ssl"]}, "was built without sqlite3, ssl"),
    ],
)
def test_an_unsuitable_python_says_why(tmp_path: Path, told: dict[str, object], reason: str) -> None:
    with pytest.raises(interpreter.Unsuitable, match=reason):
        interpreter.examine(fake_python(tmp_path / "python3", **told))


def test_all_refusals_are_listed(tmp_path: Path) -> None:
    old = fake_python(tmp_path / "old", version=[3, 9, 0])
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(TidehubError) as caught:
        interpreter.choose(everyone=False, tried=[old, broken])
    assert f"{old} is Python 3.9; {broken} does not run" in str(caught.value)
    assert "apt-get install python3" in str(caught.value)


def test_the_first_suitable_one_is_taken(tmp_path: Path) -> None:
    old = fake_python(tmp_path / "a" / "python3", version=[3, 9, 0])
    good = fake_python(tmp_path / "b" / "python3", version=[3, 12, 1])
    later = fake_python(tmp_path / "c" / "python3", version=[3, 13, 1])
    found = interpreter.choose(everyone=False, tried=[old, good, later])
    assert (found.executable, found.tag) == (good, "py312")


def test_a_closed_directory_on_the_way_is_found(tmp_path: Path) -> None:
    closed = tmp_path / "home"
    python = fake_python(closed / "bin" / "python3")
    tmp_path.chmod(0o755)
    closed.chmod(0o700)
    found = interpreter.closed_to_others(python)
    assert found is not None
    assert closed.is_relative_to(found)


def test_an_unreadable_file_is_found(tmp_path: Path) -> None:
    secret = tmp_path / "file"
    secret.write_text("")
    secret.chmod(0o700)
    blocked = interpreter.closed_to_others(secret)
    assert blocked is not None
    assert interpreter.closed_to_others(Path("/usr/bin/env")) is None


def test_an_environment_in_a_closed_place_is_closed(tmp_path: Path) -> None:
    closed = tmp_path / "environment" / "bin"
    closed.mkdir(parents=True)
    (closed / "python").symlink_to("/usr/bin/env")
    closed.chmod(0o700)
    found = interpreter.closed_to_others(closed / "python")
    assert found is not None
    assert closed.is_relative_to(found)


def test_one_python_can_be_demanded() -> None:
    assert list(interpreter.candidates({"TIDEHUB_PYTHON": "/x/python", "PATH": "/usr/bin"})) == [
        Path("/x/python")
    ]


def test_the_systems_own_come_first() -> None:
    found = [str(path) for path in interpreter.candidates({"PATH": "/nowhere:relative"})]
    assert found[-1] == sys.executable
    assert all(path.startswith(("/usr/bin/", "/usr/local/bin/")) for path in found[:-1])


def test_where_all_are_closed_to_others_it_says_what_to_install(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    closed = tmp_path / "home"
    python = fake_python(closed / "bin" / "python3")
    closed.chmod(0o700)
    with pytest.raises(TidehubError) as caught:
        interpreter.choose(everyone=True, tried=[python])
    assert "which other users cannot enter" in str(caught.value)
    assert "every user of this machine" in str(caught.value)
    assert "run: apt-get install python3" in str(caught.value)
