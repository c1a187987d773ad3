"""What this machine has, memory and cores that this process may really use; and what no single machine can do.

A container or a systemd unit may have less than the machine, and the limit may stand at any control group above ours
(`docker run --memory`, `MemoryMax=` of a slice), so all of them are looked at, of both versions.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tidehub.errors import UsageError
from tidehub.local.isolation.cgroup_bases import Machine, hierarchies
from tidehub.site.model import Site

_NO_LIMIT = 2**60
"""cgroup v1 writes a huge number where v2 writes "max"."""


def refuse_unsupported(site: Site) -> None:
    """Raises `UsageError` when the site asks for something that only a Kubernetes cluster has."""
    if site.dask.engine == "operator":
        raise UsageError(
            "the site's Dask clusters are made by the Dask operator (dask.engine: operator), "
            "which runs on Kubernetes only",
            expected="dask.engine: gateway, or none, on one machine",
            fix="try the site out here with: --set dask.engine=gateway",
        )


def machine_memory(proc: Path = Path("/proc"), machine: Machine | None = None) -> int:
    """Bytes of memory: the machine's, or less where a limit above this process is smaller (proc_meminfo(5))."""
    total = 0
    for line in (proc / "meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            total = int(line.split()[1]) * 1024
    for group in _groups_above(machine):
        for name in ("memory.max", "memory.high", "memory.limit_in_bytes"):
            words = _words(group / name)
            if words and words[0].isdigit() and 0 < int(words[0]) < _NO_LIMIT:
                total = min(total, int(words[0]))
    return total


def machine_cores(machine: Machine | None = None) -> float:
    """Cores that this process may use: those it may run on (sched_getaffinity(2)), or less by a quota above it."""
    cores = float(len(os.sched_getaffinity(0)))
    for group in _groups_above(machine):
        words = _words(group / "cpu.max") or _words(group / "cpu.cfs_quota_us") + _words(
            group / "cpu.cfs_period_us"
        )
        if len(words) == 2 and words[0].isdigit() and int(words[1]) > 0:
            cores = min(cores, int(words[0]) / int(words[1]))
    return cores


def _groups_above(machine: Machine | None) -> Iterator[Path]:
    """Our own group in every hierarchy, and all above it that can be seen from here."""
    for hierarchy in hierarchies(machine or Machine.here()):
        path = hierarchy.own
        while path.is_relative_to(hierarchy.mount):
            yield path
            if path == hierarchy.mount:
                break
            path = path.parent


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except OSError:
        return []
