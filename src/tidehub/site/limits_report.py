"""What users can really have: the data of `tidehub limits`, and its words. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tidehub.gateway.limits import effective
from tidehub.site.end_words import rules
from tidehub.site.model import Bytes, Cores, Site
from tidehub.site.units import format_cores, format_duration, format_size


def limits_report(site: Site) -> dict[str, Any]:
    """For `--json`: sizes in bytes, times in seconds, cores as numbers; None where nothing limits.

    `workers` has a row for each size that may be chosen, with the workers a cluster can have, the key of the limit
    that binds and its value, and what the cluster then takes with its scheduler.
    """
    return {
        "notebooks": [_notebook(site, index) for index in range(len(site.notebooks.profiles))],
        "notebook_idle_timeout": site.notebooks.idle_timeout or None,
        "notebook_max_age": site.notebooks.max_age or None,
        "dask": _dask(site) if site.dask.engine != "none" else None,
    }


def _notebook(site: Site, index: int) -> dict[str, Any]:
    profile = site.notebooks.profiles[index]
    storage = site.notebooks.ephemeral_storage
    return {
        "profile": profile.name,
        "slug": profile.slug,
        "default": profile == site.notebooks.default_profile,
        "cpu": _pair(site.notebooks.cpu_of(profile)),
        "memory": _pair(site.notebooks.memory_of(profile)),
        "ephemeral_storage": _pair(storage) if storage else None,
        "home": site.notebooks.home.size,
    }


def _pair(amount: Cores | Bytes) -> dict[str, float | int]:
    return {"guarantee": amount.guarantee, "limit": amount.limit}


def _dask(site: Site) -> dict[str, Any]:
    dask = site.dask
    workers = [
        {
            "cores": row.cores,
            "memory": row.memory,
            "default": (row.cores, row.memory) == (dask.worker.cores.default, dask.worker.memory.default),
            "workers": row.workers,
            "bound_by": row.bound_by,
            "limit": _limit(site, row.bound_by),
            "cluster_cores": dask.scheduler.cores + row.workers * row.cores,
            "cluster_memory": dask.scheduler.memory + row.workers * row.memory,
        }
        for row in effective(dask)
    ]
    per_user = dask.per_user
    return {
        "scheduler": {"cores": dask.scheduler.cores, "memory": dask.scheduler.memory},
        "cluster": {
            "max_workers": dask.cluster.max_workers,
            "max_cores": dask.cluster.max_cores,
            "max_memory": dask.cluster.max_memory,
            "idle_timeout": dask.cluster.idle_timeout or None,
        },
        "workers": workers,
        "per_user": {
            "max_clusters": per_user.max_clusters,
            "max_cores": per_user.max_cores,
            "max_memory": per_user.max_memory,
            "most_cores": _most(per_user.max_clusters * dask.cluster.max_cores, per_user.max_cores),
            "most_memory": _most(per_user.max_clusters * dask.cluster.max_memory, per_user.max_memory),
        },
    }


def _most(clusters: float, total: float | None) -> float:
    return clusters if total is None else min(clusters, total)


def _limit(site: Site, key: str) -> float | int:
    owner = site.dask.per_user if ".per_user." in key else site.dask.cluster
    found: float | int = getattr(owner, key.rpartition(".")[2])
    return found


def lines(report: dict[str, Any]) -> list[str]:
    """The report as text."""
    found = ["Notebook servers", *_table(_notebook_rows(report))]
    idle = report["notebook_idle_timeout"]
    if not idle:
        found.append("  Idle servers go on.")
    found += [f"  {rule}" for rule in rules(idle or 0, report["notebook_max_age"] or 0)]
    dask = report["dask"]
    return [*found, "", *(_dask_lines(dask) if dask else ["No Dask clusters (dask.engine: none)"])]


def _notebook_rows(report: dict[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("profile", "cores", "memory", "scratch space", "home")]
    for row in report["notebooks"]:
        scratch, home = row["ephemeral_storage"], row["home"]
        rows.append(
            (
                row["profile"] + (" (preselected)" if row["default"] else ""),
                f"{row['cpu']['guarantee']:g} to {format_cores(row['cpu']['limit'])}",
                _sizes(row["memory"]),
                _sizes(scratch) if scratch else "-",
                format_size(home) if home else "-",
            )
        )
    return rows


def _sizes(pair: dict[str, int]) -> str:
    return f"{format_size(pair['guarantee'])} to {format_size(pair['limit'])}"


def _dask_lines(dask: dict[str, Any]) -> list[str]:
    scheduler, cluster, per_user = dask["scheduler"], dask["cluster"], dask["per_user"]
    rows = [("worker", "workers", "the cluster then takes", "bound by")]
    for row in dask["workers"]:
        limit = row["limit"]
        shown = format_size(int(limit)) if row["bound_by"].endswith("memory") else f"{limit:g}"
        rows.append(
            (
                _worker(row),
                str(row["workers"]),
                f"{format_cores(row['cluster_cores'])}, {format_size(row['cluster_memory'])}",
                f"{row['bound_by']} = {shown}",
            )
        )
    idle = cluster["idle_timeout"]
    most = f"{format_cores(per_user['most_cores'])}, {format_size(int(per_user['most_memory']))}"
    head = (
        f"One Dask cluster: at most {cluster['max_workers']} workers, {format_cores(cluster['max_cores'])}, "
        f"{format_size(cluster['max_memory'])} ({cluster['max_memory']:,} bytes). The scheduler counts: it takes "
        f"{format_cores(scheduler['cores'])}, {format_size(scheduler['memory'])}."
    )
    return [
        head,
        *_table(rows),
        f"  A cluster idle for {format_duration(idle)} is ended." if idle else "  Idle clusters go on.",
        "",
        f"One user: {_clusters(per_user['max_clusters'])} at once, together at most {most}.",
    ]


def _worker(row: dict[str, Any]) -> str:
    default = " (default)" if row["default"] else ""
    return f"{format_cores(row['cores'])}, {format_size(row['memory'])}{default}"


def _clusters(count: int) -> str:
    return "1 cluster" if count == 1 else f"{count} clusters"


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
