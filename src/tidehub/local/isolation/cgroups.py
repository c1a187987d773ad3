"""The control groups of one platform; `cgroup_bases.py` finds where they may be.

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
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tidehub.errors import Place, TidehubError

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
)
from .model import Limits
from .users import safe_slug

WANTED = ("memory", "cpu", "pids")
"""Controllers, in the order in which they are handed down; see `hand_down`."""
OWN_LEAF = "tidehub-platform"
"""For processes that were in the base before it was divided."""
PLATFORM, USERS = "platform", "users"
SLICE = "tidehub.slice"
TRIES = 8


@dataclass(frozen=True)
class Capabilities:
    """What the groups of this machine can enforce for us."""

    memory: bool = False
    swap: bool = False
    cpu: bool = False
    processes: bool = False


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
        try:
            part = self._group(self._way(base, self.name, PLATFORM, name) for base in self._own_bases)
        except OSError as error:
            raise self._refused(error) from error
        above, top = part.above(0), part.above(1)
        for group in (above, top):
            group.weigh(PLATFORM_WEIGHT)
        for group in (above, part):
            group.protect(PLATFORM_MEMORY)
        if name in PROMPT_PARTS:
            part.weigh(PROMPT_WEIGHT)
        for group in (top, *self._scopes(self._own_bases)):
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
        for base in self._own_bases:
            # v2 refuses: processes are in leaf groups only. There the group goes with the unit that holds it.
            with contextlib.suppress(OSError):
                self.tree.write(base / "cgroup.procs", str(os.getpid()))
        platform = self._group(base / self.name / PLATFORM for base in self._own_bases)
        for part in platform.inner():
            part.remove()
        for base in self.bases if self.platform_bases else ():
            # The process that keeps the users' scope, unless users' programs are left in it.
            if base.name.endswith("-users.scope") and not (base / self.name).exists():
                self._group([base / OWN_LEAF]).signal_kill()
        platform.remove()
        platform.above(0).remove()

    def create(self, number: int, family: str, name: str, limits: Limits) -> Group:
        """A new empty group with its limits, counted among its user's; raises `TidehubError` with the reason."""
        try:
            for _ in range(TRIES):
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
        raise TidehubError(f"cannot make a control group for {name!r}: {TRIES} random names are all taken")

    def _refused(self, error: OSError) -> TidehubError:
        return TidehubError(
            f"cannot make a control group: {error.strerror}",
            where=Place(str(error.filename or self.bases[0])),
        )

    def group(self, state: Iterable[str]) -> Group:
        """The group that a handle names."""
        return self._group(Path(path) for path in state)

    def remove(self, group: Group) -> bool:
        """Remove an empty group and the groups above it that nothing is left in; False if processes are in it."""
        gone = group.remove()
        number = next((path.parent.name for path in group.dirs), "")
        if gone and number.isdigit():
            for level in (0, 1, 2):
                group.above(level).remove()
            self._sum_up(int(number))
        return gone

    def all(self, family: str | None = None) -> list[Group]:
        """Every group of this platform, or those of one family."""
        groups = [group for user in self._users.inner() for group in user.inner()]
        return [g for g in groups if family is None or g.dirs[0].name.startswith(f"{family}.")]

    def dismantle(self) -> None:
        """Remove all empty groups of this platform; those with processes stay."""
        for group in self.all():
            self.remove(group)
        for user in self._users.inner():
            user.remove()
        self._users.remove()
        self._users.above(0).remove()

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
            if path not in ours and read(path / "memory.low").strip() == "0"
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
            return Capabilities(
                memory=trial.has("memory.max", "memory.limit_in_bytes"),
                swap=trial.has("memory.swap.max", "memory.memsw.limit_in_bytes"),
                cpu=trial.has("cpu.max", "cpu.cfs_quota_us"),
                processes=trial.has("pids.max"),
            )
        finally:
            self.remove(trial)

    def _group(self, dirs: Iterable[Path]) -> Group:
        return Group(tuple(dirs), self.tree)

    @property
    def _own_bases(self) -> tuple[Path, ...]:
        return self.platform_bases or self.bases

    @property
    def _users(self) -> Group:
        """The group above those of all users."""
        return self._group(base / self.name / USERS for base in self.bases)

    def _sum_up(self, number: int) -> None:
        """Hub and gateway do this at the same time; a lock could be held by any user, who may open these groups.

        Who writes last looks again afterwards, so what stands in the end is the sum of what is there.
        """
        users = self._users
        user, top = self._group(path / str(number) for path in users.dirs), users.above(0)
        with contextlib.suppress(TidehubError):
            # The last user's groups may be removed meanwhile, by this or another part.
            users.weigh(USERS_WEIGHT)
            top.weigh(PLATFORM_WEIGHT)
        before: object = None
        for _ in range(TRIES):
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
            self._group([path])
            for base in bases
            if base.parent.name == SLICE and base.name.endswith((".scope", ".service"))
            for path in (base, base.parent)
        ]

    def _make(self, number: int, leaf: str) -> Group | None:
        """The leaf's directories; None if it is there already and in use or not ours to reuse."""
        dirs: list[Path] = []
        for base in self.bases:
            for _ in range(TRIES):
                try:
                    path = self._way(base, self.name, USERS, str(number))
                    if self.version == 2:
                        hand_down(path, self.tree)
                    self.tree.make(path / leaf)
                except FileNotFoundError:
                    continue  # the other process of the platform removed the empty parent meanwhile
                except FileExistsError:
                    self._group(dirs).remove()
                    return None
                break
            else:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(base / self.name))
            dirs.append(path / leaf)
        return self._group(dirs)

    def _way(self, base: Path, *names: str) -> Path:
        """The group below `base` by these names, made with those above it, which may have groups with limits (v2)."""
        path = base
        for name in names:
            if self.version == 2:
                hand_down(path, self.tree)
            path = path / name
            with contextlib.suppress(FileExistsError):
                self.tree.make(path)
        return path


def hand_down(group: Path, tree: Tree) -> set[str]:
    """v2: let the groups below `group` use its controllers; which of ours they can then use.

    `memory` comes first: it is refused (EBUSY) while processes are in the group, where `cpu` would be accepted and
    spoil the group. Raises `OSError`: EBUSY with processes inside, EOPNOTSUPP for a group that is spoilt already.
    """
    offered = set(read(group / "cgroup.controllers").split()) & set(WANTED)
    enabled = set(read(group / "cgroup.subtree_control").split())
    for controller in (name for name in WANTED if name in offered - enabled):
        try:
            tree.write(group / "cgroup.subtree_control", f"+{controller}")
        except OSError as error:
            if error.errno in (errno.EBUSY, errno.EOPNOTSUPP):
                raise
            continue  # this controller cannot be handed down here; capabilities() will say so
        enabled.add(controller)
    return enabled & set(WANTED)


def read(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""
