from __future__ import annotations

import os
from pathlib import Path

import pytest

from tidehub.local.software import own


@pytest.fixture
def package(tmp_path: Path) -> Path:
    package = tmp_path / "checkout" / "src" / "parcel"
    (package / "data").mkdir(parents=True)
    (package / "__pycache__").mkdir()
    (package / "__init__.py").write_text("x = 1\n")
    (package / "data" / "page.html").write_text("<p>")
    (package / "__pycache__" / "old.pyc").write_text("")
    (package / "__init__.py").chmod(0o600)
    return package


def test_a_package_that_others_cannot_read_is_copied(package: Path, tmp_path: Path) -> None:
    folder = own.readable_package(tmp_path / "software", package, everyone=True)
    copied = folder / "parcel"
    assert (copied / "__init__.py").read_text() == "x = 1\n"
    assert (copied / "__init__.py").stat().st_mode & 0o777 == 0o644
    assert [path.name for path in copied.iterdir() if path.is_dir()] == ["data"]
    assert own.readable_package(tmp_path / "software", package, everyone=True) == folder


def test_a_changed_package_is_copied_anew(package: Path, tmp_path: Path) -> None:
    first = own.readable_package(tmp_path / "software", package, everyone=True)
    (package / "__init__.py").write_text("x = 2\n")
    second = own.readable_package(tmp_path / "software", package, everyone=True)
    assert first != second
    assert (first / "parcel" / "__init__.py").read_text() == "x = 1\n"


def test_without_other_users_it_runs_where_it_lies(package: Path, tmp_path: Path) -> None:
    assert own.readable_package(tmp_path / "software", package, everyone=False) == package.parent


def test_one_closed_directory_or_file_is_noticed(package: Path) -> None:
    assert not own.readable_by_everyone(package)
    opened = Path(os.__file__).parent / "json"
    assert own.readable_by_everyone(opened) == (
        opened.stat().st_mode & 0o005 == 0o005 and _way_is_open(opened)
    )


def _way_is_open(path: Path) -> bool:
    return all(place.stat().st_mode & 0o001 for place in path.parents)
