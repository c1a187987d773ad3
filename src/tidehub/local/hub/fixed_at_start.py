"""What a notebook server takes on at its start and keeps until its end, by the site and its owner's memberships.

Pure. Two of these are compared to say whether a change of the site concerns a server that runs; `server_command` and
the spawner carry out what is named here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tidehub.local.hub.server_command import USUAL_ACTIVITY_INTERVAL, activity_interval
from tidehub.local.hub.spawn_page import find_server
from tidehub.login.entitled import entitled
from tidehub.site.model import Bytes, Cores, Site


@dataclass(frozen=True)
class Started:
    """A server as the hub's database has it. `profile` is the slug that was chosen, None for the preselected one."""

    user: str
    profile: str | None
    groups: tuple[str, ...] = ()
    """The memberships that its owner has now."""


@dataclass(frozen=True)
class FixedAtStart:
    """What a server cannot change while it runs. `environment` names a version, `scheduler` where clusters are."""

    profile: str
    environment: str
    memory: Bytes
    cpu: Cores
    processes: int
    activity_interval: int
    dask: bool
    scheduler: str


def fixed_at_start(site: Site, environments: Mapping[str, str], server: Started) -> FixedAtStart | None:
    """What `server` would have if it started now; None where its owner may not start it.

    `environments`: the version of each profile's, by slug.
    """
    user = entitled(site, server.user, server.groups)
    try:
        chosen = find_server(user, server.profile)
    except ValueError:
        return None
    machine, dask = site.machine, user.dask is not None
    shown = f"{machine.address}:{machine.scheduler_port}" if machine.scheduler_port is not None else ""
    return FixedAtStart(
        profile=chosen.profile.slug,
        environment=environments.get(chosen.profile.slug, ""),
        memory=chosen.memory,
        cpu=chosen.cpu,
        processes=site.notebooks.max_processes,
        activity_interval=activity_interval(site.notebooks.idle_timeout, USUAL_ACTIVITY_INTERVAL),
        dask=dask,
        scheduler=shown if dask else "",
    )
