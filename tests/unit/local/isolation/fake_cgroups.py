"""Directories that behave like control groups, as far as we use them."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from tidehub.local.isolation.cgroup_bases import Machine
from tidehub.local.isolation.cgroup_files import Tree

V2 = {
    "memory": {
        "memory.max": "max", "memory.low": "0", "memory.min": "0", "memory.swap.max": "max",
        "memory.current": "0", "memory.stat": "",
        "memory.events": "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0",
    },
    "cpu": {"cpu.max": "max 100000", "cpu.weight": "100"},
    "pids": {"pids.max": "max"},
}  # fmt: skip
V1 = {
    "memory": {
        "memory.limit_in_bytes": "9223372036854771712", "memory.memsw.limit_in_bytes": "9223372036854771712",
        "memory.kmem.tcp.limit_in_bytes": "9223372036854771712",
        "memory.soft_limit_in_bytes": "9223372036854771712", "memory.usage_in_bytes": "0", "memory.stat": "",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 0",
    },
    "cpu": {"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000", "cpu.shares": "1024", "cpu.stat": "nr_periods 0"},
    "pids": {"pids.max": "max"},
}  # fmt: skip


THREADED = {"cpu", "pids"}
"""Controllers that know threads (cgroup-v2.rst, "Threads")."""


class FakeV2(Tree):
    """A unified hierarchy at `root`; `writes` are all control writes in order."""

    def __init__(self, root: Path, controllers: str = "cpu memory pids") -> None:
        self.writes: list[tuple[str, str]] = []
        self.root = root
        root.mkdir(parents=True)
        self._fill(root, controllers, kind=False)

    def _fill(self, path: Path, controllers: str, *, kind: bool = True) -> None:
        (path / "cgroup.controllers").write_text(controllers)
        (path / "cgroup.subtree_control").write_text("")
        (path / "cgroup.procs").write_text("")
        (path / "cpu.stat").write_text("usage_usec 0")
        if kind:
            (path / "cgroup.type").write_text("domain")
            (path / "cgroup.kill").write_text("")
            for controller in controllers.split():
                for file, value in V2.get(controller, {}).items():
                    (path / file).write_text(value)

    def make(self, path: Path) -> None:
        super().make(path)
        self._fill(path, (path.parent / "cgroup.subtree_control").read_text())
        self._type(path.parent)

    def _divide(self, path: Path, value: str) -> None:
        """As the kernel answers, see `cgroup_conduct.py`: controllers that know threads are taken, and spoil."""
        controller, have = value[1:], set(path.read_text().split())
        busy = path.parent != self.root and bool((path.parent / "cgroup.procs").read_text().strip())
        if controller not in (path.parent / "cgroup.controllers").read_text().split():
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        if value.startswith("+") and controller not in THREADED:
            if busy and have & THREADED:
                raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), str(path))
            if busy:
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(path))
        have = have | {controller} if value.startswith("+") else have - {controller}
        path.write_text(" ".join(sorted(have)))
        self._type(path.parent)

    def _refuse_inner(self, group: Path) -> None:
        if group == self.root:
            return
        if (group / "cgroup.type").read_text() != "domain":
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), str(group))
        if (group / "cgroup.subtree_control").read_text().strip():
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(group))

    def _type(self, group: Path) -> None:
        """What a group and those in it are after a change; the root has no type."""
        if group == self.root or not (group / "cgroup.type").exists():
            return
        enabled = set((group / "cgroup.subtree_control").read_text().split())
        spoilt = bool(enabled & THREADED and (group / "cgroup.procs").read_text().strip())
        (group / "cgroup.type").write_text("domain threaded" if spoilt else "domain")
        for child in group.iterdir():
            if child.is_dir():
                (child / "cgroup.type").write_text("domain invalid" if spoilt else "domain")

    def drop(self, path: Path) -> None:
        if not path.exists():
            raise FileNotFoundError(errno.ENOENT, "gone", str(path))
        if (path / "cgroup.procs").read_text().strip() or any(child.is_dir() for child in path.iterdir()):
            raise OSError(errno.EBUSY, "busy", str(path))
        shutil.rmtree(path)

    def write(self, path: Path, value: str) -> None:
        if not path.exists():
            raise FileNotFoundError(errno.ENOENT, "no such control file", str(path))
        self.writes.append((str(path.relative_to(self.root)), value))
        if path.name == "cgroup.subtree_control":
            self._divide(path, value)
        elif path.name == "cgroup.procs":
            self._refuse_inner(path.parent)
            for other in self.root.rglob("cgroup.procs"):
                left = [pid for pid in other.read_text().split() if pid != value]
                other.write_text("\n".join(left))
            path.write_text(f"{path.read_text().strip()}\n{value}".strip())
            self._type(path.parent.parent)
        elif path.name == "cgroup.kill":
            (path.parent / "cgroup.procs").write_text("")
        else:
            path.write_text(value)


class FakeV1(Tree):
    """One hierarchy a controller below `root`."""

    def __init__(self, root: Path, inner: str = "") -> None:
        self.writes: list[tuple[str, str]] = []
        self.root = root
        for controller in V1:
            (root / controller / inner).mkdir(parents=True)
            self._fill(root / controller / inner)

    def _fill(self, path: Path) -> None:
        (path / "cgroup.procs").write_text("")
        for file, value in V1[path.relative_to(self.root).parts[0]].items():
            (path / file).write_text(value)

    def make(self, path: Path) -> None:
        super().make(path)
        self._fill(path)

    def drop(self, path: Path) -> None:
        FakeV2.drop(self, path)  # type: ignore[arg-type]  # the same rule

    def write(self, path: Path, value: str) -> None:
        if not path.exists():
            raise FileNotFoundError(errno.ENOENT, "no such control file", str(path))
        self.writes.append((str(path.relative_to(self.root)), value))
        path.write_text(value)


def v2_machine(
    tree: FakeV2,
    own: str = "/",
    *,
    root: bool = True,
    systemd: bool = False,
    delegated: str = "",
    owned: str = "",
) -> Machine:
    return Machine(
        mountinfo=f"30 24 0:26 / {tree.root} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
        own=f"0::{own}\n",
        root=root,
        systemd=systemd,
        delegated=lambda path: bool(delegated) and path == tree.root / delegated,
        writable=lambda path: True,
        owned=lambda path: bool(owned) and path == tree.root / owned,
        family=lambda: {"11", "12"},
        tree=tree,
    )


def v1_machine(tree: FakeV1, own: str = "/", *, root: bool = True, systemd: bool = False) -> Machine:
    lines = [f"3{n} 24 0:2{n} / {tree.root}/{c} rw - cgroup cgroup rw,{c}" for n, c in enumerate(V1)]
    return Machine(
        mountinfo="\n".join([*lines, "40 24 0:30 / /x/systemd rw - cgroup cgroup rw,name=systemd"]),
        own="\n".join(
            [*(f"{n + 2}:{c}:{own}" for n, c in enumerate(V1)), "1:name=systemd:/elsewhere", "0::/"]
        ),
        root=root,
        systemd=systemd,
        delegated=lambda path: False,
        writable=lambda path: root,
        tree=tree,
    )
