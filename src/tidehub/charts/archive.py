"""What is in a packaged chart. Only reads, and only what belongs in one: no links, no paths outside, bounded sizes."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from tidehub.charts.documents import read_all, read_one
from tidehub.charts.kube_version import check_kube_version
from tidehub.errors import Place, TidehubError

__all__ = ["Chart", "Dependency", "Metadata", "check_kube_version", "damaged", "metadata", "open_chart"]

LARGEST_FILE = 10 * 2**20
"""Bytes of one unpacked file."""
LARGEST_ALL = 50 * 2**20
"""Bytes of everything unpacked."""
MOST_FILES = 10_000
_DEEPEST = 8


@dataclass(frozen=True)
class Dependency:
    """A chart that a chart says it needs."""

    name: str
    version: str
    alias: str | None = None
    condition: str | None = None
    """Values that switch it off; None where nothing does."""

    @property
    def key(self) -> str:
        """The key of its values in the parent's."""
        return self.alias or self.name


@dataclass(frozen=True)
class Metadata:
    """`Chart.yaml`."""

    name: str
    version: str
    app_version: str = ""
    kube_version: str | None = None
    dependencies: tuple[Dependency, ...] = ()


@dataclass(frozen=True)
class Chart:
    """An opened chart: its files in memory, with the charts inside of it."""

    metadata: Metadata
    files: Mapping[str, bytes] = field(repr=False)
    """Its own files by path below the chart's directory, without those of subcharts."""
    subcharts: tuple[Chart, ...] = ()

    @cached_property
    def values(self) -> dict[str, Any]:
        """`values.yaml`: the defaults."""
        found = self._yaml("values.yaml")
        return found if isinstance(found, dict) else {}

    @cached_property
    def schema(self) -> dict[str, Any] | None:
        """`values.schema.json`; None where the chart has none."""
        if (text := self.files.get("values.schema.json")) is None:
            return None
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise damaged(f"{self.metadata.name}: values.schema.json is not JSON ({error})") from None
        return found if isinstance(found, dict) else None

    @cached_property
    def crds(self) -> tuple[dict[str, Any], ...]:
        """Every CRD in `crds/`, those of subcharts after its own, in the order of their file names.

        Where two charts bring the same CRD (by name), the first one counts.
        """
        found: dict[str, dict[str, Any]] = {}
        for path in sorted(self.files):
            if path.startswith("crds/") and path.endswith((".yaml", ".yml", ".json")):
                for document in self._documents(path):
                    if isinstance(document, dict) and document.get("kind") == "CustomResourceDefinition":
                        found.setdefault(str((document.get("metadata") or {}).get("name")), document)
        for chart in self.subcharts:
            for document in chart.crds:
                found.setdefault(str(document["metadata"]["name"]), document)
        return tuple(found.values())

    @property
    def crd_groups(self) -> tuple[str, ...]:
        """API groups of its CRDs, sorted."""
        return tuple(sorted({str(each["spec"]["group"]) for each in self.crds}))

    def subchart(self, name: str) -> Chart | None:
        """A chart inside of it, by name."""
        return next((each for each in self.subcharts if each.metadata.name == name), None)

    def key_of(self, subchart: Chart) -> str:
        """The key of a subchart's values in this chart's."""
        named = (each for each in self.metadata.dependencies if each.name == subchart.metadata.name)
        return next((each.key for each in named), subchart.metadata.name)

    def _yaml(self, path: str) -> Any:
        try:
            return read_one(self.files.get(path, b""))
        except ValueError as error:
            raise damaged(f"{self.metadata.name}: {path} cannot be read ({error})") from None

    def _documents(self, path: str) -> list[Any]:
        try:
            return read_all(self.files[path])
        except ValueError as error:
            raise damaged(f"{self.metadata.name}: {path} cannot be read ({error})") from None


def open_chart(path: Path) -> Chart:
    """A packaged chart, or a chart's directory. Raises `TidehubError` for what is not a chart, or no safe one."""
    try:
        return _chart(_files(path))
    except TidehubError as error:
        raise TidehubError(
            error.what,
            where=Place(str(path)),
            expected="a packaged Helm chart",
            fix="get the published archive",
        ) from None


def metadata(path: Path) -> Metadata:
    """`Chart.yaml` of a packaged chart or a chart's directory. Raises `TidehubError`."""
    return open_chart(path).metadata


def damaged(what: str) -> TidehubError:
    """A chart that cannot be used."""
    return TidehubError(what, expected="a packaged Helm chart", fix="get the published archive")


def _files(path: Path) -> dict[str, bytes]:
    """All files by path below the chart's directory."""
    if path.is_dir():
        return {
            str(each.relative_to(path)): each.read_bytes()
            for each in sorted(path.rglob("*"))
            if each.is_file() and not each.is_symlink()
        }
    try:
        with path.open("rb") as stream:
            return _unpacked(stream.read(LARGEST_ALL + 1))
    except OSError as error:
        raise damaged(f"the chart cannot be read ({error.strerror or error})") from None


def _unpacked(packed: bytes) -> dict[str, bytes]:
    """The files of an archive. It is unpacked whole under a bound before tar sees it: a bomb ends here."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as unpacking:
            unpacked = unpacking.read(LARGEST_ALL + 1)
        if len(unpacked) > LARGEST_ALL:
            raise damaged(f"the chart unpacks to more than {LARGEST_ALL // 2**20} MiB")
        with tarfile.open(fileobj=io.BytesIO(unpacked), mode="r:") as archive:
            return _members(archive)
    except (OSError, tarfile.TarError, EOFError, zlib.error, ValueError) as error:
        raise damaged(f"the chart is not a whole archive ({error})") from None


def _members(archive: tarfile.TarFile) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    roots: set[str] = set()
    for count, member in enumerate(archive):
        path = PurePosixPath(member.name)
        if count >= MOST_FILES:
            raise damaged(f"the chart holds more than {MOST_FILES} files")
        if path.is_absolute() or ".." in path.parts or "\\" in member.name:
            raise damaged(f"the chart holds a path outside of it: {member.name!r}")
        if member.isdir() or member.type in (tarfile.XHDTYPE, tarfile.XGLTYPE):
            continue
        if not member.isreg():
            raise damaged(f"the chart holds something that is not a file: {member.name!r}")
        if member.size > LARGEST_FILE:
            raise damaged(f"{member.name!r} in the chart is larger than {LARGEST_FILE // 2**20} MiB")
        stream = archive.extractfile(member)
        roots.add(path.parts[0])
        found["/".join(path.parts[1:])] = stream.read() if stream else b""
    if len(roots) != 1:
        raise damaged("the archive does not hold one directory, so it is not a chart")
    return found


def _chart(files: Mapping[str, bytes], depth: int = 0) -> Chart:
    if depth > _DEEPEST:
        raise damaged("the charts in this chart are nested too deep")
    own = {path: data for path, data in files.items() if not path.startswith("charts/")}
    inside: dict[str, dict[str, bytes]] = {}
    subcharts = []
    for path, data in files.items():
        if not path.startswith("charts/"):
            continue
        parts = path.split("/", 2)
        if len(parts) == 3:
            inside.setdefault(parts[1], {})[parts[2]] = data
        elif path.endswith(".tgz"):
            subcharts.append(_chart(_unpacked(data), depth + 1))
    subcharts += [_chart(its, depth + 1) for _, its in sorted(inside.items()) if "Chart.yaml" in its]
    return Chart(_metadata(own), own, tuple(subcharts))


def _metadata(files: Mapping[str, bytes]) -> Metadata:
    if "Chart.yaml" not in files:
        raise damaged("it has no Chart.yaml")
    try:
        found = read_one(files["Chart.yaml"])
        stated = found.get("dependencies")
        if stated is None and "requirements.yaml" in files:
            stated = (read_one(files["requirements.yaml"]) or {}).get("dependencies")
        return Metadata(
            name=str(found["name"]),
            version=str(found["version"]),
            app_version=str(found.get("appVersion") or ""),
            kube_version=str(found["kubeVersion"]) if found.get("kubeVersion") else None,
            dependencies=tuple(
                Dependency(
                    str(each["name"]),
                    str(each.get("version") or ""),
                    each.get("alias"),
                    each.get("condition"),
                )
                for each in stated or []
            ),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(f"its Chart.yaml cannot be read ({error})") from None
