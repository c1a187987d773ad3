"""Which helm program is used, and which are refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tidehub.helm.problems import HelmMissing
from tidehub.helm.program import find_helm


def program(folder: Path, prints: str, name: str = "helm", code: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\nprintf %s '{prints}'\nexit {code}\n")
    path.chmod(0o755)
    return path


def environ(folder: Path, given: Path | str = "") -> dict[str, str]:
    return {"PATH": f"{folder}:{os.environ['PATH']}", "TIDEHUB_HELM": str(given)}


@pytest.mark.parametrize(
    ("prints", "version", "major"),
    [
        ("v3.18.0", "3.18.0", 3),
        ("v3.19.5+g1234", "3.19.5", 3),
        ("v4.2.4", "4.2.4", 4),
        ("v4.0.0-rc.1", "4.0.0-rc.1", 4),
    ],
)
def test_the_one_on_path(tmp_path: Path, prints: str, version: str, major: int) -> None:
    path = program(tmp_path, prints)
    found = find_helm(environ(tmp_path))
    assert (found.path, found.version, found.major) == (str(path), version, major)


def test_the_given_one_comes_first(tmp_path: Path) -> None:
    program(tmp_path / "path", "v3.18.0")
    given = program(tmp_path / "given", "v4.1.0", "helm-4")
    assert find_helm(environ(tmp_path / "path", given)).path == str(given)


@pytest.mark.parametrize(
    ("prints", "code", "says"),
    [
        ("v3.17.3", 0, "too old"),
        ("v2.17.0", 0, "too old"),
        ("v5.0.0", 0, "too new"),
        ("Helm AI policy", 0, "not helm"),
        ("v4.0.0", 3, "not helm"),
        ("", 0, "not helm"),
    ],
)
def test_others_are_refused_with_how_to_get_one(tmp_path: Path, prints: str, code: int, says: str) -> None:
    program(tmp_path, prints, code=code)
    with pytest.raises(HelmMissing, match=says) as caught:
        find_helm(environ(tmp_path))
    assert "install helm" in str(caught.value)


def test_none_at_all(tmp_path: Path) -> None:
    with pytest.raises(HelmMissing, match="no helm program"):
        find_helm({"PATH": str(tmp_path)})
    with pytest.raises(HelmMissing, match="TIDEHUB_HELM names no program") as caught:
        find_helm({"PATH": str(tmp_path), "TIDEHUB_HELM": str(tmp_path / "nothing")})
    assert caught.value.where and caught.value.where.file == str(tmp_path / "nothing")


def test_a_file_that_cannot_run(tmp_path: Path) -> None:
    path = tmp_path / "helm"
    path.write_bytes(b"\x7fELF nonsense")
    path.chmod(0o755)
    with pytest.raises(HelmMissing, match="cannot be used"):
        find_helm(environ(tmp_path, path))
