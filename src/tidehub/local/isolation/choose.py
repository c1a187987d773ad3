"""Which isolation this machine allows; the last resort is none, for one user at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial

from tidehub.errors import TidehubError, UsageError

from .base import Isolation
from .bubblewrap import INSTALL, BubblewrapIsolation, obstacle
from .cgroup_bases import find_cgroups
from .launches import Launched, handle_alive
from .model import LaunchSpec
from .root import RootIsolation, root_refusal
from .trees import Ground, IsolationPlaces, members
from .users import DEFAULT_UIDS, UidClaims

KINDS = ("root", "bubblewrap", "single")


def choose_isolation(
    places: IsolationPlaces,
    *,
    require: str | None = None,
    uids: range = DEFAULT_UIDS,
) -> Isolation:
    """The strongest isolation that really works here, or exactly `require`.

    Tries what it returns: control groups are made and removed, a sandbox is run. Raises `TidehubError` with the
    reason and the remedy if `require` does not work, `UsageError` if there is no such kind.
    """
    if require is not None and require not in KINDS:
        raise UsageError(f"there is no isolation {require!r}", expected=" or ".join(KINDS))
    superuser = os.geteuid() == 0
    cgroups, why = find_cgroups(places.platform_id)
    ground = Ground.of(
        places,
        cgroups=cgroups,
        no_cgroups=why,
        uids=uids,
        claims=UidClaims(places.private.parent, places.platform_id) if superuser else None,
    )
    if require == "root" or (require is None and superuser):
        refusal = root_refusal(ground) if superuser else "tidehub was not started as root"
        if not refusal:
            return RootIsolation(ground)
        if require == "root":
            raise TidehubError(
                f"users cannot have uids of their own: {refusal}", fix="start as root of the machine"
            )
    if require == "single":
        return SingleIsolation(ground)
    found = obstacle()
    if found is None:
        return BubblewrapIsolation(ground)
    if require == "bubblewrap":
        raise TidehubError(found.what, fix=found.fix)
    return SingleIsolation(ground, fix=found.fix)


class SingleIsolation(Isolation):
    """No walls: whose processes run has the machine, across restarts of the platform."""

    kind = "single"

    def __init__(self, ground: Ground, fix: str = INSTALL) -> None:
        super().__init__(ground)
        self._fix = fix

    def _admit(self, spec: LaunchSpec) -> None:
        self._refuse(spec, self._launches.all())

    def _refusal(self, spec: LaunchSpec) -> Callable[[Sequence[Launched]], None]:
        return partial(self._refuse, spec)

    def _refuse(self, spec: LaunchSpec, launched: Sequence[Launched]) -> None:
        for line in launched:
            if line.user != spec.user.name and self._lives(line):
                raise TidehubError(
                    f"{line.user!r} is using this machine, which without sandboxes serves one user at a time",
                    expected=f"{line.user!r} stops their server and clusters first",
                    fix=f"for several users at once: {self._fix}",
                )

    def _lives(self, line: Launched) -> bool:
        handle = line.handle
        if handle.cgroup:
            return handle_alive(handle) or bool(self._groups.group(handle.cgroup).processes())
        return bool(members(handle))

    def gaps(self) -> list[str]:
        """See `Isolation.gaps`."""
        only_one = "Only one user at a time can work here: nothing would keep several users' programs apart."
        lines = [f"{only_one} For several: {self._fix}."]
        lines += self._common_gaps()
        if not self.capabilities.processes:
            lines.append("The number of processes is not limited.")
        return lines
