"""Find the control groups that this platform may make, and make them.

    <base>/tidehub-<platform>/platform/<part>
    <base>/tidehub-<platform>/users/<user's number>/<family>.<process>

`<base>` is the control group in which this process was started: a container's, or one that systemd delegated (`up`
asks for one, see `systemd.py`). Never the root of a hierarchy that is systemd's. With systemd, users' groups have a
base of their own, a scope that ends neither with the operator's session nor with the platform's unit.

v2 allows processes in leaf groups only (cgroup-v2.rst, "No Internal Process Constraint"). The platform leaves its base
for a leaf before any controller is handed down, because the kernel accepts controllers that know threads (cpu, pids)
in a group with processes, and turns the group into a threaded one, to which memory is refused for ever.
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
from tidehub.system.processes import all_stats

from .cgroup_files import (
    PLATFORM_MEMORY,
    PLATFORM_WEIGHT,
    PROMISES,
    PROMPT_PARTS,
    PROMPT_WEIGHT,
    USERS_WEIGHT,
    WEIGHTS,
    Group,
    Tree,
    subgroups,
)
from .model import Limits
from .sweep import related
from .users import safe_slug

WANTED = ("memory", "cpu", "cpuacct", "pids")
"""Controllers, in the order in which they are handed down; see `hand_down`."""
OWN_LEAF = "tidehub-platform"
"""For processes that were in the base before it was divided."""
PLATFORM, USERS = "platform", "users"
SLICE = "tidehub.slice"
_USER_MANAGER = re.compile(r"user@\d+\.service")
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


def _owned(path: Path) -> bool:
    """Whether a group was given to this user: what delegation makes theirs (cgroup-v2.rst, "Model of Delegation")."""
    try:
        return all(
            (path / file).stat().st_uid == os.geteuid() and os.access(path / file, os.W_OK)
            for file in (".", "cgroup.procs", "cgroup.subtree_control")
        )
    except OSError:
        return False


def _family() -> set[str]:
    """The pids of this process, what it started, and the rest of its session."""
    me, stats = os.getpid(), all_stats()
    found = related(me, stats) | {pid for pid, stat in stats.items() if stat.session == me}
    return {str(pid) for pid in found}


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
    owned: Callable[[Path], bool] = _owned
    family: Callable[[], set[str]] = _family
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
    """Where users' groups are."""
    version: int
    name: str
    tree: Tree = field(default_factory=Tree)
    platform_bases: tuple[Path, ...] = ()
    """Where the platform's own groups are; empty: at `bases`."""

    def part(self, name: str) -> Group:
        """The group of one part of the platform, which users' groups cannot push out; raises `TidehubError`."""
        dirs = []
        try:
            for base in self.platform_bases or self.bases:
                path = base
                for inner in (self.name, PLATFORM, name):
                    if self.version == 2:
                        hand_down(path, self.tree)
                    path = path / inner
                    with contextlib.suppress(FileExistsError):
                        self.tree.make(path)
                dirs.append(path)
        except OSError as error:
            raise self._refused(error) from error
        above = Group(tuple(path.parent for path in dirs), self.tree)
        top = Group(tuple(path.parent.parent for path in dirs), self.tree)
        for group in (above, top):
            group.weigh(PLATFORM_WEIGHT)
        above.protect(PLATFORM_MEMORY)
        part = Group(tuple(dirs), self.tree)
        part.protect(PLATFORM_MEMORY)
        if name in PROMPT_PARTS:
            part.weigh(PROMPT_WEIGHT)
        for group in (top, *self._scopes(self.platform_bases or self.bases)):
            group.sum_up(PROMISES)
        return part

    def enter(self, name: str) -> None:
        """Move this process into a part's group: the supervisor, before it starts anything."""
        for path in self.part(name).dirs:
            try:
                self.tree.write(path / "cgroup.procs", str(os.getpid()))
            except OSError as error:
                raise self._refused(error) from error

    def leave(self) -> None:
        """Remove the platform's own groups, this process' as well if it can go back to where it was started."""
        for base in self.platform_bases or self.bases:
            # v2 refuses: processes are in leaf groups only. There the group goes with the unit that holds it.
            with contextlib.suppress(OSError):
                self.tree.write(base / "cgroup.procs", str(os.getpid()))
        dirs = tuple(base / self.name / PLATFORM for base in self.platform_bases or self.bases)
        for part in subgroups(dirs, self.tree):
            part.remove()
        for base in self.bases if self.platform_bases else ():
            # The process that keeps the users' scope, unless users' programs are left in it.
            if base.name.endswith("-users.scope") and not (base / self.name).exists():
                Group((base / OWN_LEAF,), self.tree).signal_kill()
        Group(dirs, self.tree).remove()
        Group(tuple(path.parent for path in dirs), self.tree).remove()

    def create(self, number: int, family: str, name: str, limits: Limits) -> Group:
        """A new empty group with its limits, counted among its user's; raises `TidehubError` with the reason."""
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
            raise self._refused(error) from error
        raise TidehubError(f"cannot make a control group for {name!r}: {_TRIES} random names are all taken")

    def _refused(self, error: OSError) -> TidehubError:
        return TidehubError(
            f"cannot make a control group: {error.strerror}",
            where=Place(str(error.filename or self.bases[0])),
        )

    def group(self, state: Iterable[str]) -> Group:
        """The group that a handle names."""
        return Group(tuple(Path(path) for path in state), self.tree)

    def remove(self, group: Group) -> bool:
        """Remove an empty group and the groups above it that nothing is left in; False if processes are in it."""
        gone = group.remove()
        number = next((path.parent.name for path in group.dirs), "")
        if gone and number.isdigit():
            for level in (0, 1, 2):
                Group(tuple(path.parents[level] for path in group.dirs), self.tree).remove()
            self._sum_up(int(number))
        return gone

    def all(self, family: str | None = None) -> list[Group]:
        """Every group of this platform, or those of one family."""
        users = subgroups(self._users_dirs(), self.tree)
        groups = [group for user in users for group in subgroups(user.dirs, self.tree)]
        return [g for g in groups if family is None or g.dirs[0].name.startswith(f"{family}.")]

    def dismantle(self) -> None:
        """Remove all empty groups of this platform; those with processes stay."""
        for group in self.all():
            self.remove(group)
        for user in subgroups(self._users_dirs(), self.tree):
            user.remove()
        Group(tuple(self._users_dirs()), self.tree).remove()
        Group(tuple(base / self.name for base in self.bases), self.tree).remove()

    def gaps(self) -> list[str]:
        """What the groups above ours make worthless, and what this kernel's groups cannot do; one line each."""
        if self.version == 1:
            line = (
                "The platform's own memory is not protected from users' programs (control groups of version 1"
                " cannot), and memory guarantees are only what is taken last."
            )
            return [line]
        bases = {*self.bases, *self.platform_bases}
        ours = {path for scope in self._scopes(bases) for path in scope.dirs}
        bare = [
            path
            for base in bases
            for path in (base, *base.parents)
            if path not in ours and _read(path / "memory.low").strip() == "0"
        ]
        if not bare:
            return []
        highest = min(bare, key=lambda path: len(path.parts))
        line = (
            "Memory guarantees and the protection of the platform's own memory hold among users, not against other"
            f" programs of this machine: the control group {highest} above them guarantees nothing (memory.low;"
            " with systemd: MemoryLow=)."
        )
        return [line]

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

    def _users_dirs(self) -> list[Path]:
        return [base / self.name / USERS for base in self.bases]

    def _sum_up(self, number: int) -> None:
        """Hub and gateway do this at the same time; a lock could be held by any user, who may open these groups.

        Who writes last looks again afterwards, so what stands in the end is the sum of what is there.
        """
        user = Group(tuple(path / str(number) for path in self._users_dirs()), self.tree)
        users = Group(tuple(self._users_dirs()), self.tree)
        top = Group(tuple(path.parent for path in self._users_dirs()), self.tree)
        with contextlib.suppress(TidehubError):
            # The last user's groups may be removed meanwhile, by this or another part.
            users.weigh(USERS_WEIGHT)
            top.weigh(PLATFORM_WEIGHT)
        before: object = None
        for _ in range(_TRIES):
            sums = (
                user.sum_up({**PROMISES, **WEIGHTS}),
                user.bound(),
                users.sum_up(PROMISES),
                top.sum_up(PROMISES),
                *(scope.sum_up(PROMISES) for scope in self._scopes(self.bases)),
            )
            if sums == before:
                return
            before = sums

    def _scopes(self, bases: Iterable[Path]) -> list[Group]:
        """Scopes and units of ours in our slice, and the slice above them: what is promised inside must hold there."""
        return [
            Group((path,), self.tree)
            for base in bases
            if base.parent.name == SLICE and base.name.endswith((".scope", ".service"))
            for path in (base, base.parent)
        ]

    def _make(self, number: int, leaf: str) -> Group | None:
        """The leaf's directories; None if it is there already and in use or not ours to reuse."""
        dirs: list[Path] = []
        for base in self.bases:
            for _ in range(_TRIES):
                try:
                    path = base
                    for inner in (self.name, USERS, str(number)):
                        if self.version == 2:
                            hand_down(path, self.tree)
                        path = path / inner
                        with contextlib.suppress(FileExistsError):
                            self.tree.make(path)
                    if self.version == 2:
                        hand_down(path, self.tree)
                    self.tree.make(path / leaf)
                except FileNotFoundError:
                    continue  # the other process of the platform removed the empty parent meanwhile
                except FileExistsError:
                    Group(tuple(dirs), self.tree).remove()
                    return None
                break
            else:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(base / self.name))
            dirs.append(path / leaf)
        return Group(tuple(dirs), self.tree)


def hand_down(group: Path, tree: Tree) -> set[str]:
    """v2: let the groups below `group` use its controllers; which of ours they can then use.

    `memory` comes first: it is refused (EBUSY) while processes are in the group, where `cpu` would be accepted and
    spoil the group. Raises `OSError`: EBUSY with processes inside, EOPNOTSUPP for a group that is spoilt already.
    """
    offered = set(_read(group / "cgroup.controllers").split()) & set(WANTED)
    enabled = set(_read(group / "cgroup.subtree_control").split())
    for controller in (name for name in WANTED if name in offered - enabled):
        try:
            tree.write(group / "cgroup.subtree_control", f"+{controller}")
        except OSError as error:
            if error.errno in (errno.EBUSY, errno.EOPNOTSUPP):
                raise
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


def group_name(platform: str) -> str:
    """The name of a platform's groups."""
    return f"tidehub-{re.sub(r'[^a-z0-9-]', '-', platform.lower())}"


def find_cgroups(platform: str, machine: Machine | None = None) -> tuple[Cgroups | None, str]:
    """The groups that this process may make, or None and the reason in words.

    v2 is used if it has any of our controllers, v1 otherwise (a machine may mount both).
    """
    machine = machine or Machine.here()
    name = group_name(platform)
    found = hierarchies(machine)
    v2 = next((h for h in found if h.version == 2 and h.controllers), None)
    if v2 is not None:
        return _find_v2(v2, name, machine)
    # One mount a hierarchy, though it may be mounted at several places.
    v1 = list({h.controllers: h for h in reversed(found) if h.version == 1}.values())
    if not v1:
        return None, "this machine mounts no control groups with memory or CPU limits"
    own = sorted({base_of(h.own, name) for h in v1})
    users = [users_scope(h.mount, h.own, name) for h in v1]
    bases = sorted(path for path in users if path.is_dir()) if machine.systemd else []
    usable = tuple(base for base in bases or own if machine.writable(base))
    if not usable:
        return None, "the control groups here may only be changed by root"
    platform_bases = tuple(base for base in own if machine.writable(base)) if bases else ()
    return _tried(Cgroups(usable, 1, name, machine.tree, platform_bases))


def base_of(own: Path, name: str) -> Path:
    """The group in which the platform was started, from that of any process of it."""
    for path in (own, *own.parents):
        if path.name in (name, OWN_LEAF):
            return path.parent
    return own


def users_scope(mount: Path, own: Path, name: str) -> Path:
    """Where systemd puts the scope for users' groups: below its root, or below a user's own manager."""
    manager = next((path for path in (own, *own.parents) if _USER_MANAGER.fullmatch(path.name)), mount)
    return manager / SLICE / f"{name}-users.scope"


def _find_v2(hierarchy: Hierarchy, name: str, machine: Machine) -> tuple[Cgroups | None, str]:
    own = base_of(hierarchy.own, name)
    scope = users_scope(hierarchy.mount, hierarchy.own, name)
    apart = machine.systemd and scope.is_dir() and machine.writable(scope)
    refusals = []
    prepared: dict[Path, bool] = {}
    for base in (own, scope) if apart else (own,):
        why = _prepare_v2(base, machine, ours=base == scope)
        prepared[base] = not why
        refusals += [why] if why else []
    if apart and prepared[scope]:
        # Without groups of its own the platform stays where it is; users' limits hold all the same.
        return _tried(Cgroups((scope,), 2, name, machine.tree, (own,) if prepared[own] else ()))
    if not prepared[own]:
        return None, refusals[0]
    return _tried(Cgroups((own,), 2, name, machine.tree))


def _prepare_v2(base: Path, machine: Machine, *, ours: bool) -> str:
    """Make `base` ready to be divided; why that is not possible, or ""."""
    inside = _read(base / "cgroup.procs").split()
    if machine.systemd and not ours and not machine.delegated(base):
        # systemd's user manager marks nothing (systemd 252, 257): a group that is this user's is delegated. But a
        # terminal's group is theirs too, so in a group that systemd-run did not make nobody else's processes may be.
        # To root everything is writable.
        if machine.root or not machine.owned(base):
            return (
                f"systemd has delegated no control group to this {'process' if machine.root else 'user'}"
                f" (a service has one: tidehub service install{'' if machine.root else ' --user'})"
            )
        made_for_us = base.name.endswith(".scope") and base.name.startswith(("run-", "tidehub-"))
        if not made_for_us and (strangers := sorted(set(inside) - machine.family())):
            return (
                f"other programs (process {strangers[0]}) share the control group {base}"
                " (a service has one of its own: tidehub service install --user)"
            )
    if not machine.writable(base):
        return f"the control group {base} may not be changed by this user"
    kind = _read(base / "cgroup.type").strip()
    if kind == "domain threaded":
        # Divided while processes were in it. It can be made whole again as long as nothing below uses it.
        for controller in _read(base / "cgroup.subtree_control").split():
            with contextlib.suppress(OSError):
                machine.tree.write(base / "cgroup.subtree_control", f"-{controller}")
        kind = _read(base / "cgroup.type").strip()
    if kind not in ("", "domain"):
        return (
            f"the control group {base} is spoilt ({kind}): it was divided while processes were in it, and takes"
            " memory limits only after it was made anew (restart the unit or scope)"
        )
    try:
        # The real root of the hierarchy has no type, and may hold processes.
        for _ in range(_TRIES):
            if kind:
                move_in(base, machine.tree)
            try:
                usable = hand_down(base, machine.tree)
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                continue  # a process was started in it meanwhile
            break
        else:
            return f"processes in the control group {base} keep it from having groups with limits"
    except OSError as error:
        return f"the control group {base} cannot be divided: {error.strerror}"
    return "" if usable else f"the control group {base} was given no memory, CPU or process controller"


def move_in(base: Path, tree: Tree) -> None:
    """Move every process of `base` into a leaf of its own."""
    for _ in range(_TRIES):
        pids = _read(base / "cgroup.procs").split()
        if not pids:
            return
        with contextlib.suppress(FileExistsError):
            tree.make(base / OWN_LEAF)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                tree.write(base / OWN_LEAF / "cgroup.procs", pid)


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
