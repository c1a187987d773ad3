"""Ends clusters that nobody has used for a while and whose owner has no notebook server, or may not have clusters.

The backends of both targets use it; each has the clusters in `db`, `settings`, `memberships`, `entitled`, and
`dashboard_to_ask`, which gives the origin and the headers to ask a cluster with, or None while it waits for its turn.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tidehub.errors import TidehubError
from tidehub.site.units import format_duration

_TIMEOUT = asyncio.TimeoutError  # another class in Python 3.10, which older images have
PAGE = 200
WORK = ("processing", "waiting", "unrunnable")
ASK_SECONDS = 5.0
ASKED_AT_ONCE = 8
MOST_COUNTS = 64 * 1024


@dataclass
class Orphans:
    """When each cluster last had a sign that somebody wants it. Times in seconds, of any steady clock."""

    grace: float
    _last: dict[str, float] = field(default_factory=dict)

    def alone(self, owners: Mapping[str, str], present: Iterable[str] | None) -> set[str]:
        """The clusters of `owners` (cluster to owner) whose owner has no server: those to ask whether they are used."""
        there = set(owners.values()) if present is None else set(present)
        return {name for name, owner in owners.items() if owner not in there}

    def due(
        self, owners: Mapping[str, str], present: Iterable[str] | None, used: Container[str], now: float
    ) -> set[str]:
        """Which clusters are to be ended now.

        `present` have a running server; None when the hub cannot be asked: they may all be there. `used` are
        clusters that compute or have a client. Either is a sign, and so is the first look at a cluster, hence a
        cluster lives for the grace at least, after a restart of the gateway too.
        """
        alone = self.alone(owners, present)
        self._last = {
            name: self._last.get(name, now) if name in alone and name not in used else now for name in owners
        }
        return {name for name in alone if name not in used and now - self._last[name] >= self.grace}


def in_use(counts: Any) -> bool:
    """Whether a cluster computes or has a client, by what distributed's `/json/counts.json` tells (pure).

    distributed 2022 to 2026: one of the clients that are counted is the scheduler's own, for `fire_and_forget`, and
    queued tasks are seen only in the wish for workers. What its owner's scheduler says may be anything.
    """
    if not isinstance(counts, dict):
        return False

    def count(name: str) -> float:
        value = counts.get(name, 0)
        return value if isinstance(value, (int, float)) else 0

    starving = count("workers") == 0 and count("desired_workers") > 0
    return count("clients") > 1 or starving or any(count(kind) > 0 for kind in WORK)


async def ask_use(session: aiohttp.ClientSession, dashboard: str, headers: Mapping[str, str]) -> bool:
    """Whether the cluster with this dashboard says that it is used; what does not answer in time gives no sign.

    It reads `MOST_COUNTS` bytes at most and follows nowhere, since its owner runs what answers.
    """
    try:
        async with session.get(
            f"{dashboard}/json/counts.json",
            headers=headers,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=ASK_SECONDS),
        ) as answer:
            if answer.status != 200:
                return False
            text = bytearray()
            while len(text) <= MOST_COUNTS and (more := await answer.content.read(MOST_COUNTS)):
                text += more
            return len(text) <= MOST_COUNTS and in_use(json.loads(text))
    except (_TIMEOUT, aiohttp.ClientError, ValueError, RecursionError):
        return False


class HubUnreachable(TidehubError):
    """The hub does not say who has a server."""


async def users_with_servers(
    session: aiohttp.ClientSession, hub_api_url: str, token: str
) -> dict[str, tuple[str, ...] | None]:
    """Who has a server that runs, starts or stops, as the hub says (`GET /users?state=active`), and their groups;
    None where the token may not read them.

    Raises `HubUnreachable`. A starting server counts: the hub lists it as pending, not as ready.
    """
    headers = {"Authorization": f"token {token}", "Accept": "application/jupyterhub-pagination+json"}
    timeout = aiohttp.ClientTimeout(total=20)
    users: dict[str, tuple[str, ...] | None] = {}
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
            users |= {user["name"]: _groups(user) for user in page["items"]}
            following = page["_pagination"]["next"]
            if not following:
                return users
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
            present = await users_with_servers(
                backend.hub_session, backend.settings.hub_api_url, backend.reaper_token
            )
    except HubUnreachable as error:
        backend.log.info("No cluster is ended for lack of a server: %s", error)
    owners = {cluster.name: cluster.username for cluster in clusters}
    used = await _used(backend, [c for c in clusters if c.name in orphans.alone(owners, present)])
    due = orphans.due(owners, present, used, asyncio.get_running_loop().time())
    known = {name: groups for name, groups in (present or {}).items() if groups is not None}
    backend.memberships.update(known)
    for cluster in clusters:
        if cluster.username in known and backend.entitled(cluster.username).dask is None:
            backend.log.warning("Cluster %s is ended: its owner may not have clusters now", cluster.name)
            await backend.stop_cluster(cluster.name)
        elif cluster.name in due:
            grace = format_duration(orphans.grace)
            backend.log.warning(
                "Cluster %s is ended: no client, no computation and no server of its owner for %s",
                cluster.name,
                grace,
            )
            await backend.stop_cluster(cluster.name)


async def _used(backend: Any, clusters: list[Any]) -> set[str]:
    """Those of the clusters that are used; one that waits for its turn cannot have a client yet, and is wanted."""
    few = asyncio.Semaphore(ASKED_AT_ONCE)

    async def used(cluster: Any) -> bool:
        where = backend.dashboard_to_ask(cluster)
        if where is None:
            return True
        async with few:
            return await ask_use(backend.session, *where)

    answers = await asyncio.gather(*(used(cluster) for cluster in clusters))
    return {cluster.name for cluster, answer in zip(clusters, answers, strict=True) if answer}
