"""Ends clusters whose owner has had no notebook server for a while, or may not have clusters any more.

The backends of both targets use it; each has the clusters in `db`, and `settings`, `memberships` and `entitled`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tidehub.errors import TidehubError
from tidehub.site.units import format_duration

_TIMEOUT = asyncio.TimeoutError  # another class in Python 3.10, which older images have
PAGE = 200


@dataclass
class Orphans:
    """Since when each person with clusters has no server. Times in seconds, of any steady clock."""

    grace: float
    _alone: dict[str, float] = field(default_factory=dict)

    def due(self, owners: Iterable[str], present: Iterable[str] | None, now: float) -> set[str]:
        """Whose clusters are to be ended now.

        `owners` have clusters, `present` have a running server; None when the hub cannot be asked: then
        nobody is due, and the time does not count, since they may all be there.
        """
        if present is None:
            self._alone.clear()
            return set()
        alone = set(owners) - set(present)
        self._alone = {name: self._alone.get(name, now) for name in alone}
        return {name for name, since in self._alone.items() if now - since >= self.grace}


class HubUnreachable(TidehubError):
    """The hub does not say who has a server."""


async def people_with_servers(
    session: aiohttp.ClientSession, hub_api_url: str, token: str
) -> dict[str, tuple[str, ...] | None]:
    """Who has a server that runs, starts or stops, as the hub says (`GET /users?state=active`), and their groups;
    None where the token may not read them.

    Raises `HubUnreachable`. A starting server counts: the hub lists it as pending, not as ready.
    """
    headers = {"Authorization": f"token {token}", "Accept": "application/jupyterhub-pagination+json"}
    timeout = aiohttp.ClientTimeout(total=20)
    people: dict[str, tuple[str, ...] | None] = {}
    offset = 0
    try:
        while True:
            query = {"state": "active", "offset": str(offset), "limit": str(PAGE)}
            async with session.get(
                f"{hub_api_url}/users", params=query, headers=headers, timeout=timeout
            ) as answer:
                if answer.status != 200:
                    raise HubUnreachable(f"the hub answered {answer.status} when asked who has a server")
                page: Any = await answer.json()
            people |= {user["name"]: _groups(user) for user in page["items"]}
            following = page["_pagination"]["next"]
            if not following:
                return people
            offset = int(following["offset"])
    except (_TIMEOUT, aiohttp.ClientError, KeyError, TypeError, ValueError) as error:
        raise HubUnreachable(f"the hub does not say who has a server: {type(error).__name__}") from error


def _groups(user: dict[str, Any]) -> tuple[str, ...] | None:
    return tuple(user["groups"]) if "groups" in user else None


async def reap_forever(backend: Any) -> None:
    """Look again and again, until cancelled."""
    orphans = Orphans(backend.settings.site.dask.cluster.orphan_grace)
    while True:
        await asyncio.sleep(backend.reap_period)
        try:
            await reap(backend, orphans)
        except Exception as error:
            backend.log.warning("Exception while looking for clusters without a server", exc_info=error)


async def reap(backend: Any, orphans: Orphans) -> None:
    """One look: end the clusters that are due."""
    clusters = list(backend.db.active_clusters())
    present: dict[str, tuple[str, ...] | None] | None = None
    try:
        if clusters:
            present = await people_with_servers(
                backend.session, backend.settings.hub_api_url, backend.reaper_token
            )
    except HubUnreachable as error:
        backend.log.info("No cluster is ended for lack of a server: %s", error)
    due = orphans.due({c.username for c in clusters}, present, asyncio.get_running_loop().time())
    known = {name: groups for name, groups in (present or {}).items() if groups is not None}
    backend.memberships.update(known)
    for cluster in clusters:
        if cluster.username in known and backend.entitled(cluster.username).dask is None:
            backend.log.warning("Cluster %s is ended: its owner may not have clusters now", cluster.name)
            await backend.stop_cluster(cluster.name)
        elif cluster.username in due:
            grace = format_duration(orphans.grace)
            backend.log.warning(
                "Cluster %s is ended: its owner has had no server for %s", cluster.name, grace
            )
            await backend.stop_cluster(cluster.name)
