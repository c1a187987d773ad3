"""Find the control groups that this platform may make, and make them.

    <base>/tidehub-<platform>/<person's number>/<family>.<process>

`<base>` differs: a group that systemd has delegated to us; with systemd but without delegation the root of the
hierarchy, where other container managers without systemd put theirs; in a container our own group.
v2 allows processes in leaf groups only (cgroup-v2.rst, "No Internal Process Constraint"), so there the platform
moves itself into `<base>/tidehub-platform` before it hands out controllers.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tidehub.errors import Place, TidehubError

from .cgroup_files import Group, Tree, subgroups
from .model import Limits
from .people import safe_slug

WANTED = ("memory", "cpu", "cpuacct", "pids")
OWN_LEAF = "tidehub-platform"
_TRIES = 8


@dataclass(frozen=True)
class Capabilities:
    """What the groups of this machine can enforce for us."""

    memory: bool = False
    swap: bool = False
    cpu: bool = False
    processes: bool = False


def _delegated(path: Path) -> bool:
    """systemd marks what it delegates (systemd's CGROUP_DELEGATION.md): user.delegate, before v251 trusted.delegate."""
    for name in ("user.delegate", "trusted.delegate"):
        with contextlib.suppress(OSError):
            if os.getxattr(path, name) == b"1":
                return True
    return False


@dataclass(frozen=True)
class Machine:
    """The facts on which the choice rests; tests make their own."""

    mountinfo: str
    own: str
    """/proc/self/cgroup"""
    root: bool
    systemd: bool
    delegated: Callable[[Path], bool] = _delegated
    writable: Callable[[Path], bool] = lambda path: os.access(path, os.W_OK)
    tree: Tree = field(default_factory=Tree)

    @classmethod
    def here(cls) -> Machine:
        """This machine."""
        return cls(
            mountinfo=_read("/proc/self/mountinfo"),
            own=_read("/proc/self/cgroup"),
            root=os.geteuid() == 0,
            systemd=Path("/run/systemd/system").is_dir(),
        )


@dataclass(frozen=True)
class Hierarchy:
    """One mounted hierarchy, as far as this process sees it."""

    version: int
    controllers: frozenset[str]
    mount: Path
    own: Path
    """The directory of the group that we are in."""


@dataclass(frozen=True)
class Cgroups:
    """Makes groups for one platform. `bases`: one directory (v2), or one a hierarchy (v1)."""

    bases: tuple[Path, ...]
    version: int
    name: str
    tree: Tree = field(default_factory=Tree)

    def create(self, number: int, family: str, name: str, limits: Limits) -> Group:
        """A new empty group with its limits, counted among its person's; raises `TidehubError` with the reason."""
        try:
            for _ in range(_TRIES):
                # Never a name twice: an old handle must not find somebody's newer processes.
                group = self._make(number, f"{family}.{safe_slug(name)}.{secrets.token_hex(4)}")
                if group is None:
                    continue
                try:
                    group.apply(limits)
                except BaseException:
                    group.remove()
                    raise
                self._sum_up(number)
                return group
        except OSError as error:
            raise TidehubError(
                f"cannot make a control group: {error.strerror}",
                where=Place(str(error.filename or self.bases[0])),
            ) from error
        raise TidehubError(f"cannot make a control group for {name!r}: {_TRIES} random names are all taken")

    def group(self, state: Iterable[str]) -> Group:
        """The group that a handle names."""
        return Group(tuple(Path(path) for path in state), self.tree)

    def remove(self, group: Group) -> bool:
        """Remove an empty group and the groups above it that nothing is left in; False if processes are in it."""
        gone = group.remove()
        number = next((path.parent.name for path in group.dirs), "")
        if gone and number.isdigit():
            Group(tuple(path.parent for path in group.dirs), self.tree).remove()
            Group(tuple(path.parent.parent for path in group.dirs), self.tree).remove()
            self._sum_up(int(number))
        return gone

    def all(self, family: str | None = None) -> list[Group]:
        """Every group of this platform, or those of one family."""
        people = subgroups(self._platform_dirs(), self.tree)
        groups = [group for person in people for group in subgroups(person.dirs, self.tree)]
        return [g for g in groups if family is None or g.dirs[0].name.startswith(f"{family}.")]

    def dismantle(self) -> None:
        """Remove all empty groups of this platform; those with processes stay."""
        for group in self.all():
            self.remove(group)
        for person in subgroups(self._platform_dirs(), self.tree):
            person.remove()
        Group(tuple(self._platform_dirs()), self.tree).remove()

    def capabilities(self) -> Capabilities:
        """What the files of a group of ours say (a group is made for the look, and removed)."""
        trial = self.create(0, "trial", f"p{os.getpid()}", Limits())
        try:
            has = {
                file: trial.path(file) is not None
                for file in (
                    "memory.max", "memory.limit_in_bytes", "memory.swap.max", "memory.memsw.limit_in_bytes",
                    "cpu.max", "cpu.cfs_quota_us", "pids.max",
                )
            }  # fmt: skip
        finally:
            self.remove(trial)
        return Capabilities(
            memory=has["memory.max"] or has["memory.limit_in_bytes"],
            swap=has["memory.swap.max"] or has["memory.memsw.limit_in_bytes"],
            cpu=has["cpu.max"] or has["cpu.cfs_quota_us"],
            processes=has["pids.max"],
        )

    def _platform_dirs(self) -> list[Path]:
        return [base / self.name for base in self.bases]

    def _sum_up(self, number: int) -> None:
        Group(tuple(path / str(number) for path in self._platform_dirs()), self.tree).sum_up()
        Group(tuple(self._platform_dirs()), self.tree).sum_up()

    def _make(self, number: int, leaf: str) -> Group | None:
        """The leaf's directories; None if it is there already and in use or not ours to reuse."""
        dirs: list[Path] = []
        for base in self.bases:
            for _ in range(_TRIES):
                try:
                    for inner in (base / self.name, base / self.name / str(number)):
                        with contextlib.suppress(FileExistsError):
                            self.tree.make(inner)
                        if self.version == 2:
                            hand_down(inner.parent, self.tree)
                            hand_down(inner, self.tree)
                    self.tree.make(base / self.name / str(number) / leaf)
                except FileNotFoundError:
                    continue  # the other process of the platform removed the empty parent meanwhile
                except FileExistsError:
                    Group(tuple(dirs), self.tree).remove()
                    return None
                break
            else:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(base / self.name))
            dirs.append(base / self.name / str(number) / leaf)
        return Group(tuple(dirs), self.tree)


def hand_down(group: Path, tree: Tree) -> set[str]:
    """v2: let the groups below `group` use its controllers; which of ours they can then use."""
    offered = set(_read(group / "cgroup.controllers").split()) & set(WANTED)
    enabled = set(_read(group / "cgroup.subtree_control").split())
    for controller in sorted(offered - enabled):
        try:
            tree.write(group / "cgroup.subtree_control", f"+{controller}")
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise  # processes in it
            continue  # this controller cannot be handed down here; capabilities() will say so
        enabled.add(controller)
    return enabled & set(WANTED)


def hierarchies(machine: Machine) -> list[Hierarchy]:
    """What /proc/self/mountinfo and /proc/self/cgroup say about the hierarchies that hold our controllers."""
    own: dict[frozenset[str], str] = {}
    for line in machine.own.splitlines():
        _, controllers, path = line.split(":", 2)
        own[frozenset(controllers.split(",")) if controllers else frozenset()] = path
    found = []
    for line in machine.mountinfo.splitlines():
        front, _, back = line.partition(" - ")
        if not back.startswith("cgroup"):
            continue
        kind, _, options = back.split(" ", 2)
        root, mount = (_unescape(word) for word in front.split(" ")[3:5])
        names = frozenset(options.split(",")) & set(WANTED) if kind == "cgroup" else frozenset()
        if kind == "cgroup" and not names:
            continue
        path = next((p for group, p in own.items() if (names & group if names else not group)), root)
        inner = os.path.relpath(path, root) if path.startswith(root.rstrip("/") + "/") else "."
        place = Path(mount, inner)
        if kind == "cgroup2":
            names = frozenset(_read(Path(mount) / "cgroup.controllers").split()) & set(WANTED)
        found.append(Hierarchy(2 if kind == "cgroup2" else 1, names, Path(mount), place))
    return found


def find_cgroups(platform: str, machine: Machine | None = None) -> tuple[Cgroups | None, str]:
    """The groups that this process may make, or None and the reason in words.

    v2 is used if it has any of our controllers, v1 otherwise (a machine may mount both).
    """
    machine = machine or Machine.here()
    name = f"tidehub-{re.sub(r'[^a-z0-9-]', '-', platform.lower())}"
    found = hierarchies(machine)
    v2 = next((h for h in found if h.version == 2 and h.controllers), None)
    if v2 is not None:
        return _find_v2(v2, name, machine)
    # One mount a hierarchy, though it may be mounted at several places.
    v1 = list({h.controllers: h for h in reversed(found) if h.version == 1}.values())
    if not v1:
        return None, "this machine mounts no control groups with memory or CPU limits"
    bases = tuple(sorted({h.mount if machine.root and machine.systemd else h.own for h in v1}))
    usable = tuple(base for base in bases if machine.writable(base))
    if not usable:
        return None, "the control groups here may only be changed by root"
    return _tried(Cgroups(usable, 1, name, machine.tree))


def _find_v2(hierarchy: Hierarchy, name: str, machine: Machine) -> tuple[Cgroups | None, str]:
    own = hierarchy.own.parent if hierarchy.own.name == OWN_LEAF else hierarchy.own
    if machine.delegated(own) or (not machine.systemd and not machine.root):
        base = own
    elif machine.root:
        base = hierarchy.mount
    else:
        return None, (
            "no control group is delegated to this user"
            " (start with: systemd-run --user --scope -p Delegate=yes tidehub up)"
        )
    if not machine.writable(base):
        return None, f"the control group {base} may not be changed by this user"
    try:
        try:
            usable = hand_down(base, machine.tree)
        except OSError:
            # EBUSY: processes in it. Ours to move if it is our own group; never those of somebody else's.
            if base != own or (machine.systemd and not machine.delegated(base)):
                return None, f"processes in the control group {base} keep it from having groups with limits"
            move_in(base, machine.tree)
            usable = hand_down(base, machine.tree)
    except OSError as error:
        return None, f"the control group {base} cannot be divided: {error.strerror}"
    if not usable:
        return None, f"the control group {base} was given no memory, CPU or process controller"
    return _tried(Cgroups((base,), 2, name, machine.tree))


def move_in(base: Path, tree: Tree) -> None:
    """Move every process of `base` into a leaf of its own."""
    leaf = base / OWN_LEAF
    with contextlib.suppress(FileExistsError):
        tree.make(leaf)
    for _ in range(_TRIES):
        pids = _read(base / "cgroup.procs").split()
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                tree.write(leaf / "cgroup.procs", pid)


def _tried(groups: Cgroups) -> tuple[Cgroups | None, str]:
    try:
        able = groups.capabilities()
    except TidehubError as error:
        return None, error.what
    return (groups, "") if able != Capabilities() else (None, "the control groups here have no limits to set")


def _unescape(word: str) -> str:
    """mountinfo writes space, tab, newline and backslash as octal (proc_pid_mountinfo(5))."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), word)


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""
