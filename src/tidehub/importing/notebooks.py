"""What a notebook server gets and the choices on the spawn page: `singleuser` and `cull` become `notebooks`."""

from __future__ import annotations

from typing import Any

from tidehub.importing.draft import Draft, cores, size
from tidehub.importing.fates import ChartValues
from tidehub.importing.profiles import import_profiles
from tidehub.importing.quantities import kubernetes_bytes, kubernetes_cores, trait_bytes
from tidehub.site.problems import KeyPath
from tidehub.site.units import format_duration

GIB = 2**30
_CHART_MEMORY = GIB
_TEN_GIB = 10 * GIB


def import_notebooks(hub: ChartValues, draft: Draft) -> None:
    """Set `notebooks` and `hub.database`."""
    _cpu(hub, draft)
    _memory(hub, draft)
    _ephemeral(hub, draft)
    _home(hub, draft)
    _cull(hub, draft)
    import_profiles(hub, draft)
    _environment(hub, draft)
    path: KeyPath = ("singleuser", "defaultUrl")
    if hub.get(*path) in ("/lab", "/lab/"):
        hub.dropped(path, "servers open in JupyterLab anyway")


def _cpu(hub: ChartValues, draft: Draft) -> None:
    key = "notebooks.cpu"
    stated: dict[str, float] = {}
    for name in ("guarantee", "limit"):
        path: KeyPath = ("singleuser", "cpu", name)
        amount = kubernetes_cores(hub.get(*path))
        if amount is not None:
            stated[name] = amount
            hub.understood(path, f"{key}.{name}")
        elif hub.has(*path) and hub.get(*path) in (None, 0):
            hub.translated(path, f"{key}.{name}", "none; a site file states one, see below")
    guarantee, limit = stated.get("guarantee"), stated.get("limit")
    _put_pair(
        draft,
        key,
        (guarantee, limit),
        (min(0.5, limit or 0.5), max(2.0, guarantee or 0)),
        cores,
        hub.place(("singleuser", "cpu")) if stated else None,
        "the chart sets none",
    )


def _memory(hub: ChartValues, draft: Draft) -> None:
    key = "notebooks.memory"
    stated: dict[str, int] = {}
    for name in ("guarantee", "limit"):
        path: KeyPath = ("singleuser", "memory", name)
        value = hub.get(*path)
        amount = trait_bytes(value)
        if amount is not None:
            hub.understood(path, f"{key}.{name}")
        elif (amount := kubernetes_bytes(value)) is not None:
            remark = f"JupyterHub refuses {value!r}: it takes K, M, G, T as powers of 1024 alone"
            hub.translated(path, f"{key}.{name}", remark)
        elif hub.has(*path) and value in (None, 0, "0"):
            hub.translated(path, f"{key}.{name}", "none; a site file states one, see below")
        if amount is not None:
            stated[name] = amount
    guarantee, limit = stated.get("guarantee"), stated.get("limit")
    _put_pair(
        draft,
        key,
        (guarantee, limit),
        (min(_CHART_MEMORY, limit or _CHART_MEMORY), max(4 * _CHART_MEMORY, 2 * (guarantee or 0))),
        size,
        hub.place(("singleuser", "memory")) if stated else None,
        "the chart guarantees 1 GiB and sets no limit",
    )


def _put_pair(
    draft: Draft,
    key: str,
    stated: tuple[Any, Any],
    otherwise: tuple[Any, Any],
    written: Any,
    where: Any,
    why: str,
) -> None:
    """Guarantee and limit: both are written, and what was not stated is said."""
    names = ("guarantee", "limit")
    for name, given, taken in zip(names, stated, otherwise, strict=True):
        if given is not None:
            draft.put(f"{key}.{name}", written(given), where)
        else:
            shown = written(taken)
            draft.choose(f"{key}.{name}", shown, f"the values state no {name}; {why}")


def _ephemeral(hub: ChartValues, draft: Draft) -> None:
    base: KeyPath = ("singleuser", "extraResource")
    found: dict[str, int] = {}
    for plural, name in (("guarantees", "guarantee"), ("limits", "limit")):
        path = (*base, plural, "ephemeral-storage")
        amount = kubernetes_bytes(hub.get(*path))
        if amount is not None:
            found[name] = amount
            hub.understood(path, f"notebooks.ephemeral_storage.{name}")
    if not found:
        return
    guarantee, limit = found.get("guarantee"), found.get("limit")
    _put_pair(
        draft,
        "notebooks.ephemeral_storage",
        (guarantee, limit),
        (limit, guarantee),
        size,
        hub.place(base),
        "the other amount is taken",
    )


def _home(hub: ChartValues, draft: Draft) -> None:
    base: KeyPath = ("singleuser", "storage")
    kind = hub.get(*base, "type")
    if kind in ("none", "static"):
        why = "no volume of its own" if kind == "none" else "one volume for everybody, named by these values"
        hub.passed((*base, "type"), f"{why}; one machine gives homes all the same")
        return
    if kind == "dynamic":
        hub.dropped((*base, "type"), "the chart's own default")
    capacity = hub.get(*base, "capacity")
    amount = kubernetes_bytes(capacity)
    if amount is not None:
        draft.put("notebooks.home.size", size(amount), hub.place((*base, "capacity")))
        hub.understood((*base, "capacity"), "notebooks.home.size")
    else:
        draft.choose("notebooks.home.size", size(_TEN_GIB), "the jupyterhub chart's default")
    _storage_class(hub, draft, (*base, "dynamic", "storageClass"), "notebooks.home.storage_class")
    if hub.get(*base, "homeMountPath") == "/home/jovyan":
        hub.dropped((*base, "homeMountPath"), "the chart's own default")


def _storage_class(hub: ChartValues, draft: Draft, path: KeyPath, key: str) -> None:
    name = hub.text(*path)
    if name is not None and len(name) <= 255:
        draft.put(key, name, hub.place(path))
        hub.understood(path, key)
    elif hub.has(*path) and hub.get(*path) is None:
        hub.dropped(path, "none: the cluster's default class")


def _cull(hub: ChartValues, draft: Draft) -> None:
    enabled, timeout = hub.get("cull", "enabled"), hub.get("cull", "timeout")
    key = "notebooks.idle_timeout"
    age = hub.get("cull", "maxAge")
    if enabled is not False and isinstance(age, int) and not isinstance(age, bool) and 0 < age < 10**8:
        draft.put("notebooks.max_age", duration(age), hub.place(("cull", "maxAge")))
        hub.understood(("cull", "maxAge"), "notebooks.max_age")
    number = isinstance(timeout, int) and not isinstance(timeout, bool) and 0 < timeout < 10**8
    if enabled is False:
        draft.put(key, "never", hub.place(("cull", "enabled")))
        hub.understood(("cull", "enabled"), key)
        hub.dropped(("cull", "timeout"), "nothing is culled")
        return
    if enabled is True:
        hub.understood(("cull", "enabled"), key)
    if number:
        draft.put(key, duration(timeout), hub.place(("cull", "timeout")))
        hub.understood(("cull", "timeout"), key)
    else:
        draft.choose(key, "1 h", "the jupyterhub chart's default")


def duration(seconds: int | float) -> str:
    """Seconds as a site file has them."""
    return format_duration(seconds)


def import_database(hub: ChartValues, draft: Draft) -> None:
    """Set `hub.database` from `hub.db`."""
    base: KeyPath = ("hub", "db")
    kind = hub.get(*base, "type")
    if kind not in (None, "sqlite-pvc"):
        hub.passed((*base, "type"), "tidehub's own default is a SQLite file on a volume")
        return
    if kind is not None:
        hub.dropped((*base, "type"), "what tidehub makes, too")
    path: KeyPath = (*base, "pvc", "storage")
    amount = kubernetes_bytes(hub.get(*path))
    if amount is not None:
        draft.put("hub.database.size", size(amount), hub.place(path))
        hub.understood(path, "hub.database.size")
    _storage_class(hub, draft, (*base, "pvc", "storageClassName"), "hub.database.storage_class")
    if hub.get(*base, "pvc", "accessModes") == ["ReadWriteOnce"]:
        hub.dropped(
            (*base, "pvc", "accessModes"), "a SQLite file has one writer, and the chart's default says so"
        )


_GLUE = ("ADDRESS", "PROXY_ADDRESS", "PUBLIC_ADDRESS", "AUTH__TYPE")


def is_glue(variable: str) -> bool:
    """Whether an environment variable only tells notebooks where the gateway is."""
    return variable in {f"DASK_GATEWAY__{name}" for name in _GLUE}


def _environment(hub: ChartValues, draft: Draft) -> None:
    base: KeyPath = ("singleuser", "extraEnv")
    for name, value in hub.mapping(*base).items():
        if is_glue(name):
            hub.dropped((*base, name), "tidehub tells notebooks where the gateway is")
        elif name == "DASK_GATEWAY__CLUSTER__OPTIONS__IMAGE" and "JUPYTER_IMAGE" in str(value):
            draft.put("dask.image.default", "profile", hub.place((*base, name)))
            hub.understood((*base, name), "dask.image.default")
