"""A user's totals over all their clusters, counted from the gateway's own table (pure but for reading it)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tidehub.gateway.limits import LimitExceeded, Row, Usage, check_user, new_cluster, new_workers, workers_of
from tidehub.site.units import format_cores, format_size

if TYPE_CHECKING:
    from tidehub.site.model.dask import Dask


def usage(clusters: Iterable[Any], counted: Callable[[Any], bool] = lambda worker: True) -> Usage:
    """What clusters hold: their schedulers, and those of their active workers that `counted` says."""
    number, cores, memory = 0, 0.0, 0
    for cluster in clusters:
        config = cluster.config
        workers = sum(1 for worker in cluster.active_workers() if counted(worker))
        number += 1
        cores += config["scheduler_cores"] + workers * config["worker_cores"]
        memory += config["scheduler_memory"] + workers * config["worker_memory"]
    return Usage(number, cores, memory)


def refused_cluster(dask: Dask, clusters: Iterable[Any], config: Mapping[str, Any]) -> str | None:
    """Why a user with these clusters may not have another one now; None when they may."""
    return _refusal(dask, usage(clusters), new_cluster(dask))


def refused_worker(
    dask: Dask, clusters: Iterable[Any], worker: Any, counted: Callable[[Any], bool]
) -> str | None:
    """Why a user may not have this worker now, given the workers that hold memory already."""
    config = worker.cluster.config
    held = usage(clusters, lambda other: other is not worker and counted(other))
    return _refusal(dask, held, new_workers(config["worker_cores"], config["worker_memory"]))


def most_workers(dask: Dask, clusters: Iterable[Any], cluster: Any) -> Row:
    """How many workers `cluster` may have now, and the limit that binds: its own, or its owner's totals."""
    cores, memory = cluster.config["worker_cores"], cluster.config["worker_memory"]
    row = workers_of(dask, cores, memory)
    others = usage(other for other in clusters if other is not cluster)
    held_cores = others.cores + cluster.config["scheduler_cores"]
    held_memory = others.memory + cluster.config["scheduler_memory"]
    bounds = [(row.workers, row.bound_by)]
    if dask.per_user.max_cores is not None:
        left = max(0.0, dask.per_user.max_cores - held_cores)
        bounds.append((int(left // cores), "dask.per_user.max_cores"))
    if dask.per_user.max_memory is not None:
        left_bytes = max(0, dask.per_user.max_memory - held_memory)
        bounds.append((int(left_bytes // memory), "dask.per_user.max_memory"))
    workers, key = min(bounds, key=lambda bound: bound[0])
    return Row(cores, memory, workers, key)


def limit_words(dask: Dask, row: Row) -> str:
    """Which limit binds, and its value, for the end of a warning about scaling."""
    section = dask.per_user if ".per_user." in row.bound_by else dask.cluster
    value = getattr(section, row.bound_by.rsplit(".", 1)[-1])
    text = format_size(value) if row.bound_by.endswith("memory") else f"{value:g}"
    whose = "for all clusters of one user together" if section is dask.per_user else "for one cluster"
    scheduler = (
        f"the scheduler takes {format_cores(dask.scheduler.cores)} and {format_size(dask.scheduler.memory)}"
    )
    return (
        f"The limit is {row.bound_by}: {text} {whose}; a worker of yours has {format_cores(row.cores)} and "
        f"{format_size(row.memory)}, and {scheduler}."
    )


def _refusal(dask: Dask, held: Usage, wanted: Usage) -> str | None:
    try:
        check_user(dask, held, wanted)
    except LimitExceeded as error:
        return str(error)
    return None
