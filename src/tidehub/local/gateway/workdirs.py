"""The directories of one cluster: its working directory, which is its owner's, and its logs, which are ours."""

from __future__ import annotations

import os
from pathlib import Path

from tidehub.local.gateway.config import GUARD, NOTICES, TLS_ERRORS
from tidehub.local.isolation import User
from tidehub.system import trash
from tidehub.system.directories import Directory, File, opened, place_new
from tidehub.system.files import PASSABLE_DIRECTORY, make_directory

CERTIFICATE, KEY = "dask.crt", "dask.pem"


def make_workdir(clusters: Path, cluster: str, user: User, *, certificate: bytes, key: bytes) -> Path:
    """`clusters/cluster`, 0700 and the user's: TLS files, what schedulers and workers preload, room for spilled data.

    Made whole before it is theirs; a former one of this name is thrown away. Raises `TidehubError`.
    """
    make_directory(clusters, PASSABLE_DIRECTORY)
    uid, gid = (user.uid, user.gid) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    holds: dict[str, File | Directory] = {CERTIFICATE: File(certificate), KEY: File(key)}
    # Copies: users may not be able to read the platform's own files.
    holds |= {source.name: File(source.read_bytes()) for source in (GUARD, NOTICES, TLS_ERRORS)}
    holds["scratch"] = Directory(uid, gid)
    with opened(clusters) as parent:
        trash.throw_from(parent, cluster, clusters / trash.NAME)
        place_new(parent, cluster, Directory(uid, gid, holds=holds))
    return clusters / cluster


def remove_workdir(clusters: Path, path: Path) -> None:
    """Throw a cluster's working directory away; anything that is not directly below `clusters` is left alone."""
    if path.parent == clusters and path.name != trash.NAME and trash.throw(path):
        trash.sweep(clusters / trash.NAME)


def remove_strays(clusters: Path, known: set[str]) -> list[str]:
    """Throw away working directories of clusters that the gateway does not know (left by a crash), and go on with
    what was thrown away before; gives their names.
    """
    if not clusters.is_dir():
        return []
    strays = [entry.name for entry in clusters.iterdir() if entry.name not in {*known, trash.NAME}]
    for name in strays:
        trash.throw(clusters / name)
    trash.sweep(clusters / trash.NAME)
    return strays


def log_file(logs: Path, cluster: str, process: str) -> Path:
    """The log of one process of a cluster."""
    return logs / cluster / f"{process}.log"
