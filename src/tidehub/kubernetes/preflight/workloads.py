"""The pods that a platform will have, and what each asks for. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tidehub.kubernetes.objects import Object
from tidehub.kubernetes.planning.quantities import amount

if TYPE_CHECKING:
    from tidehub.kubernetes.rendering.model import Rendered
    from tidehub.site.model import Site

Amounts = Mapping[str, Decimal]
"""By resource name as Kubernetes has it: `cpu` in cores, `memory` and `ephemeral-storage` in bytes."""
_TEMPLATES = frozenset({"Deployment", "StatefulSet", "ReplicaSet", "DaemonSet", "Job"})


@dataclass(frozen=True)
class Workload:
    """Pods of one kind."""

    name: str
    """For messages: `Deployment hub`, `a server of profile X`."""
    pod: Object = field(repr=False)
    """A pod template: metadata and spec."""
    count: int = 1
    """How many at once; 0 for one on every node."""
    hook: bool = False

    @property
    def requests(self) -> Amounts:
        """What the scheduler keeps free for one pod."""
        return pod_amounts(self.pod.get("spec") or {}, "requests")

    @property
    def limits(self) -> Amounts:
        """What one pod may use at most, of what has a limit."""
        return pod_amounts(self.pod.get("spec") or {}, "limits")


def workloads(rendered: Rendered) -> list[Workload]:
    """Everything of the charts and hooks that becomes pods."""
    found = [one for _, obj in rendered.everything() for one in _of(obj, hook=False)]
    found += [one for release in rendered.releases for obj in release.hooks for one in _of(obj, hook=True)]
    return found


def user_pods(site: Site) -> list[Workload]:
    """What users start: a server of each profile, a Dask scheduler, and the largest worker to be chosen."""
    found = []
    for profile in site.notebooks.profiles:
        cpu, memory = site.notebooks.cpu_of(profile), site.notebooks.memory_of(profile)
        requests = {"cpu": _cores(cpu.guarantee), "memory": str(memory.guarantee)}
        limits = {"cpu": _cores(cpu.limit), "memory": str(memory.limit)}
        scratch = site.notebooks.ephemeral_storage
        if scratch is not None:
            requests["ephemeral-storage"], limits["ephemeral-storage"] = (
                str(scratch.guarantee),
                str(scratch.limit),
            )
        found.append(_pod(f"a server of profile {profile.name}", profile.image, requests, limits))
    if site.dask.engine != "none":
        image = None if site.dask.image.default == "profile" else site.dask.image.default
        image = image or site.notebooks.default_profile.image
        scheduler, worker = site.dask.scheduler, site.dask.worker
        asked = {"cpu": _cores(scheduler.cores), "memory": str(scheduler.memory)}
        found.append(_pod("a Dask scheduler", image, asked, asked))
        asked = {"cpu": _cores(worker.cores.max), "memory": str(worker.memory.max)}
        found.append(_pod("the largest Dask worker that users may choose", image, asked, asked))
    return found


def pod_amounts(spec: Mapping[str, Any], which: str) -> Amounts:
    """Requests or limits of a pod: the sum of its containers, or its greediest init container where that is more.

    As the scheduler counts: https://kubernetes.io/docs/concepts/workloads/pods/init-containers/#resource-sharing-within-containers
    A container with a limit and no request requests its limit.
    """
    running = _total(_amounts(one, which) for one in spec.get("containers") or [])
    starting = _total(
        _amounts(one, which)
        for one in spec.get("initContainers") or []
        if one.get("restartPolicy") == "Always"
    )
    running = _total([running, starting])
    for one in spec.get("initContainers") or []:
        for name, number in _amounts(one, which).items():
            running[name] = max(running.get(name, Decimal(0)), number)
    for name, number in _numbers(spec.get("overhead") or {}).items():
        running[name] = running.get(name, Decimal(0)) + number
    return running


def containers(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All containers of a pod, those that prepare it first."""
    return [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]


def _of(obj: Object, *, hook: bool) -> Iterator[Workload]:
    kind, spec = str(obj.get("kind")), obj.get("spec") or {}
    name = f"{kind} {(obj.get('metadata') or {}).get('name')}"
    if kind == "Pod":
        yield Workload(name, obj, hook=hook)
    elif kind == "CronJob":
        template = ((spec.get("jobTemplate") or {}).get("spec") or {}).get("template") or {}
        yield Workload(name, template, hook=hook)
    elif kind in _TEMPLATES:
        count = 0 if kind == "DaemonSet" else int(spec.get("replicas", 1) if kind != "Job" else 1)
        if count or kind == "DaemonSet":
            yield Workload(name, spec.get("template") or {}, count, hook)


def _pod(name: str, image: str | None, requests: Mapping[str, str], limits: Mapping[str, str]) -> Workload:
    container = {
        "name": "main",
        "image": image or "",
        "resources": {"requests": dict(requests), "limits": dict(limits)},
    }
    return Workload(name, {"metadata": {"name": "main"}, "spec": {"containers": [container]}})


def _amounts(container: Mapping[str, Any], which: str) -> dict[str, Decimal]:
    resources = container.get("resources") or {}
    found = _numbers(resources.get("limits") or {})
    if which == "requests":
        found |= _numbers(resources.get("requests") or {})
    return found


def _numbers(quantities: Mapping[str, Any]) -> dict[str, Decimal]:
    read = {str(name): amount(value) for name, value in quantities.items()}
    return {name: number for name, number in read.items() if number is not None}


def _total(many: Iterable[Mapping[str, Decimal]]) -> dict[str, Decimal]:
    total: dict[str, Decimal] = {}
    for one in many:
        for name, number in one.items():
            total[name] = total.get(name, Decimal(0)) + number
    return total


def _cores(number: float) -> str:
    return f"{round(number * 1000)}m"


def told(amounts: Amounts) -> str:
    """Amounts as they are written: `2 cores, 4 GiB memory, 8 GiB scratch`; what is nothing is left out."""
    names = {"cpu": "", "memory": " memory", "ephemeral-storage": " scratch"}
    parts = [
        f"{written(name, number)}{names.get(name, f' {name}')}" for name, number in amounts.items() if number
    ]
    return ", ".join(parts) or "nothing"


def written(name: str, number: Decimal) -> str:
    """An amount as it is written: `2 cores`, `1.5 GiB`, `3`."""
    if name.removeprefix("requests.").removeprefix("limits.") == "cpu":
        return f"{_plain(number)} core{'' if number == 1 else 's'}"
    if "memory" in name or "storage" in name:
        for unit, size in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20)):
            if abs(number) >= size:
                return f"{_plain(round(number / size, 1))} {unit}"
        return f"{_plain(number)} bytes"
    return _plain(number)


def _plain(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
