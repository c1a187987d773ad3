"""Files of ours in `hub.extraFiles` and `singleuser.extraFiles` of the jupyterhub chart, beside the site's own. Pure.

The chart keeps them in a Secret and mounts them one by one. What the site's own words mount stays, and where it would
be in the place of ours the site is refused: Kubernetes starts no pod with two mounts at one path.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from tidehub.errors import TidehubError
from tidehub.kubernetes.values.merge import merge


@dataclass(frozen=True)
class Files:
    """What is mounted into the pods of one section of the chart's values, `hub` or `singleuser`."""

    section: str
    texts: Mapping[str, str]
    """Path in the pod to content."""
    folder: str
    """A directory where nothing but ours may be."""
    prefix: str
    """What the names of our entries begin with."""
    kind: str
    """What they are, in words: "the pages of tidehub"."""
    fix: str
    """What a site does that wants others."""


def with_files(values: Mapping[str, Any], files: Files) -> Mapping[str, Any]:
    """The chart's values, which the site's own words are in already, with our files.

    Raises `TidehubError` where `overrides` mount something in their place. Values of another shape than the chart
    takes stay as they are: its schema refuses them.
    """
    section = values.get(files.section)
    theirs = (section.get("extraFiles") or {}) if isinstance(section, Mapping) else None
    if not isinstance(theirs, Mapping):
        return values
    ours = {
        f"{files.prefix}{PurePosixPath(path).name}": {"mountPath": path, "stringData": text}
        for path, text in files.texts.items()
    }
    assert len(ours) == len(files.texts)
    for name in sorted(set(ours) & set(theirs)):
        raise TidehubError(
            f"overrides.helm: {files.section}.extraFiles has an entry {name}, which is a name of {files.kind}",
            expected=f"a name that does not begin with {files.prefix}",
            fix=files.fix,
        )
    for where, path in _mounts(files.section, values):
        if _in_the_place_of(PurePosixPath(path), files):
            raise TidehubError(
                f"overrides.helm: {where} is mounted at {path}, in the place of {files.kind}",
                expected="a mountPath of its own",
                fix=files.fix,
            )
    return merge(values, {files.section: {"extraFiles": ours}})


def _in_the_place_of(mounted: PurePosixPath, files: Files) -> bool:
    """Whether the path is one of ours, in our directory, or a directory around one of ours."""
    if PurePosixPath(files.folder) in mounted.parents:
        return True
    ours = (PurePosixPath(path) for path in files.texts)
    return any(mounted == path or mounted in path.parents for path in ours)


def _mounts(section: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Where the site's own words mount something: the key, and the path in the pod."""
    inner = values[section]
    for name, file in (inner.get("extraFiles") or {}).items():
        yield f"{section}.extraFiles.{name}", _path_of(file)
    # The hub's stand beside it, those of notebook servers in `storage`; a list, and from chart 4 on a mapping as well.
    storage = inner.get("storage") if section == "singleuser" else inner
    mounts = storage.get("extraVolumeMounts") if isinstance(storage, Mapping) else None
    where = (
        f"{section}.storage.extraVolumeMounts" if section == "singleuser" else f"{section}.extraVolumeMounts"
    )
    if isinstance(mounts, Mapping):
        yield from ((f"{where}.{name}", _path_of(mount)) for name, mount in mounts.items())
    elif isinstance(mounts, (list, tuple)):
        yield from ((f"{where}[{number}]", _path_of(mount)) for number, mount in enumerate(mounts))


def _path_of(mount: Any) -> str:
    path = mount.get("mountPath") if isinstance(mount, Mapping) else None
    return path if isinstance(path, str) else ""
