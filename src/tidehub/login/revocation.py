"""Asks again about users who do not click, and ends everything of those who are no longer members.

Upstream asks only when a browser or a program comes to the hub. A server that runs and a token that lies in a
script would otherwise outlive the membership they were given for.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from typing import Any
from urllib.parse import quote

from jupyterhub import orm
from jupyterhub.utils import new_token
from tornado.httpclient import AsyncHTTPClient, HTTPRequest

AT_ONCE = 8
"""Users asked about at the same time."""
PENDING_PATIENCE = 60.0
"""Seconds that a server may take to start or stop before it is stopped all the same."""
_CLUSTER_SCOPES = ["access:services!service=dask-gateway", "read:users!user", "read:users:groups!user"]


class Revocation:
    """The watch of one hub. `authenticator` is our class, `app` the JupyterHub application."""

    def __init__(self, authenticator: Any, app: Any) -> None:
        self.authenticator = authenticator
        self.app = app
        self.log = authenticator.log
        self._ending: set[str] = set()
        self._tasks: set[asyncio.Task[Any]] = set()

    def begin(self) -> None:
        """Watch until the hub ends."""
        self._keep(asyncio.get_running_loop().create_task(self._watch()))

    def end_soon(self, user: Any, why: str) -> None:
        """End everything of a user, without making the caller wait."""
        self._keep(asyncio.get_running_loop().create_task(self.end(user, why)))

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch(self) -> None:
        every = self.authenticator.check_every
        if every <= 0:
            return
        while True:
            # A fifth of the interval, so that no check waits longer than the interval; spread over hubs.
            await asyncio.sleep(max(0.5, every / 5) * random.uniform(0.9, 1.0))
            try:
                await self.round(every * 0.7)
            except Exception:
                self.log.exception("the check of memberships failed; it is tried again")

    async def round(self, age: float) -> None:
        """Asks about everybody with a server or a token who was not asked about for `age` seconds."""
        limit = asyncio.Semaphore(AT_ONCE)

        async def one(user: Any) -> None:
            async with limit:
                try:
                    await self.check(user)
                except Exception:
                    self.log.exception("the membership of %s could not be checked", user.name)

        now = time.monotonic()
        due = [user for user in self.active() if now - self.authenticator.last_asked(user.name) >= age]
        await asyncio.gather(*(one(user) for user in due))

    def active(self) -> list[Any]:
        """Users with a token, or a server that runs, starts or stops."""
        db, users = self.app.db, self.app.users
        holders = {
            row.user_id for row in db.query(orm.APIToken.user_id).filter(orm.APIToken.user_id.isnot(None))
        }
        holders |= {
            row.user_id for row in db.query(orm.Spawner.user_id).filter(orm.Spawner.server_id.isnot(None))
        }
        found = {row.id: users[row] for row in db.query(orm.User).filter(orm.User.id.in_(holders))}
        found |= {user.id: user for user in list(users.values()) if user.active}
        return list(found.values())

    async def check(self, user: Any) -> None:
        """Asks the provider about one user and does what follows from the answer."""
        verdict, model = await self.authenticator.ask_again(user)
        if verdict == "refused":
            await self.end(user, "the membership is lost")
        elif verdict != "confirmed" and self.authenticator.too_long_unsure(user.name):
            await self.end(user, f"the identity provider has not confirmed it for {self._grace()}")
        elif isinstance(model, dict):
            self._apply(user, model)

    def _grace(self) -> str:
        hours = self.authenticator.grace / 3600
        return f"{hours:g} h" if hours >= 1 else f"{self.authenticator.grace:g} s"

    def _apply(self, user: Any, model: dict[str, Any]) -> None:
        """What the hub does after a refresh: groups and admin as the provider says now."""
        from jupyterhub import roles

        if model["admin"] is not None and model["admin"] != user.admin:
            user.admin = model["admin"]
        roles.assign_default_roles(self.app.db, entity=user.orm_user)
        if model.get("groups") is not None:
            user.sync_groups(model["groups"])
        self.app.db.commit()
        user._auth_refreshed = time.monotonic()

    async def end(self, user: Any, why: str) -> None:
        """Ends sessions, tokens, clusters and servers of a user. What fails is tried again at the next round."""
        if user.name in self._ending:
            return
        self._ending.add(user.name)
        try:
            sessions = self._end_sessions(user)
            clusters = await self._end_clusters(user)
            servers = await self._end_servers(user)
            tokens = sessions + self._delete_tokens(user)
            await user.save_auth_state(None)
            self.log.warning(
                "ended everything of %s, because %s: %d tokens, %d servers, %d clusters",
                user.name,
                why,
                tokens,
                servers,
                clusters,
            )
        finally:
            self._ending.discard(user.name)

    def _end_sessions(self, user: Any) -> int:
        user.orm_user.cookie_id = new_token()
        count = self._delete_tokens(user)
        for code in self.app.db.query(orm.OAuthCode).filter_by(user_id=user.id):
            self.app.db.delete(code)
        self.app.db.commit()
        return count

    def _delete_tokens(self, user: Any) -> int:
        tokens = self.app.db.query(orm.APIToken).filter_by(user_id=user.id).all()
        for token in tokens:
            self.app.db.delete(token)
        self.app.db.commit()
        return len(tokens)

    async def _end_servers(self, user: Any) -> int:
        count = 0
        for name, spawner in list(user.spawners.items()):
            if not spawner.active:
                continue
            deadline = time.monotonic() + PENDING_PATIENCE
            while spawner.pending and time.monotonic() < deadline:
                await asyncio.sleep(0.5)
            if not spawner.active:
                continue
            spawner._stop_pending = True
            try:
                await self.app.proxy.delete_user(user, name)
                await user.stop(name)
                count += 1
            except Exception:
                self.log.exception("the server %s/%s could not be stopped", user.name, name)
            finally:
                spawner._stop_pending = False
        return count

    async def _end_clusters(self, user: Any) -> int:
        """With a token of the user's own, which upstream's gateway understands too, and which is deleted after."""
        address = self.authenticator.gateway_url.rstrip("/")
        if not address:
            return 0
        token = user.new_api_token(
            note="ends the clusters of a former member", scopes=_CLUSTER_SCOPES, expires_in=120
        )
        count = 0
        try:
            listed = await self._gateway(f"{address}/api/v1/clusters/", token, "GET")
            for name in json.loads(listed.body or b"{}"):
                await self._gateway(f"{address}/api/v1/clusters/{quote(name, safe='')}", token, "DELETE")
                count += 1
        except Exception as error:
            self.log.warning("clusters of %s could not be ended now: %s", user.name, type(error).__name__)
        return count

    async def _gateway(self, url: str, token: str, method: str) -> Any:
        request = HTTPRequest(
            url, method, headers={"Authorization": f"jupyterhub {token}"}, request_timeout=20
        )
        return await AsyncHTTPClient().fetch(request)
