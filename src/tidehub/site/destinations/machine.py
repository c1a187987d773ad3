"""What keys become on one machine: kernel limits, options of programs, files. Pure.

Control groups are named as in version 2; on version 1 the isolation uses the files that mean the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tidehub.site.destinations import destination
from tidehub.site.destinations.convert import to_cgroup_cpu_max, to_cgroup_weight, to_whole_seconds
from tidehub.site.destinations.destination import Destination, Rule
from tidehub.site.model import Site
from tidehub.site.problems import KeyPath

_SERVER = "control group of the server"
_PROCESS = "control group of each"


def _plain(key: str, note: str = "") -> Rule:
    return lambda site, value, path: [] if value is None else [destination.machine(key, value, note)]


def _memory_limit(note: str) -> Rule:
    return lambda site, value, path: [
        destination.machine("memory.max", value, note),
        destination.machine("memory.swap.max", 0, note),
    ]


def _cpu_limit(note: str) -> Rule:
    return lambda site, value, path: [destination.machine("cpu.max", to_cgroup_cpu_max(value), note)]


def _cpu_guarantee(note: str) -> Rule:
    return lambda site, value, path: [destination.machine("cpu.weight", to_cgroup_weight(value), note)]


def _dask_memory(what: str) -> Rule:
    note = f"{_PROCESS} {what}"
    return lambda site, value, path: [
        destination.machine("memory.max", value, note),
        destination.machine("memory.low", value, note),
    ]


def _idle(site: Site, value: float, path: KeyPath) -> Iterable[Destination]:
    if value:
        yield destination.machine("jupyterhub-idle-culler --timeout", to_whole_seconds(value))
    else:
        yield destination.machine("jupyterhub-idle-culler", None, "stops nobody for being idle")


def _age(site: Site, value: float, path: KeyPath) -> Iterable[Destination]:
    yield destination.machine("jupyterhub-idle-culler --max-age", to_whole_seconds(value))


def _image(site: Site, value: str | None, path: KeyPath) -> Iterable[Destination]:
    yield destination.machine("(not used)", None, "one machine runs the profile's environment, not an image")


def _home(site: Site, value: int | None, path: KeyPath) -> Iterable[Destination]:
    if value is not None:
        yield destination.machine(
            "limit of a user's files",
            value,
            "home, /tmp and clusters' directories; above it nothing new is started",
        )


def _address(site: Site, value: Any, path: KeyPath) -> Iterable[Destination]:
    listen = f"{site.machine.address}:{site.machine.port}"
    yield destination.machine("configurable-http-proxy listens on", listen)


def _total(site: Site, value: Any, path: KeyPath) -> Iterable[Destination]:
    if value is not None:
        yield destination.machine(f"gateway's admission: {path[-1]}", value, "over all clusters of a user")


RULES: dict[str, Rule] = {
    "site.url": lambda site, value, path: [destination.machine("base path of everything", site.base_path)],
    "notebooks.cpu.guarantee": _cpu_guarantee(_SERVER),
    "notebooks.cpu.limit": _cpu_limit(_SERVER),
    "notebooks.memory.guarantee": _plain(
        "memory.low", f"{_SERVER}; counted in the ledger, never promised twice"
    ),
    "notebooks.memory.limit": _memory_limit(_SERVER),
    "notebooks.profiles[].cpu.guarantee": _cpu_guarantee(_SERVER),
    "notebooks.profiles[].cpu.limit": _cpu_limit(_SERVER),
    "notebooks.profiles[].memory.guarantee": _plain("memory.low", _SERVER),
    "notebooks.profiles[].memory.limit": _memory_limit(_SERVER),
    "notebooks.profiles[].image": _image,
    "notebooks.profiles[].packages": _plain("environment of the profile", "made by uv"),
    "notebooks.profiles[].lock": _plain("environment of the profile", "made by uv from this lock file"),
    "notebooks.ephemeral_storage.guarantee": lambda site, value, path: [
        destination.machine("(not used)", None, "each server has a private /tmp on the machine's disk")
    ],
    "notebooks.home.size": _home,
    "notebooks.idle_timeout": _idle,
    "notebooks.max_age": _age,
    "notebooks.max_processes": _plain("pids.max", _SERVER),
    "dask.worker.cores.default": _cpu_limit(f"{_PROCESS} worker, unless another size is chosen"),
    "dask.worker.memory.default": _dask_memory("worker, unless another size is chosen"),
    "dask.scheduler.cores": _cpu_limit(f"{_PROCESS} scheduler"),
    "dask.scheduler.memory": _dask_memory("scheduler"),
    "dask.cluster.orphan_grace": _plain("the reaper's grace, in seconds"),
    "dask.per_user.max_clusters": _total,
    "dask.per_user.max_cores": _total,
    "dask.per_user.max_memory": _total,
    "dask.image.default": _image,
    "machine.address": _address,
    "machine.port": _address,
    "machine.scheduler_port": _plain("the address of Dask schedulers for clients outside"),
    "machine.tls.certificate": _plain("configurable-http-proxy's certificate"),
    "machine.tls.key": _plain("configurable-http-proxy's key"),
    "machine.trusted_proxies": _plain("reverse proxies whose forwarded headers are trusted"),
    "machine.reserve_memory": _plain("memory that the ledger never promises"),
    "machine.database_url": _plain("JupyterHub.db_url"),
}
_BY_MEMBERSHIP = (
    "login.groups[].group",
    "login.groups[].profiles",
    "login.groups[].notebooks.cpu.guarantee",
    "login.groups[].notebooks.cpu.limit",
    "login.groups[].notebooks.memory.guarantee",
    "login.groups[].notebooks.memory.limit",
    "login.groups[].dask.enabled",
    "login.groups[].dask.worker.cores.max",
    "login.groups[].dask.worker.memory.max",
    "login.groups[].dask.cluster.max_workers",
    "login.groups[].dask.cluster.max_cores",
    "login.groups[].dask.cluster.max_memory",
    "login.groups[].dask.per_user.max_clusters",
    "login.groups[].dask.per_user.max_cores",
    "login.groups[].dask.per_user.max_memory",
    "notebooks.profiles[].allow.users",
    "notebooks.profiles[].allow.groups",
    "dask.access",
)
RULES |= dict.fromkeys(
    _BY_MEMBERSHIP,
    _plain("what a user has", "by tidehub.login.entitled, at each start of a server or cluster"),
)
RULES["notebooks.ephemeral_storage.limit"] = RULES["notebooks.ephemeral_storage.guarantee"]
