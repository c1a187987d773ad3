"""Reading and writing one control group, of either version, through the files in its directory.

A v2 group is one directory with all files; a v1 group is the same path in several hierarchies. Every file has one
name of its own, so a `Group` is a set of directories and a file is looked for in each.
Sources: the kernel's admin-guide/cgroup-v2.rst and admin-guide/cgroup-v1/{memory,pids}.rst, sched-bwc.rst.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tidehub.errors import Place, TidehubError

from .model import Limits, Usage

SOCKETS_PART = 8
"""Of a memory limit, so much (1/8) may lie in network sockets beside it, where the kernel does not count it in."""
CPU_PERIOD_US = 100_000
SHARES_PER_CORE = 1024
WEIGHT_PER_CORE = 100
NO_GUARANTEE_CORES = 0.1
"""The weight of a process tree to which nothing is promised: it still moves beside its neighbours."""
KILL_SECONDS = 10.0
NO_LIMIT = 1 << 60
PLATFORM_WEIGHT = (10_000, 262_144)
USERS_WEIGHT = (1_000, 26_214)
"""v2's cpu.weight and v1's cpu.shares. The platform's parts need little, and that at once: however many programs of
users want the processors and whatever was promised to them, together they count a tenth of the platform."""
PROMPT_PARTS = frozenset({"hub", "proxy"})
PROMPT_WEIGHT = (1_000, 10_240)
"""Among the parts: what everybody waits for counts ten times what checks a class's passwords on all processors."""
PLATFORM_MEMORY = (512 << 20, 1 << 30)
"""v2's memory.min and memory.low of the platform: never taken, and taken last. Only what is used is protected."""
PROMISES: Mapping[str, tuple[int, int | None]] = {"memory.low": (0, None), "memory.min": (0, None)}
WEIGHTS: Mapping[str, tuple[int, int | None]] = {"cpu.weight": (1, 10_000), "cpu.shares": (2, 262_144)}


class Tree:
    """The kernel's side of the directories; tests replace it, because ordinary directories have no control files."""

    def make(self, path: Path) -> None:
        """Make a group; its control files appear by themselves."""
        path.mkdir()
        # Whatever the umask of the caller: a notebook server reads its own count of memory kills here.
        path.chmod(0o755)

    def drop(self, path: Path) -> None:
        """Remove a group without processes; its control files go by themselves."""
        path.rmdir()

    def write(self, path: Path, value: str) -> None:
        """One write to an existing control file (a second write would be a second command)."""
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode("ascii"))
        finally:
            os.close(fd)


@dataclass(frozen=True)
class Group:
    """One group: its directory (v2) or its directories (v1)."""

    dirs: tuple[Path, ...]
    tree: Tree = field(default_factory=Tree)

    @property
    def state(self) -> tuple[str, ...]:
        """What a handle keeps."""
        return tuple(str(path) for path in self.dirs)

    def above(self, level: int) -> Group:
        """The group above this one (level 0), or still higher."""
        return Group(tuple(path.parents[level] for path in self.dirs), self.tree)

    def inner(self) -> list[Group]:
        """The groups directly below, each with its directories of all hierarchies."""
        names: dict[str, list[Path]] = {}
        for path in self.dirs:
            for child in _subdirectories(path):
                names.setdefault(child.name, []).append(child)
        return [Group(tuple(paths), self.tree) for _, paths in sorted(names.items())]

    def has(self, *files: str) -> bool:
        """Whether this group has one of these control files."""
        return any(self.path(file) for file in files)

    def path(self, file: str) -> Path | None:
        """Where this control file is; None if this group has none such."""
        return next((path / file for path in self.dirs if (path / file).exists()), None)

    def read(self, file: str) -> str:
        """The file's content, empty if there is none (any more)."""
        for path in self.dirs:
            with contextlib.suppress(OSError):
                return (path / file).read_text(encoding="ascii").strip()
        return ""

    def write(self, file: str, value: str | int) -> bool:
        """Write a control file; False if this group has none such. Raises `TidehubError` if the kernel refuses."""
        path = self.path(file)
        if path is None:
            return False
        try:
            self.tree.write(path, str(value))
        except OSError as error:
            raise TidehubError(
                f"the kernel refused {value} for this limit: {error.strerror}", where=Place(str(path))
            ) from error
        return True

    def weigh(self, weight: tuple[int, int]) -> None:
        """Set the CPU weight (v2) or shares (v1) among its siblings."""
        if not self.write("cpu.weight", weight[0]):
            self.write("cpu.shares", weight[1])

    def protect(self, memory: tuple[int, int]) -> bool:
        """Set memory.min and memory.low; False if this kernel's groups cannot protect memory."""
        return self.write("memory.min", memory[0]) and self.write("memory.low", memory[1])

    def apply(self, limits: Limits) -> None:
        """Set what is given and can be set; what cannot is in the capabilities and told by `gaps()`."""
        if limits.memory is not None:
            if not self.write("memory.max", limits.memory):
                # v1: memory+swap may never be below memory, so memory first, then both together: no swap.
                self.write("memory.limit_in_bytes", limits.memory)
                self.write("memory.memsw.limit_in_bytes", limits.memory)
                # v1 counts what lies in sockets (TCP, and UDP too by this name) apart, and not at all before this is
                # written (cgroup-v1/memory.rst, 2.7).
                self.write("memory.kmem.tcp.limit_in_bytes", limits.memory // SOCKETS_PART)
            else:
                self.write("memory.swap.max", 0)
        if limits.memory_guarantee is not None and not self.write("memory.low", limits.memory_guarantee):
            self.write("memory.soft_limit_in_bytes", limits.memory_guarantee)
        if limits.cores is not None:
            quota = max(1000, round(limits.cores * CPU_PERIOD_US))
            if not self.write("cpu.max", f"{quota} {CPU_PERIOD_US}"):
                self.write("cpu.cfs_period_us", CPU_PERIOD_US)
                self.write("cpu.cfs_quota_us", quota)
        promised = limits.cores_guarantee or NO_GUARANTEE_CORES
        if not self.write("cpu.weight", min(10_000, max(1, round(promised * WEIGHT_PER_CORE)))):
            self.write("cpu.shares", min(262_144, max(2, round(promised * SHARES_PER_CORE))))
        if limits.processes is not None:
            self.write("pids.max", limits.processes)

    def sum_up(self, files: Mapping[str, tuple[int, int | None]]) -> tuple[int, ...]:
        """Promise to this group what is promised to the groups in it, so that the promises hold against others.

        `files`: each with the least and the most that may be written. CPU weights count among siblings only, and
        v2's `memory.low` and `memory.min` only as far as every ancestor has them too. Returns the sums.
        """
        totals = []
        for path in self.dirs:
            there = [name for name in files if (path / name).exists()]
            inner = _subdirectories(path) if there else []
            for file in there:
                least, most = files[file]
                total = max(least, sum(_number(child / file) for child in inner))
                totals.append(total if most is None else min(most, total))
                with contextlib.suppress(OSError):
                    self.tree.write(path / file, str(totals[-1]))
        return tuple(totals)

    def bound(self) -> tuple[int | None, ...]:
        """Limit this group's memory to the sum of the limits in it.

        What a group held when it was removed (files in a tmpfs, System V segments) stays charged to the group above
        it, so without this limit it would count for nobody. v1 refuses a limit below what is held; then the older,
        higher one stays until the next time. Returns the sums.
        """
        totals: list[int | None] = []
        for path in self.dirs:
            for file, swap, none in (
                ("memory.max", "memory.swap.max", "max"),
                ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "-1"),
            ):
                if not (path / file).exists():
                    continue
                inner = [_limit(child / file) for child in _subdirectories(path)]
                total = None if not inner or None in inner else sum(size for size in inner if size)
                totals.append(total)
                writes = [(file, none if total is None else str(total))]
                if (path / swap).exists():
                    v1 = none == "-1"
                    writes.append((swap, none if total is None else str(total) if v1 else "0"))
                    before = _limit(path / file)
                    if v1 and (total is None or (before is not None and total > before)):
                        writes.reverse()  # memory and swap together may never be below memory
                for name, value in writes:
                    with contextlib.suppress(OSError):
                        self.tree.write(path / name, value)
        return tuple(totals)

    def processes(self) -> list[int]:
        """The pids in this group, as this process sees them."""
        found: set[int] = set()
        for path in self.dirs:
            with contextlib.suppress(OSError, ValueError):
                found.update(
                    int(word) for word in (path / "cgroup.procs").read_text(encoding="ascii").split()
                )
        return sorted(found - {0})

    def memory_kills(self) -> int:
        """How many processes of this group the kernel has killed for memory since the group was made."""
        return _field(self.read("memory.events") or self.read("memory.oom_control"), "oom_kill")

    def usage(self) -> Usage:
        """What the group uses now. Inactive file cache is left out: the kernel frees it first."""
        held = _integer(self.read("memory.current") or self.read("memory.usage_in_bytes"))
        statistics = self.read("memory.stat")
        cache = _field(statistics, "total_inactive_file") or _field(statistics, "inactive_file")
        return Usage(memory=max(0, held - cache), processes=len(self.processes()))

    def signal_kill(self) -> None:
        """SIGKILL to everything in it; new forks are refused meanwhile where the kernel can."""
        if self.path("cgroup.kill") is not None:
            self.write("cgroup.kill", 1)
            return
        with contextlib.suppress(TidehubError):
            self.write("pids.max", 0)
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def kill(self, seconds: float = KILL_SECONDS) -> None:
        """End everything in it and wait; raises `TidehubError` if something does not end (a hung disk)."""
        until = time.monotonic() + seconds
        while pids := self.processes():
            self.signal_kill()
            if time.monotonic() > until:
                raise TidehubError(
                    f"processes {', '.join(map(str, pids))} do not end after SIGKILL",
                    expected="only a process that waits inside the kernel (a hung disk or network mount) can do that",
                )
            time.sleep(0.01)

    def remove(self) -> bool:
        """Remove the empty group; False if something still is in it."""
        gone = True
        for path in self.dirs:
            try:
                self.tree.drop(path)
            except FileNotFoundError:
                continue
            except OSError:
                gone = False
        return gone


def _subdirectories(path: Path) -> list[Path]:
    try:
        with os.scandir(path) as found:  # tells directories without asking for each of the many files
            return [path / entry.name for entry in found if entry.is_dir()]
    except OSError:
        return []


def _integer(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _number(path: Path) -> int:
    with contextlib.suppress(OSError):
        return _integer(path.read_text(encoding="ascii").strip())
    return 0


def _limit(path: Path) -> int | None:
    """A memory limit in bytes; None for none, which v1 writes as a huge number."""
    size = _number(path)
    return size if 0 < size < NO_LIMIT else None


def _field(text: str, name: str) -> int:
    """The number after `name` in the kernel's "name number" lines; 0 if there is none."""
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return _integer(value.strip())
    return 0
