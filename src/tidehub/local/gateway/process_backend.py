"""The half of the backend that acts: schedulers and workers as processes of their owner, through the isolation.

Upstream's local backends cannot be used (dask-gateway-server 2026.3.0): `LocalBackend.setup_working_directory` extends
a list of paths by the characters of a string, so as root it changes the owner of `/`; `UnsafeLocalBackend` runs users'
code as the gateway; the default commands are scripts that distributed no longer installs; one pid is signalled where a
tree must end. So this builds on `DBBackendBase`, which keeps the state machine and the database.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from dask_gateway_server.backends.db_base import Cluster, DBBackendBase, JobStatus, Worker
from traitlets import Any as AnyTrait
from traitlets import Unicode

from tidehub.capacity.admission import Admission
from tidehub.capacity.ledger import Ledger
from tidehub.errors import TidehubError
from tidehub.gateway.dashboards.protocol import dashboard_key
from tidehub.local.gateway import processes, workdirs
from tidehub.local.gateway.config import GatewaySettings
from tidehub.local.isolation import Ending, Isolation, ProcessHandle

SCHEDULER_GRACE = 5.0
WORKER_GRACE = 5.0


class ProcessBackend(DBBackendBase):  # type: ignore[misc]
    """Starts, stops and looks at processes. Which of them may start, and when, is decided in `backend.py`."""

    settings: GatewaySettings = AnyTrait(help="GatewaySettings", config=True)
    key_secret = Unicode(help="From which each cluster's dashboard key is made.", config=True)

    isolation: Isolation
    ledger: Ledger
    admission: Admission
    last_fault: dict[str, str]
    """Why the last worker of a cluster could not be started, by the cluster's name."""

    async def adopt_running(self) -> None:
        """Enter into the ledger what runs since before this gateway: after a kill -9 the ledger may not know
        it.
        """
        running: list[ProcessHandle] = []
        for cluster in self.db.name_to_cluster.values():
            if cluster.status >= JobStatus.STOPPED:
                continue
            for item in (cluster, *cluster.workers.values()):
                handle = self.handle(item)
                if handle is not None and item.status < JobStatus.STOPPED and self.isolation.alive(handle):
                    self.ledger.adopt(self.reservation(item), handle)
                    running.append(handle)
        # Started a moment before the kill, and not written down here: nobody would ever end them.
        for name in await self.isolation.tidy("clusters", running, grace=WORKER_GRACE):
            self.log.warning("Ended %s, which the gateway does not know: an interrupted start left it", name)
        self.ledger.reconcile(self.state_alive)

    def handle(self, item: Cluster | Worker) -> ProcessHandle | None:
        """The process of a cluster's scheduler, or of a worker."""
        state = (item.state or {}).get("process")
        return ProcessHandle.from_state(state) if state else None

    def state_alive(self, state: dict[str, Any]) -> bool:
        """Whether a process written down in the ledger still runs."""
        return self.isolation.alive(ProcessHandle.from_state(state))

    def reservation(self, item: Cluster | Worker) -> Any:
        """The reservation of a cluster's scheduler, or of a worker."""
        if isinstance(item, Cluster):
            return processes.scheduler_reservation(item.name, item.username, item.config)
        owner = item.cluster
        return processes.worker_reservation(owner.name, item.name, owner.username, owner.config)

    def profile(self, cluster: Cluster) -> str:
        """The profile of a cluster, or the default where the site no longer has it."""
        chosen = str(cluster.config.get("profile", ""))
        known = self.settings.environments
        return chosen if chosen in known else self.settings.site.notebooks.default_profile.slug

    def fail(self, cluster: Cluster, why: str) -> None:
        """End a cluster, and remember the reason for its owner."""
        self.log.warning("Cluster %s: %s", cluster.name, why)
        self.db.update_cluster(cluster, state={**(cluster.state or {}), "why": why}, target=JobStatus.FAILED)
        self.queue.put(cluster)

    def get_tls_paths(self, cluster: Cluster) -> tuple[str, str]:
        return processes.tls_paths(Path(cluster.state["workdir"]))

    def worker_nthreads_memory_limit_args(self, cluster: Cluster) -> tuple[str, str]:
        return str(cluster.config.worker_threads), str(cluster.config.worker_memory)

    def _python(self, cluster: Cluster) -> str:
        return str(self.settings.environments[self.profile(cluster)] / "bin" / "python")

    async def do_start_cluster(self, cluster: Cluster) -> AsyncIterator[dict[str, Any]]:
        try:
            async for state in self._start_scheduler(cluster):
                yield state
        except TidehubError as error:
            yield {**(cluster.state or {}), "why": f"The scheduler could not be started: {error.what}"}
            raise

    async def _start_scheduler(self, cluster: Cluster) -> AsyncIterator[dict[str, Any]]:
        user = self.isolation.user(cluster.username)
        workdir = await asyncio.to_thread(
            workdirs.make_workdir,
            self.settings.clusters_dir,
            cluster.name,
            user,
            certificate=cluster.tls_cert,
            key=cluster.tls_key,
        )
        state = {"workdir": str(workdir)}
        yield state
        # `get_tls_paths` reads the state, and upstream writes it only when this generator goes on.
        command = [self._python(cluster), "-m", "distributed.cli.dask_scheduler"]
        command += self.get_scheduler_command(cluster)[len(cluster.config.scheduler_cmd) :]
        handle = await self._launch(
            cluster,
            "scheduler",
            processes.preloaded(command, workdir, scheduler=True),
            self.get_scheduler_env(cluster),
            memory=cluster.config.scheduler_memory,
            cores=cluster.config.scheduler_cores,
        )
        yield {**state, "process": handle.to_state()}
        await asyncio.to_thread(self.ledger.launched, self.reservation(cluster).id, handle)

    async def do_start_worker(self, worker: Worker) -> AsyncIterator[dict[str, Any]]:
        cluster = worker.cluster
        command = [self._python(cluster), "-m", "distributed.cli.dask_worker"]
        command += self.get_worker_command(cluster, worker.name)[len(cluster.config.worker_cmd) :]
        memory = cluster.config.worker_memory
        try:
            handle = await self._launch(
                cluster,
                f"worker-{worker.name}",
                processes.preloaded(command, Path(cluster.state["workdir"]), scheduler=False),
                {**self.get_worker_env(cluster), **processes.worker_memory_settings(memory)},
                memory=memory,
                cores=cluster.config.worker_cores,
            )
        except TidehubError as error:
            self.last_fault[cluster.name] = error.what
            raise
        yield {"process": handle.to_state()}
        await asyncio.to_thread(self.ledger.launched, self.reservation(worker).id, handle)

    async def _launch(
        self,
        cluster: Cluster,
        process: str,
        argv: list[str],
        env: dict[str, str],
        *,
        memory: int,
        cores: float,
    ) -> ProcessHandle:
        user = self.isolation.user(cluster.username)
        workdir, profile = Path(cluster.state["workdir"]), self.profile(cluster)
        key = dashboard_key(self.key_secret, cluster.name)
        spec = processes.launch_spec(
            self.settings,
            user,
            cluster=cluster.name,
            process=process,
            argv=processes.with_packages(argv, self.settings.notebook_side),
            env=processes.environment(env, self.settings, user, workdir, profile, key),
            workdir=workdir,
            profile=profile,
            memory=memory,
            cores=cores,
        )
        return await self.isolation.start(spec)

    async def _check_cluster_scale(self, cluster: Cluster) -> None:
        failures = cluster.worker_start_failure_count
        if failures >= self.worker_start_failure_limit and cluster.target == JobStatus.RUNNING:
            # Upstream fails the cluster here too, and tells nobody why.
            fault = self.last_fault.get(cluster.name, "")
            self.fail(cluster, f"{failures} workers in a row could not be started. {fault}".strip())
            return
        await super()._check_cluster_scale(cluster)

    async def do_stop_cluster(self, cluster: Cluster) -> None:
        self.last_fault.pop(cluster.name, None)
        await self._stop(cluster, SCHEDULER_GRACE)
        workdir = (cluster.state or {}).get("workdir")
        if workdir:
            await asyncio.to_thread(workdirs.remove_workdir, self.settings.clusters_dir, Path(workdir))

    async def do_stop_worker(self, worker: Worker) -> None:
        await self._stop(worker, WORKER_GRACE)

    async def _stop(self, item: Cluster | Worker, grace: float) -> None:
        handle = self.handle(item)
        try:
            if handle is not None:
                await self.isolation.stop(handle, grace=grace)
        finally:
            await self.admission.leave(self.reservation(item).id)

    async def do_check_clusters(self, clusters: list[Cluster]) -> list[bool]:
        return [self._alive(cluster) for cluster in clusters]

    async def do_check_workers(self, workers: list[Worker]) -> list[bool]:
        return [self._alive(worker) for worker in workers]

    def _alive(self, item: Cluster | Worker) -> bool:
        handle = self.handle(item)
        return handle is not None and self.isolation.alive(handle)

    def ending(self, item: Cluster | Worker) -> Ending:
        """How a process that is gone ended."""
        handle = self.handle(item)
        return self.isolation.ending(handle) if handle is not None else Ending()
