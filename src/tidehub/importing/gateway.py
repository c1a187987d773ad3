"""Dask clusters: values of the dask-gateway chart and the Python in them become `dask`."""

from __future__ import annotations

from typing import Any

from tidehub.errors import Place
from tidehub.importing.cluster_options import Range, Recovered, recover
from tidehub.importing.draft import Draft, cores, is_line, size
from tidehub.importing.fates import ChartValues
from tidehub.importing.notebooks import duration
from tidehub.importing.python_reading import Statements, parse
from tidehub.importing.quantities import kubernetes_bytes, kubernetes_cores, trait_bytes
from tidehub.site.problems import KeyPath

GIB = 2**30
_DEFAULT_MEMORY = 2 * GIB
"""Of a worker and of a scheduler (dask_gateway_server/backends/base.py)."""
_MOST_WORKERS = 4


def import_gateway(gateway: ChartValues, draft: Draft) -> None:
    """Set `dask`. Everything is written out: the chart's defaults are not those of a site file."""
    _glue(gateway, draft)
    _auth(gateway, draft)
    code = _Code(gateway)
    _Clusters(gateway, draft, code).run()
    code.settle()


def _glue(gateway: ChartValues, draft: Draft) -> None:
    path: KeyPath = ("gateway", "prefix")
    prefix = gateway.text(*path)
    if prefix is not None and prefix.rstrip("/").endswith("/services/dask-gateway"):
        gateway.dropped(path, "tidehub serves the gateway below the site's base path")
    path = ("traefik", "service", "type")
    if gateway.get(*path) == "ClusterIP":
        gateway.dropped(path, "tidehub does this itself: users reach the gateway through the hub's proxy")
    elif gateway.has(*path):
        gateway.passed(path, "another address, beside the hub's proxy")
    path = ("rbac", "enabled")
    if gateway.get(*path) is True:
        gateway.dropped(path, "the chart's own default")


def _auth(gateway: ChartValues, draft: Draft) -> None:
    base: KeyPath = ("gateway", "auth")
    kind = gateway.get(*base, "type")
    if kind == "jupyterhub":
        gateway.dropped((*base, "type"), "tidehub does this itself: users are known by their hub login")
    elif kind == "simple":
        gateway.dropped(
            (*base, "type"),
            "one password for everybody, and any name: tidehub lets the gateway ask the hub who a user is",
        )
    elif kind is not None:
        gateway.passed((*base, "type"), "tidehub's own is jupyterhub: users are known by their hub login")
    if gateway.has(*base, "simple") and kind in (None, "simple", "jupyterhub"):
        gateway.dropped(
            (*base, "simple"), "the simple authentication is not used, so its password is not kept"
        )
    below: KeyPath = (*base, "jupyterhub")
    if gateway.has(*below, "apiToken"):
        draft.secret(gateway, (*below, "apiToken"), "gateway_token")
    if gateway.text(*below, "apiUrl") is not None:
        gateway.dropped((*below, "apiUrl"), "tidehub derives the hub's address from the site")
    for name, usual in (
        ("apiTokenFromSecretName", "hub"),
        ("apiTokenFromSecretKey", "hub.services.dask-gateway.apiToken"),
        ("jupyterhubServiceName", "dask-gateway"),
    ):
        if gateway.get(*below, name) == usual:
            gateway.dropped((*below, name), "tidehub does this itself")


class _Code:
    """`gateway.extraConfig`: one text, or several by name, which the chart runs in the order of their names."""

    def __init__(self, gateway: ChartValues) -> None:
        self.gateway = gateway
        base: KeyPath = ("gateway", "extraConfig")
        whole = gateway.get(*base)
        entries = {base: whole} if isinstance(whole, str) else {}
        if isinstance(whole, dict):
            entries = {(*base, name): whole[name] for name in sorted(whole)}
        self.parts: list[tuple[KeyPath, Statements | None, Recovered]] = []
        self.found = Recovered()
        self.origins: dict[str, KeyPath] = {}
        for path, code in entries.items():
            tree = parse(code) if isinstance(code, str) else None
            statements = Statements(str(code), tree) if tree is not None else None
            part = recover(statements) if statements is not None else Recovered()
            self.parts.append((path, statements, part))
            self.found.settings |= part.settings
            self.origins |= dict.fromkeys(part.settings, path)
            if part.options_found:
                self.origins["options"] = path
                self.found.cores, self.found.memory = part.cores, part.memory
                self.found.image, self.found.image_choice = part.image, part.image_choice

    def settle(self) -> None:
        for path, statements, part in self.parts:
            if statements is None:
                self.gateway.passed(path, "this is not Python that can be read; kept as it is")
                continue
            rest = statements.rest()
            keys = ", ".join(_keys(part)) or "dask"
            if not rest.strip():
                if part.remarks:
                    self.gateway.translated(path, keys, "; ".join(part.remarks))
                else:
                    self.gateway.understood(path, keys)
                continue
            lines = sum(1 for line in rest.splitlines() if line.strip() and not line.strip().startswith("#"))
            amount = "1 line" if lines == 1 else f"{lines} lines"
            remark = f"{amount} of it" if rest != statements.code else "all of it"
            said = [f"{remark} kept: this Python does more than a site file can say", *part.remarks]
            if _keys(part):
                said.append(f"understood all the same: {keys}")
            self.gateway.rest[path] = rest
            self.gateway.passed(path, "; ".join(said))


def _keys(part: Recovered) -> list[str]:
    keys = {_SITE_KEYS[name] for name in part.settings}
    if part.cores:
        keys.add("dask.worker.cores")
    if part.memory:
        keys.add("dask.worker.memory")
    if part.image_choice:
        keys.add("dask.image")
    return sorted(keys)


_SITE_KEYS = {
    "cluster_max_cores": "dask.cluster.max_cores",
    "cluster_max_memory": "dask.cluster.max_memory",
    "cluster_max_workers": "dask.cluster.max_workers",
    "idle_timeout": "dask.cluster.idle_timeout",
    "worker_cores": "dask.worker.cores",
    "worker_memory": "dask.worker.memory",
    "scheduler_cores": "dask.scheduler.cores",
    "scheduler_memory": "dask.scheduler.memory",
    "image": "dask.image.default",
    "scheduler_cmd": "dask",
    "worker_cmd": "dask",
}


class _Clusters:
    def __init__(self, gateway: ChartValues, draft: Draft, code: _Code) -> None:
        self.gateway, self.draft, self.found = gateway, draft, code.found
        self.settings = code.found.settings
        self.origins = code.origins

    def run(self) -> None:
        self.draft.put("dask.engine", "gateway")
        worker_cores, worker_memory = self.worker()
        scheduler_cores, scheduler_memory = self.process("scheduler")
        self.draft.put("dask.scheduler", {"cores": cores(scheduler_cores), "memory": size(scheduler_memory)})
        self.limits(worker_cores, worker_memory, scheduler_cores, scheduler_memory)
        self.image()

    def worker(self) -> tuple[Range, Range]:
        amount_cores, amount_memory = self.process("worker")
        one = Range(int(amount_cores), int(amount_cores), int(amount_cores))
        chosen_cores = self.found.cores or one
        chosen_memory = self.found.memory or Range(amount_memory, amount_memory, amount_memory)
        options = self.where("options")
        self.draft.put(
            "dask.worker.cores",
            {name: getattr(chosen_cores, name) for name in ("min", "max", "default")},
            options,
        )
        self.draft.put(
            "dask.worker.memory",
            {name: size(getattr(chosen_memory, name)) for name in ("min", "max", "default")},
            options,
        )
        return chosen_cores, chosen_memory

    def process(self, kind: str) -> tuple[float, int]:
        """Cores and bytes of one worker or scheduler: the Python counts over the chart's values."""
        base: KeyPath = ("gateway", "backend", kind)
        amount_cores: float = 1
        amount_memory = _DEFAULT_MEMORY
        for part in ("request", "limit"):
            path: KeyPath = (*base, "cores", part)
            stated = kubernetes_cores(self.gateway.get(*path))
            if stated is not None and stated == int(stated) and (part == "request" or stated == amount_cores):
                amount_cores = stated
                self.no_worker_limit(kind, part, path)
                self.gateway.understood(path, f"dask.{kind}.cores")
            elif stated is not None:
                self.gateway.passed(path, f"a site file states whole cores of a {kind}, one amount for both")
            path = (*base, "memory", part)
            value = self.gateway.get(*path)
            memory = trait_bytes(value)
            foreign = memory is None and kubernetes_bytes(value) is not None
            memory = kubernetes_bytes(value) if foreign else memory
            if memory is None:
                continue
            if part == "request" or memory == amount_memory:
                amount_memory = memory
                self.no_worker_limit(kind, part, path)
                if foreign:
                    remark = f"dask-gateway refuses {value!r}: it takes K, M, G, T as powers of 1024 alone"
                    self.gateway.translated(path, f"dask.{kind}.memory", remark)
                else:
                    self.gateway.understood(path, f"dask.{kind}.memory")
            else:
                self.gateway.passed(
                    path, f"a site file states one amount for a {kind}, request and limit alike"
                )
        stated = kubernetes_cores(self.settings.get(f"{kind}_cores"))
        if stated is not None and stated == int(stated):
            amount_cores = stated
        return amount_cores, trait_bytes(self.settings.get(f"{kind}_memory")) or amount_memory

    def no_worker_limit(self, kind: str, part: str, path: KeyPath) -> None:
        """What is decided first counts."""
        if (kind, part) == ("worker", "limit"):
            why = "tidehub leaves it out: a worker's limit is what was chosen for it, the same by default"
            self.gateway.dropped(path, why)

    def limits(
        self, worker_cores: Range, worker_memory: Range, scheduler_cores: float, scheduler: int
    ) -> None:
        stated_cores = kubernetes_cores(self.settings.get("cluster_max_cores"))
        stated_memory = trait_bytes(self.settings.get("cluster_max_memory"))
        workers = self.settings.get("cluster_max_workers")
        stated_workers = workers if isinstance(workers, int) and 0 < workers <= 100_000 else None
        count = stated_workers or _workers(
            stated_cores, stated_memory, worker_cores, worker_memory, scheduler_cores, scheduler
        )
        self.limit("max_workers", stated_workers, count)
        self.limit(
            "max_cores", stated_cores, min(scheduler_cores + count * worker_cores.max, 4096), written=cores
        )
        most = min(scheduler + count * worker_memory.max, 2**63 - 1)
        self.limit("max_memory", stated_memory, most, written=size)
        idle = self.settings.get("idle_timeout")
        if isinstance(idle, (int, float)) and not isinstance(idle, bool) and 0 <= idle < 10**8:
            self.draft.put(
                "dask.cluster.idle_timeout", duration(idle) if idle else "never", self.where("idle_timeout")
            )
        else:
            self.draft.choose(
                "dask.cluster.idle_timeout", "never", "dask-gateway ends no idle cluster by itself"
            )

    def limit(self, name: str, stated: Any, otherwise: Any, written: Any = int) -> None:
        key = f"dask.cluster.{name}"
        if stated is not None:
            self.draft.put(key, written(stated), self.where(f"cluster_{name}"))
        else:
            why = "the values set no such limit; this one does not bind before the others"
            self.draft.choose(key, written(otherwise), why)

    def where(self, name: str) -> Place | None:
        """Where a trait, or the options, stand; None for what Python does not state."""
        path = self.origins.get(name)
        return self.gateway.place(path) if path is not None else None

    def image(self) -> None:
        base: KeyPath = ("gateway", "backend", "image")
        name, tag = self.gateway.text(*base, "name"), self.gateway.get(*base, "tag")
        plain = name is not None and not isinstance(tag, (dict, list, bool)) and " " not in f"{name}{tag}"
        backend = (f"{name}:{tag}" if tag not in (None, "") else name) if plain else None
        own = self.settings.get("image")
        default = self.found.image or (own if is_line(own) else None) or backend
        key = "dask.image.default"
        if self.draft.get(key) == "profile":
            default = "profile"
        if default is not None and is_line(default):
            where = self.where("image") or self.where("options")
            self.draft.put(key, default, self.gateway.place(base) if default == backend else where)
        else:
            why = "the values name no image for clusters, and the chart's own lacks what notebooks have"
            self.draft.choose(key, "profile", why)
        if backend is not None:
            for part in ("name", "tag"):
                if backend == default:
                    self.gateway.understood((*base, part), key)
                else:
                    self.gateway.dropped(
                        (*base, part), f"{default} counts: it is the default of the users' choice"
                    )
        if self.found.image_choice:
            self.draft.put("dask.image.choice", self.found.image_choice, self.where("options"))
        else:
            self.draft.put("dask.image.choice", "fixed")


def _workers(
    most_cores: float | None,
    most_memory: int | None,
    worker_cores: Range,
    worker_memory: Range,
    taken: float,
    used: int,
) -> int:
    counts = []
    if most_cores is not None:
        counts.append(int((most_cores - taken) // worker_cores.min))
    if most_memory is not None:
        counts.append(int((most_memory - used) // worker_memory.min))
    return min(max(1, min(counts)), 100_000) if counts else _MOST_WORKERS
