"""Release sets: versions that were tested together, and their lock files. Data, with this one reader."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from tidehub.errors import Place, TidehubError, UsageError

DEFAULT = "2026.11"
_HERE = Path(__file__).parent
_SECTIONS = ("hub", "notebook", "proxy", "charts")


@dataclass(frozen=True)
class Versions:
    """What `release.yaml` states: versions by package name, in the section of the part that uses them."""

    python: str
    hub: Mapping[str, str]
    notebook: Mapping[str, str]
    proxy: Mapping[str, str]
    charts: Mapping[str, str]


@dataclass(frozen=True)
class Release:
    """One release set: where its lock files are, and its versions."""

    name: str
    directory: Path

    @property
    def control(self) -> Path:
        """Lock of the hub's and tidehub's own environment."""
        return self.directory / "control.txt"

    @property
    def notebook(self) -> Path:
        """Lock of the default environment of notebook servers and Dask."""
        return self.directory / "notebook.txt"

    @property
    def notebook_wanted(self) -> Path:
        """What `notebook` was solved from; every profile's packages are added to this."""
        return self.directory / "notebook.in"

    @property
    def node(self) -> Path:
        """Lock of the Node.js runtime."""
        return self.directory / "node.txt"

    @property
    def test(self) -> Path:
        """Lock of the test environment: the control environment and the test tools."""
        return self.directory / "test.txt"

    @property
    def proxy(self) -> Path:
        """Folder with `package.json` and `package-lock.json` of configurable-http-proxy."""
        return self.directory / "proxy"

    @cached_property
    def versions(self) -> Versions:
        """The versions in `release.yaml`. Raises `TidehubError` for a damaged file."""
        file = self.directory / "release.yaml"
        try:
            return _read(file, file.stat().st_mtime_ns)
        except OSError as error:
            raise _damaged(file) from error


@cache
def _read(file: Path, changed: int) -> Versions:
    """Read once: many modules ask for one version each."""
    from ruamel.yaml import YAML  # not at the top: the first set-up has only the standard library
    from ruamel.yaml.error import YAMLError

    try:
        read: Any = YAML(typ="safe", pure=True).load(file)
        return Versions(
            python=str(read["python"]),
            **{part: {str(name): str(version) for name, version in read[part].items()} for part in _SECTIONS},
        )
    except (OSError, YAMLError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(file) from error


def _damaged(file: Path) -> TidehubError:
    return TidehubError(
        f"The release set {file.parent.name} is damaged",
        where=Place(str(file)),
        expected=f"python and the sections {', '.join(_SECTIONS)}",
        fix="reinstall tidehub: this file came with it",
    )


def names() -> tuple[str, ...]:
    """The release sets that this tidehub carries, oldest first."""
    # os.access never raises: a bytecode folder beside the sets may be closed to this user.
    return tuple(
        sorted(entry.name for entry in _HERE.iterdir() if os.access(entry / "release.yaml", os.R_OK))
    )


def release(name: str = DEFAULT) -> Release:
    """The release set `name`. Raises `UsageError` for one that this tidehub does not carry."""
    if name not in names():
        raise UsageError(
            f"Release set {name!r} does not exist",
            expected=f"one of {', '.join(names())}",
            fix="name one of these, or use the tidehub that carries it",
        )
    return Release(name, _HERE / name)
