"""The charts that a release set knows: what each published archive holds, and its digest. Reads `charts.yaml`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tidehub.charts.documents import read_one
from tidehub.errors import Place, TidehubError
from tidehub.release_sets import DEFAULT, release

FILE = "charts.yaml"
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class LockedChart:
    """One version of a chart, as its published archive is."""

    name: str
    version: str
    sha256: str | None
    """Of the published archive; None where it is not known: then it is trusted on first use, and pinned."""
    app_version: str
    kube_version: str | None
    """Range of Kubernetes versions that the chart declares; None where it declares none."""
    crd_groups: tuple[str, ...] = ()
    """API groups of the CRDs in its `crds/`, subcharts' included."""
    contains: Mapping[str, str] = field(default_factory=dict)
    """Versions of the charts inside of it."""


@dataclass(frozen=True)
class ChartLock:
    """All charts of one release set."""

    charts: tuple[LockedChart, ...]

    def find(self, name: str, version: str) -> LockedChart | None:
        """What is known of a version; None for one that this release set does not know."""
        return next((each for each in self.charts if (each.name, each.version) == (name, version)), None)

    def versions(self, name: str) -> tuple[str, ...]:
        """The known versions of a chart, newest first."""
        return tuple(each.version for each in self.charts if each.name == name)

    def sha256(self, name: str, version: str) -> str | None:
        """The published archive's digest, where it is known."""
        found = self.find(name, version)
        return found.sha256 if found else None


@cache
def chart_lock(release_set: str = DEFAULT) -> ChartLock:
    """The charts of a release set. Raises `UsageError` for an unknown set, `TidehubError` for a damaged file."""
    return read(release(release_set).directory / FILE)


def read(file: Path) -> ChartLock:
    """The charts in a file. Raises `TidehubError` naming the file for anything but what belongs there."""
    try:
        found = read_one(file.read_bytes())
        return ChartLock(tuple(_entry(str(name), item) for name, items in found.items() for item in items))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TidehubError(
            "the release set's list of charts is damaged",
            where=Place(str(file)),
            expected="for each chart its versions with sha256, kube_version, app_version and crd_groups",
            fix="reinstall tidehub: this file came with it",
        ) from error


def _entry(name: str, item: Mapping[str, Any]) -> LockedChart:
    digest = item["sha256"]
    if digest is not None and not _DIGEST.fullmatch(str(digest)):
        raise ValueError(f"{name}: {digest!r} is not a sha256")
    return LockedChart(
        name=name,
        version=str(item["version"]),
        sha256=digest,
        app_version=str(item["app_version"]),
        kube_version=item["kube_version"],
        crd_groups=tuple(item["crd_groups"]),
        contains={str(key): str(value) for key, value in (item.get("contains") or {}).items()},
    )
