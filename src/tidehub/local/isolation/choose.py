"""Which isolation this machine allows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from tidehub.errors import TidehubError, UsageError

from .base import Ground, Isolation
from .bubblewrap import BubblewrapIsolation, obstacle
from .cgroups import find_cgroups
from .root import RootIsolation, root_refusal
from .single import SingleIsolation
from .uid_claims import UidClaims
from .users import DEFAULT_UIDS

KINDS = ("root", "bubblewrap", "single")


class IsolationPlaces(Protocol):
    """What an isolation needs to know of the state's places."""

    @property
    def private(self) -> Path: ...
    @property
    def homes(self) -> Path: ...
    @property
    def run(self) -> Path: ...
    @property
    def logs(self) -> Path: ...
    @property
    def log_pipes(self) -> Path: ...
    @property
    def platform_id(self) -> str: ...


def choose_isolation(
    places: IsolationPlaces,
    *,
    require: str | None = None,
    uids: range = DEFAULT_UIDS,
    proxy_gid: int | None = None,
) -> Isolation:
    """The strongest isolation that really works here, or exactly `require`.

    Tries what it returns: control groups are made and removed, a sandbox is run. Raises `TidehubError` with the
    reason and the remedy if `require` does not work, `UsageError` if there is no such kind.
    """
    if require is not None and require not in KINDS:
        raise UsageError(f"there is no isolation {require!r}", expected=" or ".join(KINDS))
    superuser = os.geteuid() == 0
    cgroups, why = find_cgroups(places.platform_id)
    ground = Ground(
        private=places.private,
        homes=places.homes,
        run=places.run,
        logs=places.logs,
        log_pipes=places.log_pipes,
        cgroups=cgroups,
        no_cgroups=why,
        uids=uids,
        proxy_gid=proxy_gid,
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
