"""What this machine has: memory and cores that this process may really use."""

from __future__ import annotations

import os
from pathlib import Path

_NO_LIMIT = 2**60
"""cgroup v1 writes a huge number where v2 writes "max"."""


def machine_memory(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes of memory: the machine's, or less where a container's own limit is smaller (proc_meminfo(5))."""
    total = 0
    for line in (proc / "meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            total = int(line.split()[1]) * 1024
    limits = [_limit(cgroups / name) for name in ("memory.max", "memory/memory.limit_in_bytes")]
    return min([total, *(limit for limit in limits if limit)])


def _limit(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() and int(text) < _NO_LIMIT else None


def machine_cores() -> float:
    """Cores that this process may run on (sched_getaffinity(2))."""
    return float(len(os.sched_getaffinity(0)))
