"""Dask limits against the choices that users have: what can never be reached, and what only looks reachable."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

from tidehub import program
from tidehub.gateway.limits import Row, effective, workers_of
from tidehub.site.images import has_tag, is_moving, is_reference
from tidehub.site.model.dask import Choice, Dask
from tidehub.site.problems import FILE, KeyPath, Problem
from tidehub.site.units import format_cores, format_size


def check_dask(dask: Dask) -> list[Problem]:
    """Contradictions among the Dask choices and limits, with the numbers."""
    if dask.engine == "none":
        return []
    ranges = [
        *_range(dask.worker.cores, ("dask", "worker", "cores"), format_cores),
        *_range(dask.worker.memory, ("dask", "worker", "memory"), format_size),
    ]
    scheduler = list(_scheduler(dask))
    found = [*ranges, *scheduler, *_image(dask), *_per_user(dask), *_operator(dask)]
    return found if ranges or scheduler else [*found, *_reachable(dask)]


def _range(choice: Choice[Any], path: KeyPath, shown: Callable[[Any], str]) -> Iterator[Problem]:
    low, high = shown(choice.min), shown(choice.max)
    if choice.min > choice.max:
        yield Problem(f"the smallest choice {low} is more than the largest {high}", (*path, "min"))
    elif not choice.min <= choice.default <= choice.max:
        what = f"the default {shown(choice.default)} cannot be chosen"
        yield Problem(what, (*path, "default"), expected=f"{low} to {high}")


def _scheduler(dask: Dask) -> Iterator[Problem]:
    scheduler, cluster = dask.scheduler, dask.cluster
    if scheduler.cores > cluster.max_cores:
        yield Problem(
            f"a cluster may have {format_cores(cluster.max_cores)}, and its scheduler alone takes "
            f"{format_cores(scheduler.cores)} (dask.scheduler.cores)",
            ("dask", "cluster", "max_cores"),
        )
    if scheduler.memory > cluster.max_memory:
        yield Problem(
            f"a cluster may have {format_size(cluster.max_memory)}, and its scheduler alone takes "
            f"{format_size(scheduler.memory)} (dask.scheduler.memory)",
            ("dask", "cluster", "max_memory"),
        )


def _operator(dask: Dask) -> Iterator[Problem]:
    """All notebook servers are one account to the Dask operator, so nothing there counts by user."""
    if dask.engine != "operator":
        return
    yield Problem(
        "with the Dask operator a site holds the size of workers and schedulers and dask.cluster.max_workers; "
        "dask.per_user and dask.cluster's cores and memory are not held, and users can reach each other's schedulers",
        ("dask", "engine"),
        fix="write dask.engine: gateway where these limits matter",
        severity="warning",
    )
    # dask_kubernetes/operator/kubecluster/kubecluster.py, make_scheduler_spec, up to 2026.3.0: the name is fixed there.
    yield Problem(
        "KubeCluster of dask-kubernetes 2026.3.0 and older starts the program dask-scheduler, which distributed 2026.6 "
        "and newer do not have",
        ("dask", "engine"),
        fix="use images with distributed before 2026.6, or write dask.engine: gateway",
        severity="warning",
    )


def _reachable(dask: Dask) -> Iterator[Problem]:
    rows = effective(dask)
    default = workers_of(dask, dask.worker.cores.default, dask.worker.memory.default)
    if default.workers == 0:
        yield Problem(
            f"a cluster cannot have one default worker: {_why(dask, default)}", _path(default.bound_by)
        )
        return
    never = [row for row in rows if row.workers == 0]
    if never:
        sizes = "; ".join(_size(row) for row in never)
        yield Problem(
            f"users may choose workers that no cluster can have ({sizes}): {_why(dask, never[0])}",
            _path(never[0].bound_by),
            fix="raise this limit, or lower dask.worker's max",
        )
    few = [row for row in rows if 0 < row.workers < dask.cluster.max_workers]
    severity = _surprise(dask, few)
    if severity is not None:
        table = "; ".join(f"{_size(row)}: {row.workers} ({row.bound_by})" for row in few[:6])
        table += f"; and {len(few) - 6} more" if len(few) > 6 else ""
        yield Problem(
            f"{dask.cluster.max_workers} workers are allowed, but not of every size, because the scheduler counts too "
            f"({format_cores(dask.scheduler.cores)}, {format_size(dask.scheduler.memory)}). {table}",
            ("dask", "cluster", "max_workers"),
            fix=f"see the whole table with: {program.command('limits', FILE)}",
            severity=severity,
        )


def _surprise(dask: Dask, few: list[Row]) -> Literal["warning", "note"] | None:
    """Larger workers are rightly fewer. Workers of the default cores are not; and where the larger ones are less than
    half as many, users will ask why."""
    if any(row.cores == dask.worker.cores.default for row in few):
        return "warning"
    return "note" if any(2 * row.workers < dask.cluster.max_workers for row in few) else None


def _per_user(dask: Dask) -> Iterator[Problem]:
    per_user, cluster = dask.per_user, dask.cluster
    pairs: list[tuple[str, float | None, float, Callable[[Any], str]]] = [
        ("max_cores", per_user.max_cores, cluster.max_cores, format_cores),
        ("max_memory", per_user.max_memory, cluster.max_memory, format_size),
    ]
    for name, total, one, shown in pairs:
        if total is not None and total < one:
            yield Problem(
                f"a user may have {shown(total)} in all, so no cluster reaches dask.cluster.{name}, {shown(one)}",
                ("dask", "per_user", name),
                severity="warning",
            )


def _image(dask: Dask) -> Iterator[Problem]:
    image, path = dask.image.default, ("dask", "image", "default")
    if image == "profile":
        return
    if not is_reference(image):
        yield not_an_image(image, path)
    elif not has_tag(image):
        severe = dask.image.choice == "tagged"
        what = f"{image} has no tag" + (", which dask.image.choice asks for" if severe else "")
        yield Problem(what, path, fix=f"write {image}:TAG", severity="error" if severe else "warning")
    elif is_moving(image):
        fix = "name a release instead of latest, or follow the notebook with: profile"
        yield Problem(f"{image} changes without notice", path, fix=fix, severity="warning")


def not_an_image(image: str, path: KeyPath) -> Problem:
    """What is said of an image that no cluster could pull."""
    return Problem(
        f"{image!r} is not the name of a container image",
        path,
        expected="a name in lower case with a tag, such as quay.io/example/notebook:2026.11",
    )


def _why(dask: Dask, row: Row) -> str:
    owner = dask.per_user if ".per_user." in row.bound_by else dask.cluster
    limit = getattr(owner, row.bound_by.rsplit(".", 1)[-1])
    if row.bound_by.endswith("memory"):
        parts = (format_size(limit), format_size(dask.scheduler.memory), format_size(row.memory))
    else:
        parts = (format_cores(limit), format_cores(dask.scheduler.cores), format_cores(row.cores))
    return f"{row.bound_by} is {parts[0]}, the scheduler takes {parts[1]}, and this worker needs {parts[2]}"


def _size(row: Row) -> str:
    return f"{format_cores(row.cores)} and {format_size(row.memory)}"


def _path(key: str) -> KeyPath:
    return tuple(key.split("."))
