"""Where this platform may make control groups: the group in which it was started, or a scope of its own.

Never the root of a hierarchy that is systemd's. v2 allows processes in leaf groups only (cgroup-v2.rst, "No Internal
Process Constraint"), so the processes of a base are moved into a leaf before it is divided.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tidehub import program
from tidehub.errors import TidehubError
from tidehub.system.processes import all_stats

from .cgroup_files import Tree
from .cgroups import OWN_LEAF, SLICE, TRIES, WANTED, Capabilities, Cgroups, hand_down, read
from .trees import related

_USER_MANAGER = re.compile(r"user@\d+\.service")


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
            mountinfo=read("/proc/self/mountinfo"),
            own=read("/proc/self/cgroup"),
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
            names = frozenset(read(Path(mount) / "cgroup.controllers").split()) & set(WANTED)
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
    inside = read(base / "cgroup.procs").split()
    if machine.systemd and not ours and not machine.delegated(base):
        # systemd's user manager marks nothing (systemd 252, 257): a group that is this user's is delegated. But a
        # terminal's group is theirs too, so in a group that systemd-run did not make nobody else's processes may be.
        # To root everything is writable.
        if machine.root or not machine.owned(base):
            return (
                f"systemd has delegated no control group to this {'process' if machine.root else 'user'}"
                f" (a service has one: {program.command('service')} install{'' if machine.root else ' --user'})"
            )
        made_for_us = base.name.endswith(".scope") and base.name.startswith(("run-", "tidehub-"))
        if not made_for_us and (strangers := sorted(set(inside) - machine.family())):
            return (
                f"other programs (process {strangers[0]}) share the control group {base}"
                f" (a service has one of its own: {program.command('service', 'install', '--user')})"
            )
    if not machine.writable(base):
        return f"the control group {base} may not be changed by this user"
    kind = read(base / "cgroup.type").strip()
    if kind == "domain threaded":
        # Divided while processes were in it. It can be made whole again as long as nothing below uses it.
        for controller in read(base / "cgroup.subtree_control").split():
            with contextlib.suppress(OSError):
                machine.tree.write(base / "cgroup.subtree_control", f"-{controller}")
        kind = read(base / "cgroup.type").strip()
    if kind not in ("", "domain"):
        return (
            f"the control group {base} is unusable ({kind}): it was divided while processes were in it, and takes"
            " memory limits only after it was made anew (restart the unit or scope)"
        )
    try:
        # The real root of the hierarchy has no type, and may hold processes.
        for _ in range(TRIES):
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
    for _ in range(TRIES):
        pids = read(base / "cgroup.procs").split()
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
