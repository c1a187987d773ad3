"""The whole backend: what decides and starts (`backend.py`), with its routes, the watcher and the reaper."""

from __future__ import annotations

import asyncio
import functools

import aiohttp
from aiohttp import web
from dask_gateway_server.backends.db_base import Cluster, JobStatus, Worker
from traitlets import Any as AnyTrait
from traitlets import Float, Unicode

from tidehub.capacity.admission import Admission
from tidehub.capacity.ledger import Ledger
from tidehub.gateway import reaper
from tidehub.gateway.dashboards import telling
from tidehub.gateway.dashboards.protocol import KEY_HEADER, dashboard_key
from tidehub.inside import connector_to
from tidehub.local.databases import ledger_damage
from tidehub.local.gateway import api, processes, records, workdirs
from tidehub.local.gateway.backend import ClusterBackend
from tidehub.local.gateway.deadlines import Deadlines
from tidehub.local.gateway.notices import Notices
from tidehub.local.gateway.watching import Watcher, housekeeping
from tidehub.local.isolation import choose_isolation
from tidehub.local.places import Places


class TidehubBackend(ClusterBackend):
    """dask-gateway's backend as this machine runs it; its configuration is `c.TidehubBackend`."""

    reaper_token = Unicode(
        help="Token of the hub's service `reaper`; empty: no cluster is reaped.", config=True
    )
    isolation_factory = AnyTrait(
        None, help="Makes the isolation; default: what this machine can.", config=True
    )
    reap_period = Float(
        60.0, help="Seconds between two looks for clusters without a notebook server.", config=True
    )

    watcher: Watcher
    deadlines: Deadlines
    hub_session: aiohttp.ClientSession

    async def setup(self, app: web.Application) -> None:
        api.install(app, self)
        telling.install(app, self.key_secret, self.told)
        private = Places.of(self.settings.state_dir).private
        await asyncio.to_thread(records.mend, self.db_url, self.db_encrypt_keys, private, log=self.log)
        await super().setup(app)

    async def do_setup(self) -> None:
        settings = self.settings
        make = self.isolation_factory or functools.partial(choose_isolation, require=settings.isolation)
        self.isolation = make(Places.of(settings.state_dir))
        places = Places.of(settings.state_dir)
        self.ledger = Ledger(
            places.ledger, settings.capacity, on_damage=ledger_damage(places, self.log.warning)
        )
        self.admission = Admission(self.ledger, self.log)
        self.places = places
        self.deadlines = Deadlines(
            self._pid, least=self.cluster_start_timeout, grant=3 * self.check_timeouts_period
        )
        self.notices = Notices(self.session, self.key_secret, self.log)
        self.hub_session = aiohttp.ClientSession(connector=connector_to(settings.hub_api_url))
        self.last_fault = {}
        self.memberships = {}
        await self.adopt_running()
        known = {c.name for c in self.db.name_to_cluster.values() if c.status < JobStatus.STOPPED}
        await asyncio.to_thread(workdirs.remove_strays, settings.clusters_dir, known)
        self.watcher = Watcher(self)
        self.task_pool.spawn(self.watcher.watch())
        self.task_pool.spawn(housekeeping(self))
        if self.reaper_token:
            self.task_pool.spawn(reaper.reap_forever(self))

    async def do_cleanup(self) -> None:
        if hasattr(self, "admission"):
            await self.admission.close()
        if hasattr(self, "hub_session"):
            await self.hub_session.close()

    def told(self, name: str) -> telling.Told | None:
        """What the gate is told of a cluster."""
        cluster = self.db.get_cluster(name)
        if cluster is None:
            return None
        return telling.Told(
            cluster.username, cluster.model_status.name, processes.dashboard_of(cluster.dashboard_address)
        )

    def dashboard_to_ask(self, cluster: Cluster) -> tuple[str, dict[str, str]] | None:
        """Where a cluster says whether it is used; None until its scheduler has told its addresses."""
        if cluster.status != JobStatus.RUNNING:
            return None
        key = {KEY_HEADER: dashboard_key(self.key_secret, cluster.name)}
        return processes.dashboard_of(cluster.dashboard_address), key

    async def stop_cluster(self, cluster_name: str, failed: bool = False) -> None:
        cluster = self.db.get_cluster(cluster_name)
        if failed and cluster is not None and cluster.target == JobStatus.RUNNING:
            # Upstream ends a cluster that does not answer, maybe before the watcher saw why.
            why = await self.watcher.scheduler_words(cluster) or "Its scheduler did not answer"
            self.db.update_cluster(cluster, state={**(cluster.state or {}), "why": why})
        await super().stop_cluster(cluster_name, failed=failed)

    async def do_stop_worker(self, worker: Worker) -> None:
        await self.watcher.ended_unseen(worker)
        await super().do_stop_worker(worker)

    def _pid(self, item: Cluster | Worker) -> int | None:
        handle = self.handle(item)
        return None if handle is None else handle.pid

    async def _check_timeouts(self) -> None:
        self.deadlines.put_right(self.db)
        await super()._check_timeouts()
