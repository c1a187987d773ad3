"""Small charts of our own with the names, versions and object kinds of the upstream ones, packed as archives.

`charts/README.md` says what they cannot show.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Release:
    """What tells one version of a chart from another."""

    kubernetes: str
    """The range of API servers that the chart accepts."""
    traefik: tuple[str, ...] = ()
    """The API groups of the route kinds it brings; its own routes are of the last."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """Versions of the charts inside."""


RELEASES: Mapping[tuple[str, str], Release] = {
    ("jupyterhub", "4.4.0"): Release(">=1.28.0-0"),
    ("jupyterhub", "3.3.8"): Release(">=1.23.0-0"),
    ("jupyterhub", "3.2.1"): Release(">=1.23.0-0"),
    ("jupyterhub", "1.2.0"): Release(">=1.17.0-0"),
    ("dask-gateway", "2026.3.0"): Release(">=1.30.0-0", traefik=("traefik.io",)),
    ("dask-gateway", "2024.1.0"): Release(">=1.25.0-0", traefik=("traefik.containo.us", "traefik.io")),
    ("dask-gateway", "2022.6.1"): Release(">=1.20.0-0", traefik=("traefik.containo.us",)),
    ("daskhub", "2024.1.1"): Release("", parts={"jupyterhub": "3.2.1", "dask-gateway": "2024.1.0"}),
    ("daskhub", "2022.6.0"): Release("", parts={"jupyterhub": "1.2.0", "dask-gateway": "2022.6.1"}),
}
_ROUTES = {"IngressRoute": "ingressroutes", "Middleware": "middlewares"}


class StandinCharts:
    """All `RELEASES` as `NAME-VERSION.tgz` in `directory`, packed from the folders below `sources`."""

    def __init__(self, sources: Path, directory: Path) -> None:
        self.directory = directory
        self._sources = sources
        for name, version in RELEASES:
            packed = _pack((f"{name}/{path}", text) for path, text in self._files(name, version))
            self.archive(name, version).write_bytes(packed)

    def archive(self, name: str, version: str) -> Path:
        """The archive of a chart."""
        assert (name, version) in RELEASES, f"no stand-in {name} {version}"
        return self.directory / f"{name}-{version}.tgz"

    def _files(self, name: str, version: str) -> list[tuple[str, str]]:
        release = RELEASES[name, version]
        chart: dict[str, Any] = {"apiVersion": "v2", "name": name, "version": version, "appVersion": version}
        if release.kubernetes:
            chart["kubeVersion"] = release.kubernetes
        if release.parts:
            chart["dependencies"] = [
                {"name": part, "version": number, "repository": ""} for part, number in release.parts.items()
            ]
        files = [("Chart.yaml", json.dumps(chart))]
        folder = self._sources / name
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                files.append((str(path.relative_to(folder)), path.read_text(encoding="utf-8")))
        if release.traefik:
            files = [
                (path, text + f"traefikGroup: {release.traefik[-1]}\n" if path == "values.yaml" else text)
                for path, text in files
            ]
            crds = [_crd("gateway.dask.org", "DaskCluster", "daskclusters")]
            crds += [
                _crd(group, kind, plural) for group in release.traefik for kind, plural in _ROUTES.items()
            ]
            files += [(f"crds/{one['metadata']['name']}.yaml", json.dumps(one)) for one in crds]
        for part, number in release.parts.items():
            files += [(f"charts/{part}/{path}", text) for path, text in self._files(part, number)]
        return files


def _crd(group: str, kind: str, plural: str) -> dict[str, Any]:
    """A CustomResourceDefinition that accepts any fields."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"},
            "versions": [
                {
                    "name": "v1alpha1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": anything},
                    "subresources": {"status": {}} if kind == "DaskCluster" else {},
                }
            ],
        },
    }


def _pack(files: Iterable[tuple[str, str]]) -> bytes:
    """A compressed archive, to the byte the same for the same files."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, text in files:
            data = text.encode()
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as stream:
        stream.write(plain.getvalue())
    return packed.getvalue()
