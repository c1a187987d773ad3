"""What a user may start, on Kubernetes: KubeSpawner's list of profiles, cut to what `tidehub.login.entitled` says.

The text travels into the hub's image, where Python may be 3.8. KubeSpawner 1 to 7 takes a function for its list of
profiles and asks it for the page and again at every start, so what is not in a user's list cannot be started.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from copy import deepcopy
from typing import Any

from tornado import web

from tidehub.login.entitled import Entitled, entitled
from tidehub.login.plain import plain_site


class MayNotStart(web.HTTPError):
    """The user asked for what others may start, or may start nothing. Words for the user."""

    def __init__(self, message: str) -> None:
        super().__init__(403, "%s", message)
        self.jupyterhub_message = message


class ServerChoices:
    """`policy` is `plain.policy_of(site)`, `profiles` KubeSpawner's list for everybody, `words` the site's name and
    contact. `memberships(spawner)` gives the owner's memberships, or awaits them.
    """

    def __init__(
        self,
        policy: dict[str, Any],
        profiles: list[dict[str, Any]],
        words: dict[str, Any],
        memberships: Callable[[Any], Any],
    ) -> None:
        self._site, self._words, self._memberships = plain_site(policy), words, memberships
        self._profiles = list(profiles)

    def profile_list(self, spawner: Any) -> asyncio.Future[list[dict[str, Any]]]:
        """The profiles that the owner of this server may start, with their sizes. Raises `MayNotStart` without any.

        A future, because KubeSpawner before 5 takes a coroutine for the list itself (tornado's `maybe_future`).
        """
        return asyncio.ensure_future(self._listed(spawner))

    async def _listed(self, spawner: Any) -> list[dict[str, Any]]:
        user = await self._user(spawner)
        shown = [entry for entry in (self._entry(known, user) for known in self._profiles) if entry]
        if not shown:
            raise MayNotStart(self._nothing())
        return shown

    async def before_start(self, spawner: Any) -> None:
        """KubeSpawner's hook before a start: who names a profile of others reads so, and nothing is remembered."""
        if hasattr(spawner, "_profile_list"):
            # KubeSpawner before 5 keeps a user's list; memberships change.
            spawner._profile_list = None
        user = await self._user(spawner)
        slug = (spawner.user_options or {}).get("profile")
        if not user.servers:
            raise MayNotStart(self._nothing())
        if slug is not None and user.server(slug) is None:
            known = ", ".join(server.profile.slug for server in user.servers)
            raise MayNotStart(f"There is no profile {slug!r} that you may start; possible: {known}.")

    def server_token_scopes(self, spawner: Any) -> list[str]:
        """The scopes of the token inside a server: Dask Gateway's only for users who may start clusters."""
        user = self.of(spawner, self._memberships(spawner))
        dask = ["access:services!service=dask-gateway"] if user.dask is not None else []
        return ["users:activity!user", "access:servers!server", *dask]

    def of(self, spawner: Any, groups: list[str]) -> Entitled:
        """What the owner of this server has by these memberships."""
        return entitled(self._site, spawner.user.name, groups)  # type: ignore[arg-type]

    async def _user(self, spawner: Any) -> Entitled:
        groups = self._memberships(spawner)
        return self.of(spawner, groups if isinstance(groups, list) else await groups)

    def _entry(self, known: dict[str, Any], user: Entitled) -> dict[str, Any] | None:
        server = user.server(known.get("slug", ""))
        if server is None:
            return None
        entry = deepcopy(known)
        entry["default"] = server is user.default
        # All four, always: KubeSpawner does not take back what an earlier start has set.
        entry["kubespawner_override"] = {
            **entry.get("kubespawner_override", {}),
            "cpu_guarantee": server.cpu.guarantee,
            "cpu_limit": server.cpu.limit,
            "mem_guarantee": server.memory.guarantee,
            "mem_limit": server.memory.limit,
        }
        return entry

    def _nothing(self) -> str:
        contact = f" Questions: {self._words['contact']}" if self._words.get("contact") else ""
        return f"You may enter {self._words['name']}, but none of its environments is open to your account.{contact}"


def groups_of(spawner: Any) -> list[str]:
    """The memberships of a server's owner as the hub keeps them: since its last question to the provider."""
    return [group.name for group in spawner.user.groups]
