"""Looks at the processes of clusters all the time: what ended, what was killed for memory, what waits."""

from __future__ import annotations

import asyncio

from dask_gateway_server.backends.db_base import Cluster, JobStatus, Worker

from tidehub.local.gateway import processes, workdirs
from tidehub.local.gateway.backend import ClusterBackend
from tidehub.local.isolation import ProcessHandle
from tidehub.site.units import about_size

TELL_WAITING_AFTER = 3.0
"""Seconds of waiting that a user is not told about."""
HOUSEKEEPING = 300.0


async def housekeeping(backend: ClusterBackend) -> None:
    """Drop reservations of processes that are gone; again and again."""
    while True:
        try:
            for reservation_id in await asyncio.to_thread(backend.ledger.reconcile, backend.state_alive):
                backend.log.info("The process of %s is gone; its memory is free again", reservation_id)
        except Exception as error:
            backend.log.warning("Exception in the gateway's housekeeping", exc_info=error)
        await asyncio.sleep(HOUSEKEEPING)


class Watcher:
    """One look after the other; remembers what was told."""

    def __init__(self, backend: ClusterBackend) -> None:
        self._backend = backend
        self._kills: dict[str, int] = {}
        self._told_waiting: set[str] = set()
        self._told_ended: set[str] = set()

    async def watch(self) -> None:
        """Look again and again, until cancelled; one failing look does not end it."""
        while True:
            await asyncio.sleep(self._backend.watch_period)
            try:
                await self.look()
            except Exception as error:
                self._backend.log.warning("Exception while looking at clusters' processes", exc_info=error)

    async def ended_unseen(self, worker: Worker) -> None:
        """Called before a worker is cleared away: tells how it ended, if it did so by itself and nobody told
        yet.
        """
        handle = self._backend.handle(worker)
        running = worker.cluster.target == JobStatus.RUNNING
        if (
            running
            and handle is not None
            and not worker.close_expected
            and not self._backend.isolation.alive(handle)
        ):
            await self._worker_ended(worker.cluster, worker)

    async def look(self) -> None:
        """One look at every active cluster."""
        active = list(self._backend.db.active_clusters())
        for cluster in active:
            if cluster.target != JobStatus.RUNNING:
                continue
            if cluster.status in (JobStatus.SUBMITTED, JobStatus.RUNNING):
                await self._look_at_scheduler(cluster)
            if cluster.status == JobStatus.RUNNING and cluster.target == JobStatus.RUNNING:
                for worker in cluster.active_workers():
                    await self._look_at_worker(cluster, worker)
                await self._tell_waiting(cluster)
        names = {worker.name for cluster in active for worker in cluster.workers.values()}
        self._kills = {name: count for name, count in self._kills.items() if name in names}
        self._told_ended &= names
        self._told_waiting &= {cluster.name for cluster in active}

    async def scheduler_words(self, cluster: Cluster) -> str | None:
        """How the scheduler of a cluster ended; None while it runs."""
        handle = self._backend.handle(cluster)
        if handle is None or self._backend.isolation.alive(handle):
            return None
        limit = cluster.config["scheduler_memory"]
        words = processes.ending_words("The scheduler of this cluster", self._backend.ending(cluster), limit)
        return words + await self._log_words(
            cluster, "scheduler", started=cluster.status > JobStatus.SUBMITTED
        )

    async def _look_at_scheduler(self, cluster: Cluster) -> None:
        words = await self.scheduler_words(cluster)
        if words:
            self._backend.fail(cluster, words)

    async def _look_at_worker(self, cluster: Cluster, worker: Worker) -> None:
        backend = self._backend
        handle = backend.handle(worker)
        if handle is None or worker.status not in (JobStatus.SUBMITTED, JobStatus.RUNNING):
            return
        if backend.isolation.alive(handle):
            await self._look_at_kills(cluster, worker, handle)
        elif not worker.close_expected:
            await self._worker_ended(cluster, worker)

    async def _look_at_kills(self, cluster: Cluster, worker: Worker, handle: ProcessHandle) -> None:
        kills = self._backend.isolation.memory_kills(handle)
        if kills <= self._kills.get(worker.name, 0):
            return
        self._kills[worker.name] = kills
        size = about_size(cluster.config["worker_memory"])
        await self._backend.notices.tell(
            cluster,
            f"A Dask worker used more than its memory limit of {size}, was stopped and started again; what it was "
            "computing is tried again. Choose a larger worker_memory, or smaller chunks.",
        )

    async def _worker_ended(self, cluster: Cluster, worker: Worker) -> None:
        backend = self._backend
        if worker.name in self._told_ended:
            return
        self._told_ended.add(worker.name)
        starting = worker.status == JobStatus.SUBMITTED
        limit = cluster.config["worker_memory"]
        words = processes.ending_words("A Dask worker", backend.ending(worker), limit)
        words += await self._log_words(cluster, f"worker-{worker.name}", started=not starting)
        if worker.target < JobStatus.STOPPED:
            backend.db.update_worker(worker, target=JobStatus.FAILED)
            backend.queue.put(worker)
        if starting:
            cluster.worker_start_failure_count += 1
            if cluster.worker_start_failure_count >= backend.worker_start_failure_limit:
                backend.fail(
                    cluster, f"{cluster.worker_start_failure_count} workers could not be started. {words}"
                )
                return
        await backend.notices.tell(cluster, words)

    async def _tell_waiting(self, cluster: Cluster) -> None:
        backend = self._backend
        waiting = [
            w for w in cluster.active_workers() if backend.admission.waiting(backend.reservation(w).id)
        ]
        long = [
            w for w in waiting if backend.admission.waited(backend.reservation(w).id) > TELL_WAITING_AFTER
        ]
        if not waiting:
            self._told_waiting.discard(cluster.name)
        elif long and cluster.name not in self._told_waiting:
            self._told_waiting.add(cluster.name)
            first = backend.admission.waiting(backend.reservation(long[0]).id)
            number = "1 worker is" if len(waiting) == 1 else f"{len(waiting)} workers are"
            reason = first.reason if first else ""
            await backend.notices.tell(
                cluster, f"{number} not started yet: {reason}. It starts by itself in its turn."
            )

    async def _log_words(self, cluster: Cluster, process: str, *, started: bool) -> str:
        """For what ended before it worked, the end of its log says more than an exit code."""
        if started:
            return ""
        log = workdirs.log_file(self._backend.settings.logs_dir, cluster.name, process)
        tail = await self._backend.isolation.log_tail(log, 3)
        return f" Its log ends with: {tail}" if tail else ""
