"""JupyterHub as this machine runs it: input is checked before it is stored, and what was stored before it is read."""

from __future__ import annotations

import asyncio
from typing import Any

from jupyterhub import orm
from jupyterhub.app import JupyterHub
from tornado.httpserver import HTTPServer

from tidehub.listening import IDLE
from tidehub.local.hub import checked_input, records, stale_page
from tidehub.local.hub.spawner import TidehubSpawner


class TidehubHub(JupyterHub):  # type: ignore[misc]
    """JupyterHub 5.5.4 with four of its steps widened; its configuration stays `c.JupyterHub`."""

    name = "jupyterhub"

    def init_db(self) -> None:
        records.mend(self.db_url, self.db_kwargs, TidehubSpawner.context.places.private, log=self.log)
        checked_input.check_columns()
        super().init_db()

    def init_handlers(self) -> None:
        super().init_handlers()
        self.handlers: list[Any] = checked_input.checked(stale_page.renewing(self.handlers))
        # The class stays: `start` may have chosen one that accepts on the inherited socket.
        HTTPServer.configure(
            HTTPServer.configured_class(),
            max_body_size=checked_input.MOST_BODY,
            idle_connection_timeout=IDLE,
        )

    async def init_spawners(self) -> Any:
        # Before the hub answers anybody: what is started from now on is nobody's leftover.
        if issubclass(self.spawner_class, TidehubSpawner):
            known = self.db.query(orm.Spawner).filter(orm.Spawner.server != None).all()  # noqa: E711  # SQL's NULL
            servers = [(one.user.name, one.name, one.state or {}) for one in known]
            await TidehubSpawner.context.settle(servers, self.log)
            self._disk_watch = asyncio.create_task(
                TidehubSpawner.context.disk_watch.go(), name="watch users' files"
            )
        return await super().init_spawners()
