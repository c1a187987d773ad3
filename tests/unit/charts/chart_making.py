"""Packaged charts for tests, made in memory."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping
from typing import Any


def packed(files: Mapping[str, str | bytes], *more: tarfile.TarInfo) -> bytes:
    """A .tgz of `files` by path, and members without content."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path, text in files.items():
            data = text.encode() if isinstance(text, str) else text
            member = tarfile.TarInfo(path)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for member in more:
            archive.addfile(member)
    return gzip.compress(stream.getvalue(), mtime=0)


def metadata(name: str, version: str = "1.0.0", **more: Any) -> str:
    return json.dumps({"apiVersion": "v2", "name": name, "version": version, **more})


def crd(plural: str, group: str, note: str = "") -> str:
    return json.dumps(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{group}", "labels": {"note": note}},
            "spec": {"group": group},
        }
    )


SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "hub": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"db": {"type": ["string", "null"]}},
        },
        "size": {"type": "integer"},
        "global": {"type": "object"},
    },
    "required": ["size"],
}


def hub_files(root: str = "") -> dict[str, str | bytes]:
    """A chart with a schema, in `root` (ending in /) of an archive."""
    return {
        f"{root}Chart.yaml": metadata("hub", "1.2.3", appVersion="5.5", kubeVersion=">=1.28.0-0"),
        f"{root}values.yaml": "hub: {db: sqlite}\nsize: 3\nglobal: {}\n",
        f"{root}values.schema.json": json.dumps(SCHEMA),
        f"{root}crds/a.yaml": crd("things", "example.org", "hub") + "\n---\n",
    }


def parent_files() -> dict[str, str | bytes]:
    """A chart without a schema that contains the one with, unpacked, and another one packed."""
    operator = packed({"op/Chart.yaml": metadata("op"), "op/crds/b.yaml": crd("things", "example.org", "op")})
    return {
        "meta/Chart.yaml": metadata(
            "meta",
            dependencies=[
                {"name": "hub", "version": "1.2.3"},
                {"name": "op", "alias": "dask", "condition": "x.y"},
            ],
        ),
        "meta/values.yaml": "rbac: {}\nhub: {size: 5}\n",
        **hub_files("meta/charts/hub/"),
        "meta/charts/op-1.0.0.tgz": operator,
    }
