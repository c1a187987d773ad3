"""Schedulers and workers as processes of their owner: command lines, environments, limits, and how they
ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tidehub.capacity.queue import SCHEDULER, WORKER, Reservation
from tidehub.local.gateway.config import GUARD, NOTICES, TLS_ERRORS, GatewaySettings
from tidehub.local.gateway.workdirs import CERTIFICATE, KEY, log_file
from tidehub.local.isolation import Ending, LaunchSpec, Limits, User
from tidehub.site.units import about_size

NANNY_MEMORY = 112 * 2**20
"""Bytes of a worker's limit that its nanny process takes."""


def scheduler_reservation(name: str, owner: str, config: Mapping[str, Any]) -> Reservation:
    """The reservation of a cluster's scheduler on the machine."""
    return Reservation(
        f"scheduler:{name}", SCHEDULER, owner, config["scheduler_memory"], config["scheduler_cores"]
    )


def worker_reservation(cluster: str, name: str, owner: str, config: Mapping[str, Any]) -> Reservation:
    """The reservation of one worker on the machine."""
    return Reservation(
        f"worker:{cluster}:{name}", WORKER, owner, config["worker_memory"], config["worker_cores"]
    )


def with_packages(command: Sequence[str], notebook_side: Path | None) -> list[str]:
    """Upstream's command line (a Python of a profile first), run with the packages that the user installed: what a
    notebook sends is unpickled there. Whether there are any is looked up by the process itself, as the user.
    """
    if notebook_side is None:
        return list(command)
    return [command[0], str(notebook_side / "with_packages.py"), *command[1:]]


def preloaded(command: Sequence[str], workdir: Path, *, scheduler: bool) -> list[str]:
    """Upstream's command line with our files preloaded first (`dask scheduler --preload A --preload B ...`)."""
    files = [TLS_ERRORS, GUARD, NOTICES] if scheduler else [TLS_ERRORS, GUARD]
    ours = [word for file in files for word in ("--preload", str(workdir / file.name))]
    if "--preload" in command:
        at = list(command).index("--preload")
        return [*command[:at], *ours, *command[at:]]
    return [*command, *ours]


def terminate_fraction(memory: int) -> float:
    """Share of its memory at which the nanny ends a worker: before the kernel would end worker or nanny.

    Upstream's is 0.95 of the worker alone; worker and nanny share one limit here.
    """
    return round(max(0.82, min(0.95, 1 - NANNY_MEMORY / memory)), 3)


def environment(
    upstream: Mapping[str, str],
    settings: GatewaySettings,
    user: User,
    workdir: Path,
    profile: str,
    key: str,
) -> dict[str, str]:
    """The whole environment of a scheduler or worker: upstream's variables, the user's, the profile's PATH."""
    root = settings.environments[profile]
    return {
        "LANG": "C.UTF-8",
        "PYTHONUTF8": "1",
        **upstream,
        "PATH": f"{root / 'bin'}:{user.home}/.local/bin:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(user.home),
        "USER": user.name,
        "LOGNAME": user.name,
        "SHELL": "/bin/bash",
        "PYTHONUNBUFFERED": "1",
        "TIDEHUB_DASHBOARD_KEY": key,
        "DASK_TEMPORARY_DIRECTORY": str(workdir / "scratch"),
    }


def worker_memory_settings(memory: int) -> dict[str, str]:
    """What a worker is told about memory beyond its limit."""
    return {"DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE": str(terminate_fraction(memory))}


def launch_spec(
    settings: GatewaySettings,
    user: User,
    *,
    cluster: str,
    process: str,
    argv: Sequence[str],
    env: Mapping[str, str],
    workdir: Path,
    profile: str,
    memory: int,
    cores: float,
) -> LaunchSpec:
    """What the isolation is asked to start. `process` is `scheduler` or `worker-<name>`."""
    return LaunchSpec(
        name=f"dask-{cluster[:12]}-{process[:16]}",
        user=user,
        argv=list(argv),
        env=dict(env),
        cwd=user.home,
        log=log_file(settings.logs_dir, cluster, process),
        limits=Limits(
            memory=memory,
            memory_guarantee=memory,
            cores=cores,
            cores_guarantee=cores,
            processes=settings.max_processes,
        ),
        readable=(settings.environments[profile], *settings.readable),
        writable=(workdir,),
        parent="clusters",
    )


def tls_paths(workdir: Path) -> tuple[str, str]:
    """Certificate and key of a cluster."""
    return str(workdir / CERTIFICATE), str(workdir / KEY)


def ending_words(what: str, ending: Ending, limit: int) -> str:
    """How a scheduler or worker ended, as a user reads it; `what` is "The scheduler of ..." or "A worker of
    ...".
    """
    if ending.out_of_memory:
        size = about_size(ending.limit or limit)
        remedy = (
            "Keep less in the scheduler: fewer tasks, larger chunks, and no large objects sent from the notebook."
            if what.startswith("The scheduler")
            else "Choose a larger worker_memory, or smaller chunks."
        )
        return f"{what} was stopped because it used more than its memory limit of {size}. {remedy}"
    return f"{what} {ending.words()}."


def dashboard_of(said: str) -> str:
    """The origin of a dashboard, `http://127.0.0.1:PORT`, or nothing (pure).

    The scheduler says it, so its owner chose it: what is not on this machine is not followed.
    """
    try:
        parts = urlsplit(said)
        ours = parts.scheme == "http" and ip_address(parts.hostname or "").is_loopback and parts.port
    except ValueError:
        return ""
    return f"http://{parts.netloc.rpartition('@')[2]}" if ours else ""
