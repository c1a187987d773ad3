"""dask-gateway's backend for one machine: schedulers and workers as processes of their owner, within limits.

Which may run, and when: in the order of the ledger, within the limits of their owner. How they run is in
`process_backend.py`; what is served and watched beside that, in `serving.py`.
"""

from __future__ import annotations

import asyncio
import functools
from typing import Any

from dask_gateway_server.backends.base import ClusterConfig, PublicException
from dask_gateway_server.backends.db_base import Cluster, JobStatus, Worker
from dask_gateway_server.models import User
from dask_gateway_server.utils import timestamp
from traitlets import Float, List, Unicode

from tidehub.capacity.admission import Entry
from tidehub.capacity.disk import refusal
from tidehub.capacity.queue import never_fits
from tidehub.gateway import totals
from tidehub.local.disk_use import read_uses
from tidehub.local.gateway import processes
from tidehub.local.gateway.notices import Notices
from tidehub.local.gateway.process_backend import ProcessBackend
from tidehub.local.places import Places
from tidehub.local.room import shortage
from tidehub.login.entitled import Entitled, entitled
from tidehub.site.model.dask import Dask


class TidehubClusterConfig(ClusterConfig):  # type: ignore[misc]
    """Upstream's cluster configuration, and the profile whose environment the cluster runs in."""

    profile = Unicode("", help="The slug of the profile.", config=True)
    groups = List(Unicode(), help="Memberships of the owner when the cluster was asked for.", config=True)


class ClusterBackend(ProcessBackend):
    """Starts schedulers and workers in the order of the ledger, within the limits of their owner."""

    watch_period = Float(2.0, help="Seconds between two looks at the processes.", config=True)

    default_host = "127.0.0.1"

    places: Places
    notices: Notices
    memberships: dict[str, tuple[str, ...]]
    """What each user was a member of when last heard of."""

    # --- what is known of a cluster or worker ---------------------------------------------------------

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
