"""What idle notebook servers hold in memory, from /proc/PID/smaps_rollup (proc(5)). Sizes in bytes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tidehub_bench.processes import descendants, parents


@dataclass(frozen=True)
class Memory:
    """`pss`: each page divided by the processes that share it; `private`: pages nobody else has."""

    pss: int
    private: int
    processes: int


def read_rollup(text: str) -> tuple[int, int]:
    """PSS and private bytes of one smaps_rollup."""
    fields: dict[str, int] = {}
    for line in text.splitlines():
        name, colon, rest = line.partition(":")
        value = rest.split()
        if colon and len(value) == 2 and value[1] == "kB":
            fields[name] = int(value[0]) * 1024
    return fields["Pss"], fields["Private_Clean"] + fields["Private_Dirty"]


def of_processes(pids: Iterable[int], proc: Path = Path("/proc")) -> Memory:
    """The sum over processes; one that ended meanwhile counts as nothing."""
    pss = private = count = 0
    for pid in pids:
        with contextlib.suppress(OSError, KeyError):
            one_pss, one_private = read_rollup((proc / str(pid) / "smaps_rollup").read_text())
            pss, private, count = pss + one_pss, private + one_private, count + 1
    return Memory(pss, private, count)


def environment_of(pid: int, proc: Path = Path("/proc")) -> dict[str, str]:
    """The environment a process was started with; empty where it cannot be read."""
    try:
        entries = (proc / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    pairs = (entry.decode(errors="replace").partition("=") for entry in entries)
    return {name: value for name, equals, value in pairs if equals}


def server_processes(user: str) -> set[int]:
    """Every process of `user`'s notebook server: those that carry its hub user name, and all below them."""
    known = parents()
    roots = {pid for pid in known if environment_of(pid).get("JUPYTERHUB_USER") == user}
    return roots | descendants(roots, known)
