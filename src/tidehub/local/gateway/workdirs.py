"""The directories of one cluster: its working directory, which is its owner's, and its logs, which are ours."""

from __future__ import annotations

import os
import shutil
import stat
import time
from pathlib import Path

from tidehub.local.gateway.config import GUARD, NOTICES
from tidehub.local.isolation import Person
from tidehub.system.files import PASSABLE_DIRECTORY, PRIVATE_DIRECTORY, make_directory, write_private

CERTIFICATE, KEY = "dask.crt", "dask.pem"


def make_workdir(clusters: Path, cluster: str, person: Person, *, certificate: bytes, key: bytes) -> Path:
    """`clusters/cluster`, 0700 and the person's: TLS files, what schedulers preload, room for spilled data.

    Raises `TidehubError`. The parent is ours and passable, so nobody can put a link in the way.
    """
    make_directory(clusters, PASSABLE_DIRECTORY)
    path = clusters / cluster
    make_directory(path, PRIVATE_DIRECTORY)
    owner = _owner(person)
    for name, data in ((CERTIFICATE, certificate), (KEY, key)):
        write_private(path / name, data, **owner)
    for source in (GUARD, NOTICES):
        # Copies: people may not be able to read the platform's own files.
        write_private(path / source.name, source.read_bytes(), **owner)
    make_directory(path / "scratch", PRIVATE_DIRECTORY, **owner)
    # Last, so that nothing above could be exchanged by the person while we wrote.
    make_directory(path, PRIVATE_DIRECTORY, **owner)
    return path


def remove_workdir(clusters: Path, path: Path) -> None:
    """Remove a cluster's working directory; anything that is not directly below `clusters` is left alone."""
    if path.parent == clusters and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)


def remove_strays(clusters: Path, known: set[str]) -> list[str]:
    """Remove working directories of clusters that the gateway does not know (left by a crash); gives their
    names.
    """
    if not clusters.is_dir():
        return []
    strays = [entry.name for entry in clusters.iterdir() if entry.name not in known]
    for name in strays:
        remove_workdir(clusters, clusters / name)
    return strays


def log_file(logs: Path, cluster: str, process: str) -> Path:
    """The log of one process of a cluster; its directory is made, 0700."""
    make_directory(logs / cluster, PRIVATE_DIRECTORY)
    return logs / cluster / f"{process}.log"


def tidy_logs(logs: Path, *, running: set[str], age: float, size: int, now: float | None = None) -> list[str]:
    """Remove logs of ended clusters: those older than `age` seconds, and the oldest beyond `size` bytes in
    all.

    Gives the names of the clusters whose logs went.
    """
    if not logs.is_dir():
        return []
    moment = time.time() if now is None else now
    ended: list[tuple[float, int, Path]] = []
    total = 0
    for entry in logs.iterdir():
        if not stat.S_ISDIR(entry.lstat().st_mode):
            continue
        files = [file.lstat() for file in entry.iterdir()]
        weight = sum(file.st_size for file in files)
        total += weight
        if entry.name not in running:
            newest = max((file.st_mtime for file in files), default=entry.lstat().st_mtime)
            ended.append((newest, weight, entry))
    removed = []
    for newest, weight, entry in sorted(ended):
        if moment - newest > age or total > size:
            shutil.rmtree(entry, ignore_errors=True)
            total -= weight
            removed.append(entry.name)
    return removed


def _owner(person: Person) -> dict[str, int]:
    return {"uid": person.uid, "gid": person.gid} if os.geteuid() == 0 else {}
