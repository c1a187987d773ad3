"""Whether a site fits a machine, and how to make it fit. Pure.

Memory guarantees are never promised twice, so what is larger than the machine can never start; processor time is
shared out by weight and may be promised more than once.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from tidehub.login.entitled import largest_servers
from tidehub.site.model import Bytes, Cores, Notebooks, Profile, Site
from tidehub.site.model.dask import Choice, Dask
from tidehub.site.model.group_rules import GroupRule
from tidehub.site.units import about_size, format_cores, format_size

MIB = 2**20
USERS = 2
"""Users whose notebook servers a fitted site holds at once ..."""
WORKERS = 2
"""... beside one cluster with this many default workers."""
LEAST_NOTEBOOK = 256 * MIB
"""JupyterLab with one small kernel; below it servers are killed before they are of use."""
LEAST_DASK = 192 * MIB
"""A Dask scheduler or worker that has imported its libraries."""


def capacity(machine_memory: int, site: Site) -> int:
    """Bytes of `machine_memory` that may be guaranteed to users: all but `machine.reserve_memory`."""
    return max(0, machine_memory - site.machine.reserve_memory)


def impossible(site: Site, machine_memory: int, machine_cores: float) -> list[str]:
    """What can never start on a machine of `machine_memory` bytes and `machine_cores`, one sentence each."""
    room = capacity(machine_memory, site)
    machine = (
        f"this machine has {about_size(room)} for users ({about_size(machine_memory)}, of which "
        f"machine.reserve_memory keeps {format_size(site.machine.reserve_memory)})"
    )
    found = []
    for label, memory, cores in _notebook_guarantees(site):
        if memory > room:
            found.append(f"{label} guarantees {format_size(memory)} of memory, and {machine}")
        if cores > machine_cores:
            found.append(f"{label} guarantees {format_cores(cores)}, and this machine has {machine_cores:g}")
    if site.dask.engine != "none":
        found += _impossible_dask(site, room, machine, machine_cores, alone=not found)
    return found


def _impossible_dask(site: Site, room: int, machine: str, machine_cores: float, *, alone: bool) -> list[str]:
    dask = site.dask
    scheduler, worker, cores = dask.scheduler.memory, dask.worker.memory.default, dask.worker.cores.default
    found = []
    if scheduler > room:
        found.append(f"a Dask scheduler takes {format_size(scheduler)} of memory, and {machine}")
    if worker > room:
        found.append(f"a Dask worker takes {format_size(worker)} of memory by default, and {machine}")
    if dask.scheduler.cores > machine_cores:
        found.append(
            f"a Dask scheduler takes {format_cores(dask.scheduler.cores)}, and this machine has {machine_cores:g}"
        )
    if cores > machine_cores:
        found.append(
            f"a Dask worker takes {format_cores(cores)} by default, and this machine has {machine_cores:g}"
        )
    notebook = min(memory for _, memory, _ in _notebook_guarantees(site))
    together = notebook + scheduler + worker
    if alone and not found and together > room:
        found.append(
            f"a notebook server, a scheduler and one default worker take {format_size(notebook)} + "
            f"{format_size(scheduler)} + {format_size(worker)} = {format_size(together)} of memory together, and "
            f"{machine}: nobody could ever use a cluster"
        )
    return found


def cramped(site: Site, machine_memory: int) -> list[str]:
    """Of a site that can start here: profiles whose users never get a Dask worker, one sentence each."""
    if site.dask.engine == "none":
        return []
    room, dask = capacity(machine_memory, site), site.dask
    return [
        f"{label} ({format_size(memory)}), a scheduler ({format_size(dask.scheduler.memory)}) and one worker "
        f"({format_size(dask.worker.memory.default)}) do not fit together into the {about_size(room)} that this "
        "machine has for users: whoever takes that profile gets no workers"
        for label, memory, _ in _notebook_guarantees(site)
        if workers_that_fit(site, room, memory) < 1
    ]


def workers_that_fit(site: Site, room: int, notebook: int) -> int:
    """How many default workers fit into `room` bytes beside a server of `notebook` bytes and one scheduler."""
    dask = site.dask
    return max(0, room - notebook - dask.scheduler.memory) // dask.worker.memory.default


def fit(site: Site, memory: int, cores: float) -> tuple[Site, list[str]]:
    """The site with its sizes shrunk to a machine of `memory` bytes and `cores`, and what was shrunk.

    Two users with a notebook server each and one cluster of two default workers fit afterwards. Sizes shrink in
    proportion, never below what a server or a Dask process needs to start; a site that fits already is unchanged.
    """
    machine = site.machine
    changed: list[str] = []
    if machine.reserve_memory * 4 > memory:
        kept = max(_round(memory // 4), 0)
        changed.append(_line("machine.reserve_memory", machine.reserve_memory, kept))
        machine = machine.model_copy(update={"reserve_memory": kept})
    fitted = site.model_copy(update={"machine": machine})
    ratio = _ratio(fitted, capacity(memory, fitted))
    notebooks = _fit_notebooks(fitted.notebooks, ratio, cores, changed)
    dask = fitted.dask if site.dask.engine == "none" else _fit_dask(fitted.dask, ratio, cores, changed)
    groups = _fit_groups(site.login.groups, ratio, cores, changed)
    if not changed:
        return site, []
    login = site.login.model_copy(update={"groups": groups})
    fitted = fitted.model_copy(update={"notebooks": notebooks, "dask": dask, "login": login})
    short = _needed(fitted) - capacity(memory, fitted)
    if short > 0:
        changed.append(
            f"even so, two users and a cluster of two workers need {about_size(short)} more than this machine has: "
            "some of it will wait in the queue"
        )
    return fitted, changed


def _needed(site: Site) -> int:
    notebook = max(memory for _, memory, _ in _notebook_guarantees(site))
    if site.dask.engine == "none":
        return USERS * notebook
    return USERS * notebook + site.dask.scheduler.memory + WORKERS * site.dask.worker.memory.default


def _ratio(site: Site, room: int) -> Fraction:
    """The largest ratio, in thousandths, at which two users and a cluster fit in `room` bytes; 0 when none does."""
    dask = site.dask
    notebook = max(memory for _, memory, _ in _notebook_guarantees(site))
    for thousandths in range(1000, 0, -1):
        ratio = Fraction(thousandths, 1000)
        needed = USERS * _shrunk(notebook, ratio, LEAST_NOTEBOOK)
        if dask.engine != "none":
            needed += _shrunk(dask.scheduler.memory, ratio, LEAST_DASK)
            needed += WORKERS * _shrunk(dask.worker.memory.default, ratio, LEAST_DASK)
        if needed <= room:
            return ratio
    return Fraction(0)


def _notebook_guarantees(site: Site) -> list[tuple[str, int, float]]:
    """Of every profile, as large as a rule for a group can make it."""
    return [
        (
            f"a notebook server of the profile {server.profile.name}",
            server.memory.guarantee,
            server.cpu.guarantee,
        )
        for server in largest_servers(site)
    ]


def _fit_groups(
    groups: tuple[GroupRule, ...], ratio: Fraction, cores: float, changed: list[str]
) -> tuple[GroupRule, ...]:
    fitted = []
    for index, group in enumerate(groups):
        more, update = group.notebooks, dict[str, object]()
        key = f"login.groups[{index}].notebooks"
        if more is not None and more.memory is not None:
            written = Bytes.model_construct(guarantee=more.memory.guarantee or 0, limit=more.memory.limit)
            amount = _fit_bytes(f"{key}.memory", written, ratio, changed)
            smaller = {"guarantee": amount.guarantee or None, "limit": amount.limit}
            update["memory"] = more.memory.model_copy(update=smaller)
        if more is not None and more.cpu is not None and more.cpu.guarantee is not None:
            share = _fit_cores(
                f"{key}.cpu", Cores(guarantee=more.cpu.guarantee, limit=more.cpu.limit), cores, changed
            )
            update["cpu"] = more.cpu.model_copy(update={"guarantee": share.guarantee, "limit": share.limit})
        fitted.append(
            group.model_copy(update={"notebooks": more.model_copy(update=update)})
            if more is not None
            else group
        )
    return tuple(fitted)


def _fit_notebooks(notebooks: Notebooks, ratio: Fraction, cores: float, changed: list[str]) -> Notebooks:
    everyone: dict[str, object] = {
        "memory": _fit_bytes("notebooks.memory", notebooks.memory, ratio, changed),
        "cpu": _fit_cores("notebooks.cpu", notebooks.cpu, cores, changed),
    }
    profiles: list[Profile] = []
    for index, profile in enumerate(notebooks.profiles):
        key = f"notebooks.profiles[{index}]"
        update: dict[str, object] = {}
        if profile.memory is not None:
            update["memory"] = _fit_bytes(f"{key}.memory", profile.memory, ratio, changed)
        if profile.cpu is not None:
            update["cpu"] = _fit_cores(f"{key}.cpu", profile.cpu, cores, changed)
        profiles.append(profile.model_copy(update=update))
    return notebooks.model_copy(update={**everyone, "profiles": tuple(profiles)})


def _fit_bytes(key: str, written: Bytes, ratio: Fraction, changed: list[str]) -> Bytes:
    guarantee = _shrunk(written.guarantee, ratio, LEAST_NOTEBOOK)
    limit = max(guarantee, _shrunk(written.limit, ratio, LEAST_NOTEBOOK * 2))
    for name, before, after in (("guarantee", written.guarantee, guarantee), ("limit", written.limit, limit)):
        if before != after:
            changed.append(_line(f"{key}.{name}", before, after))
    return Bytes.model_construct(guarantee=guarantee, limit=limit)


def _fit_cores(key: str, written: Cores, cores: float, changed: list[str]) -> Cores:
    for name, before in (("guarantee", written.guarantee), ("limit", written.limit)):
        if before > cores:
            changed.append(f"{key}.{name}: {format_cores(before)} becomes {format_cores(cores)}")
    return Cores(guarantee=min(written.guarantee, cores), limit=min(written.limit, cores))


def _fit_dask(dask: Dask, ratio: Fraction, cores: float, changed: list[str]) -> Dask:
    memory, size = dask.worker.memory, dask.scheduler.memory
    whole = max(1.0, float(int(cores)))
    fitted: dict[str, int] = {
        "dask.scheduler.memory": _shrunk(size, ratio, LEAST_DASK),
        "dask.worker.memory.min": _shrunk(memory.min, ratio, LEAST_DASK),
        "dask.worker.memory.default": _shrunk(memory.default, ratio, LEAST_DASK),
        "dask.worker.memory.max": _shrunk(memory.max, ratio, LEAST_DASK),
    }
    before = dict(zip(fitted, (size, memory.min, memory.default, memory.max), strict=True))
    changed += [_line(key, before[key], after) for key, after in fitted.items() if before[key] != after]
    scheduler, smallest, default, largest = fitted.values()
    choice = dask.worker.cores
    counts = {
        "dask.scheduler.cores": dask.scheduler.cores,
        "dask.worker.cores.min": choice.min,
        "dask.worker.cores.default": choice.default,
        "dask.worker.cores.max": choice.max,
    }
    changed += [
        f"{key}: {format_cores(count)} becomes {format_cores(whole)}"
        for key, count in counts.items()
        if count > whole
    ]
    # The cluster's own limits keep room for the scheduler and the workers they were written for.
    cluster_memory = max(
        _shrunk(dask.cluster.max_memory, ratio, LEAST_DASK), scheduler + max(largest, WORKERS * default)
    )
    limits: dict[str, object] = {"max_memory": min(dask.cluster.max_memory, cluster_memory)}
    if limits["max_memory"] != dask.cluster.max_memory:
        changed.append(_line("dask.cluster.max_memory", dask.cluster.max_memory, cluster_memory))
    return dask.model_copy(
        update={
            "cluster": dask.cluster.model_copy(update=limits),
            "scheduler": dask.scheduler.model_copy(
                update={"memory": scheduler, "cores": min(dask.scheduler.cores, whole)}
            ),
            "worker": dask.worker.model_copy(
                update={
                    "memory": _choice(memory, smallest, default, largest),
                    "cores": _choice(
                        choice, *(min(count, whole) for count in (choice.min, choice.default, choice.max))
                    ),
                }
            ),
        }
    )


def _choice(written: Choice[Any], smallest: Any, default: Any, largest: Any) -> Choice[Any]:
    return written.model_copy(update={"min": smallest, "default": default, "max": largest})


def _shrunk(size: int, ratio: Fraction, least: int) -> int:
    return size if ratio == 1 else min(size, max(_round(int(size * ratio)), least))


def _round(size: int) -> int:
    step = 64 * MIB if size >= 1024 * MIB else 16 * MIB
    return size // step * step


def _line(key: str, before: int, after: int) -> str:
    return f"{key}: {format_size(before)} becomes {format_size(after)}"
