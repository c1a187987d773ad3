"""What Dask clusters may really have: the site's limits with dask-gateway's own arithmetic. Pure.

dask-gateway 2026.3.0 (`ClusterConfig._worker_limit_from_resources`) takes the scheduler off the cluster's cores and
memory before it divides by the worker, and clamps scale requests to the smallest of the three results. A user's
totals are ours: dask-gateway counts single clusters only. The text travels into the image of dask-gateway's server,
where the sections are the plain values of `tidehub.login.plain`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidehub.site.units import format_cores, format_size

if TYPE_CHECKING:
    from tidehub.site.model.dask import Dask

_MOST_SIZES = 16


@dataclass(frozen=True)
class Row:
    """For one worker size (cores, bytes): the workers a cluster can have, and the key of the limit that binds."""

    cores: float
    memory: int
    workers: int
    bound_by: str


@dataclass(frozen=True)
class Usage:
    """What a user's clusters hold: clusters, cores, bytes. Also what a step would add."""

    clusters: int = 0
    cores: float = 0.0
    memory: int = 0


class LimitExceeded(ValueError):
    """A step would exceed a limit. The message names the limit, its value, and what is allowed."""

    def __init__(self, key: str, message: str) -> None:
        self.key = key
        super().__init__(message)


def effective(dask: Dask) -> list[Row]:
    """The table of `tidehub limits`: each worker size that users may choose, and what a cluster of it can have."""
    return [workers_of(dask, cores, memory) for cores in _core_sizes(dask) for memory in _memory_sizes(dask)]


def workers_of(dask: Dask, cores: float, memory: int) -> Row:
    """How many workers of `cores` and `memory` bytes a cluster can have. On a tie the plainer limit is named."""
    scheduler, cluster, per_user = dask.scheduler, dask.cluster, dask.per_user
    bounds = [
        ("dask.cluster.max_workers", cluster.max_workers),
        ("dask.cluster.max_cores", int((cluster.max_cores - scheduler.cores) // cores)),
        ("dask.cluster.max_memory", (cluster.max_memory - scheduler.memory) // memory),
    ]
    if per_user.max_cores is not None:
        bounds.append(("dask.per_user.max_cores", int((per_user.max_cores - scheduler.cores) // cores)))
    if per_user.max_memory is not None:
        bounds.append(("dask.per_user.max_memory", (per_user.max_memory - scheduler.memory) // memory))
    key, workers = min(bounds, key=lambda bound: bound[1])
    return Row(cores, memory, max(0, workers), key)


def cluster_config(dask: Dask) -> dict[str, Any]:
    """dask-gateway's `ClusterConfig` traits. Memory in bytes, times in seconds, cores as whole numbers."""
    return {
        "cluster_max_cores": float(dask.cluster.max_cores),
        "cluster_max_memory": dask.cluster.max_memory,
        "cluster_max_workers": dask.cluster.max_workers,
        "idle_timeout": float(dask.cluster.idle_timeout),
        "scheduler_cores": int(dask.scheduler.cores),
        "scheduler_memory": dask.scheduler.memory,
        "worker_cores": int(dask.worker.cores.default),
        "worker_memory": dask.worker.memory.default,
    }


def new_cluster(dask: Dask) -> Usage:
    """What starting a cluster adds to a user's usage: the cluster and its scheduler."""
    return Usage(1, dask.scheduler.cores, dask.scheduler.memory)


def new_workers(cores: float, memory: int, count: int = 1) -> Usage:
    """What `count` workers of `cores` and `memory` bytes add to a user's usage."""
    return Usage(0, cores * count, memory * count)


def check_user(dask: Dask, usage: Usage, wanted: Usage) -> None:
    """Whether a user holding `usage` may add `wanted`. Raises `LimitExceeded` with the first limit in the way."""
    limits = dask.per_user
    if usage.clusters + wanted.clusters > limits.max_clusters:
        have = "1 cluster" if usage.clusters == 1 else f"{usage.clusters} clusters"
        raise LimitExceeded(
            "dask.per_user.max_clusters",
            f"You have {have}, and this site allows {limits.max_clusters} for each user "
            "(dask.per_user.max_clusters). Shut one down first.",
        )
    if limits.max_cores is not None and usage.cores + wanted.cores > limits.max_cores + 1e-9:
        raise LimitExceeded(
            "dask.per_user.max_cores",
            _total(
                "dask.per_user.max_cores", *map(format_cores, (usage.cores, wanted.cores, limits.max_cores))
            )
            + _left(format_cores(max(0.0, limits.max_cores - usage.cores))),
        )
    if limits.max_memory is not None and usage.memory + wanted.memory > limits.max_memory:
        raise LimitExceeded(
            "dask.per_user.max_memory",
            _total(
                "dask.per_user.max_memory",
                *map(format_size, (usage.memory, wanted.memory, limits.max_memory)),
            )
            + _left(format_size(max(0, limits.max_memory - usage.memory))),
        )


def _total(key: str, used: str, wanted: str, limit: str) -> str:
    return f"Your clusters use {used}; this needs {wanted} more, and this site allows {limit} for each user ({key})."


def _left(rest: str) -> str:
    return f" {rest} are left: use fewer or smaller workers, or shut a cluster down first."


def _core_sizes(dask: Dask) -> list[float]:
    choice = dask.worker.cores
    count = int(choice.max - choice.min) + 1
    if count <= _MOST_SIZES:
        return [choice.min + step for step in range(max(count, 1))]
    doubled = [float(2**power) for power in range(13) if choice.min <= 2**power <= choice.max]
    return sorted({choice.min, choice.default, choice.max, *doubled})


def _memory_sizes(dask: Dask) -> list[int]:
    choice = dask.worker.memory
    return sorted({choice.min, choice.default, choice.max})
