"""dask-gateway's backend for one machine: schedulers and workers as processes of their owner, within limits.

Which may run, and when: in the order of the ledger, within the limits of their owner. How they run is in
`process_backend.py`.
"""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import aiohttp
from aiohttp import web
from dask_gateway_server.backends.base import ClusterConfig, PublicException
from dask_gateway_server.backends.db_base import Cluster, JobStatus, Worker
from dask_gateway_server.models import User
from dask_gateway_server.utils import timestamp
from traitlets import Any as AnyTrait
from traitlets import Float, List, Unicode

from tidehub.capacity.admission import Admission, Entry
from tidehub.capacity.disk import refusal
from tidehub.capacity.ledger import Ledger
from tidehub.capacity.queue import never_fits
from tidehub.gateway import reaper, totals
from tidehub.inside import connector_to
from tidehub.local.databases import ledger_damage
from tidehub.local.disk_use import read_uses
from tidehub.local.gateway import api, for_gate, processes, records, watching, workdirs
from tidehub.local.gateway.config import KEY_HEADER, dashboard_key
from tidehub.local.gateway.deadlines import Deadlines
from tidehub.local.gateway.notices import Notices
from tidehub.local.gateway.process_backend import ProcessBackend
from tidehub.local.isolation import Isolation, choose_isolation
from tidehub.local.places import Places
from tidehub.local.room import shortage
from tidehub.login.entitled import Entitled, entitled
from tidehub.site.model.dask import Dask


class TidehubClusterConfig(ClusterConfig):  # type: ignore[misc]
    """Upstream's cluster configuration, and the profile whose environment the cluster runs in."""

    profile = Unicode("", help="The slug of the profile.", config=True)
    groups = List(Unicode(), help="Memberships of the owner when the cluster was asked for.", config=True)


class TidehubBackend(ProcessBackend):
    """Starts schedulers and workers in the order of the ledger, and watches them."""

    reaper_token = Unicode(
        help="Token of the hub's service `reaper`; empty: no cluster is reaped.", config=True
    )
    isolation_factory = AnyTrait(
        None, help="Makes the isolation; default: what this machine can.", config=True
    )
    watch_period = Float(2.0, help="Seconds between two looks at the processes.", config=True)
    reap_period = Float(
        60.0, help="Seconds between two looks for clusters without a notebook server.", config=True
    )

    default_host = "127.0.0.1"

    async def setup(self, app: web.Application) -> None:
        api.install(app, self)
        for_gate.install(app, self)
        private = Places.of(self.settings.state_dir).private
        await asyncio.to_thread(records.mend, self.db_url, self.db_encrypt_keys, private, log=self.log)
        await super().setup(app)

    async def do_setup(self) -> None:
        settings = self.settings
        make = self.isolation_factory or functools.partial(choose_isolation, require=settings.isolation)
        self.isolation: Isolation = make(Places.of(settings.state_dir))
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
        self.last_fault: dict[str, str] = {}
        self.memberships: dict[str, tuple[str, ...]] = {}
        await self.adopt_running()
        known = {c.name for c in self.db.name_to_cluster.values() if c.status < JobStatus.STOPPED}
        await asyncio.to_thread(workdirs.remove_strays, settings.clusters_dir, known)
        self.watcher = watching.Watcher(self)
        self.task_pool.spawn(self.watcher.watch())
        self.task_pool.spawn(watching.housekeeping(self))
        if self.reaper_token:
            self.task_pool.spawn(reaper.reap_forever(self))

    async def do_cleanup(self) -> None:
        if hasattr(self, "admission"):
            await self.admission.close()
        if hasattr(self, "hub_session"):
            await self.hub_session.close()

    # --- what is known of a cluster or worker ---------------------------------------------------------

    def _pid(self, item: Cluster | Worker) -> int | None:
        handle = self.handle(item)
        return None if handle is None else handle.pid

    async def _check_timeouts(self) -> None:
        self.deadlines.put_right(self.db)
        await super()._check_timeouts()

    def dashboard_to_ask(self, cluster: Cluster) -> tuple[str, dict[str, str]] | None:
        """Where a cluster says whether it is used; None until its scheduler has told its addresses."""
        if cluster.status != JobStatus.RUNNING:
            return None
        key = {KEY_HEADER: dashboard_key(self.key_secret, cluster.name)}
        return for_gate.dashboard_of(cluster.dashboard_address), key

    def why(self, cluster: Cluster) -> str:
        """Why the cluster failed, or waits, in words; empty when there is nothing to tell."""
        failed = str((cluster.state or {}).get("why", ""))
        if failed or cluster.target != JobStatus.RUNNING:
            return failed
        waiting = self.admission.waiting(self.reservation(cluster).id)
        return waiting.reason if waiting else ""

    # --- what users ask ------------------------------------------------------------------------------

    async def start_cluster(self, user: User, cluster_options: dict[str, Any]) -> str:
        self.memberships[user.name] = tuple(user.groups)
        config = (await self.process_cluster_options(user, cluster_options))[1].to_dict()
        if config["profile"] not in self.settings.environments:
            raise PublicException(
                f"the environment of the profile {config['profile']!r} is not ready on this machine"
            )
        for reservation in (
            processes.scheduler_reservation("new", user.name, config),
            processes.worker_reservation("new", "new", user.name, config),
        ):
            never = never_fits(self.settings.capacity, reservation)
            if never:
                raise PublicException(f"this cluster cannot be started: {never}. Choose smaller workers.")
        refused = totals.refused_cluster(
            self.limits_of(user.name), self.clusters_of(user.name), config
        ) or await asyncio.to_thread(self._no_room, user.name)
        if refused:
            raise PublicException(refused)
        name: str = await super().start_cluster(user, cluster_options)
        return name

    def _no_room(self, username: str) -> str:
        """Why the disk does not allow this user a new cluster; "" if it does."""
        limit = self.settings.site.notebooks.home.size
        uses = {} if limit is None else read_uses(self.places.disk_use)
        return shortage(self.places) or refusal(uses.get(username), limit)

    async def get_cluster(self, cluster_name: str, wait: bool = False) -> Any:
        model = await super().get_cluster(cluster_name, wait=wait)
        cluster = self.db.get_cluster(cluster_name)
        if model is not None and cluster is not None and cluster.is_active():
            # What upstream's scale and adapt clamp to: the user's totals count too.
            most = totals.most_workers(
                self.limits_of(cluster.username), self.clusters_of(cluster.username), cluster
            )
            model.config = {**model.config, "cluster_max_workers": most.workers}
        return model

    def entitled(self, username: str) -> Entitled:
        """What a user has, by the memberships last heard of: from the hub, or when their clusters were asked for."""
        groups = self.memberships.get(username)
        if groups is None:
            clusters = sorted(self.clusters_of(username), key=lambda cluster: cluster.start_time)
            groups = tuple(clusters[-1].config.get("groups", ())) if clusters else ()
        return entitled(self.settings.site, username, groups)

    def limits_of(self, username: str) -> Dask:
        """A user's limits; everybody's for clusters that are about to be ended."""
        return self.entitled(username).dask or self.settings.site.dask

    def clusters_of(self, username: str) -> list[Cluster]:
        """The clusters of a user that run, start or wait."""
        return [c for c in self.db.active_clusters() if c.username == username]

    async def forward_message_to_scheduler(self, cluster: Any, msg: dict[str, Any]) -> None:
        try:
            await super().forward_message_to_scheduler(cluster, msg)
        except PublicException as error:
            known = self.db.get_cluster(cluster.name)
            why = self.why(known) if known is not None else ""
            raise PublicException(f"{error}: {why}" if why else str(error)) from None

    async def stop_cluster(self, cluster_name: str, failed: bool = False) -> None:
        cluster = self.db.get_cluster(cluster_name)
        if failed and cluster is not None and cluster.target == JobStatus.RUNNING:
            # Upstream ends a cluster that does not answer, maybe before the watcher saw why.
            why = await self.watcher.scheduler_words(cluster) or "Its scheduler did not answer"
            self.db.update_cluster(cluster, state={**(cluster.state or {}), "why": why})
        await super().stop_cluster(cluster_name, failed=failed)

    async def on_cluster_heartbeat(self, cluster_name: str, msg: dict[str, Any]) -> None:
        await super().on_cluster_heartbeat(cluster_name, msg)
        cluster = self.db.get_cluster(cluster_name)
        if cluster is not None:
            await self._free_start_slots(cluster)

    async def _free_start_slots(self, cluster: Cluster) -> None:
        for item in (cluster, *cluster.workers.values()):
            reported = item.status == JobStatus.RUNNING or (item is cluster and cluster.scheduler_address)
            handle = self.handle(item)
            if (
                reported
                and handle is not None
                and item.target == JobStatus.RUNNING
                and not hasattr(item, "slot_free")
            ):
                item.slot_free = True
                await asyncio.to_thread(self.ledger.adopt, self.reservation(item), handle)

    # --- waiting, which upstream's deadlines must not count -------------------------------------------

    async def _cluster_to_submitted(self, cluster: Cluster) -> None:
        if self._may_start(cluster, lambda: shortage(self.places) or None):
            self.db.update_cluster(cluster, start_time=timestamp())
            await super()._cluster_to_submitted(cluster)

    async def _worker_to_submitted(self, worker: Worker) -> None:
        cluster = worker.cluster

        def limit() -> str | None:
            return shortage(self.places) or totals.refused_worker(
                self.limits_of(cluster.username),
                self.clusters_of(cluster.username),
                worker,
                self.admitted_worker,
            )

        if self._may_start(worker, limit):
            self.db.update_worker(worker, start_time=timestamp())
            await super()._worker_to_submitted(worker)

    def admitted_worker(self, worker: Worker) -> bool:
        """Whether a worker holds memory: it runs, or its turn has come."""
        return worker.status > JobStatus.CREATED or self.admission.admitted(self.reservation(worker).id)

    def _may_start(self, item: Cluster | Worker, limit: Any) -> bool:
        reservation = self.reservation(item)
        if self.admission.admitted(reservation.id):
            return True
        wanted = functools.partial(_still_wanted, item)
        ready = functools.partial(self.queue.put, item)
        self.admission.join(Entry(reservation, ready=ready, wanted=wanted, limit=limit))
        return False

    async def _worker_to_stopped(self, worker: Worker) -> None:
        await super()._worker_to_stopped(worker)
        # Upstream does not call do_stop_worker for a worker that still waits.
        await self.admission.leave(self.reservation(worker).id)


def _still_wanted(item: Cluster | Worker) -> bool:
    return bool(item.target == JobStatus.RUNNING and item.status == JobStatus.CREATED)
