"""What keys become in the values of the jupyterhub and dask-gateway charts. Pure.

Paths and types are those of jupyterhub 2.0 to 4.4 and dask-gateway 2022.6 to 2026.3, held against the charts' own
schemas by tests. Quantities are converted by `convert`, because the charts' programs read them differently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tidehub.gateway.limits import cluster_config
from tidehub.site.charts import hub_chart
from tidehub.site.destinations import carried
from tidehub.site.destinations import exposure as exposure_values
from tidehub.site.destinations.carried import GATEWAY, HUB, ORDER_COMMANDS, ORDER_LIMITS
from tidehub.site.destinations.convert import (
    split_image,
    to_dask_cores,
    to_dask_memory,
    to_jupyterhub_cpu,
    to_jupyterhub_memory,
    to_kubernetes_quantity,
    to_whole_seconds,
)
from tidehub.site.destinations.destination import Destination, Rule, helm
from tidehub.site.model import Site
from tidehub.site.model.overrides import replaces_login
from tidehub.site.problems import KeyPath

_CLUSTER_IMAGE = ("gateway", "backend", "image")
_AUTH = ("hub", "config", "GenericOAuthenticator")


def _hub(*path: str, convert: Callable[[Any], Any] = lambda value: value, note: str = "") -> Rule:
    def rule(site: Site, value: Any, at: KeyPath) -> Iterable[Destination]:
        if value is not None and (converted := convert(value)) is not None:
            yield helm(HUB, *path, value=converted, note=note)

    return rule


def _auth(name: str, own: str = "") -> Rule:
    """A trait of the login: of GenericOAuthenticator in the values of older charts; the carried login's, by the same
    name or as `own`, in current ones.
    """

    def rule(site: Site, value: Any, at: KeyPath) -> Iterable[Destination]:
        if value is not None:
            yield from _login(site, name, list(value) if isinstance(value, tuple) else value, own)

    return rule


def _login(site: Site, name: str, value: Any, own: str = "") -> Iterable[Destination]:
    if carried.has_own_login(site):
        yield from carried.login_trait(site, own or name)
    elif not replaces_login(site):
        yield helm(HUB, *_AUTH, name, value=value)


def _profile(*path: str, convert: Callable[[Any], Any] = lambda value: value) -> Rule:
    """A value of one entry in the list of profiles; its place is in the key's path."""

    def rule(site: Site, value: Any, at: KeyPath) -> Iterable[Destination]:
        if value is not None and value != "":
            yield helm(HUB, "singleuser", "profileList", _index(at), *path, value=convert(value))

    return rule


def _index(path: KeyPath) -> int:
    return next(part for part in path if isinstance(part, int))


def _profile_image(site: Site, value: str | None, path: KeyPath) -> Iterable[Destination]:
    if value is None:
        return
    index = _index(path)
    yield helm(HUB, "singleuser", "profileList", index, "kubespawner_override", "image", value=value)
    if site.notebooks.profiles[index] == site.notebooks.default_profile:
        yield from _image(HUB, ("singleuser", "image"), value)
        if carried.has_gateway(site) and site.dask.image.default == "profile":
            # For a client that names no image; the chart's own has another environment than the notebook.
            yield from _image(GATEWAY, _CLUSTER_IMAGE, value)


def _image(chart: str, path: tuple[str, ...], image: str) -> Iterable[Destination]:
    name, tag = split_image(image)
    yield helm(chart, *path, "name", value=name)
    yield helm(chart, *path, "tag", value=tag or "latest")


def _name(site: Site, value: str, path: KeyPath) -> Iterable[Destination]:
    yield helm(HUB, "hub", "templateVars", "site_name", value=value)
    yield from carried.login_trait(site, "words", "name")


def _url(site: Site, value: str | None, path: KeyPath) -> Iterable[Destination]:
    yield helm(HUB, "hub", "baseUrl", value=site.base_path)
    if carried.has_gateway(site):
        yield helm(GATEWAY, "gateway", "prefix", value=f"{site.base_path}services/dask-gateway")
    if value and exposure_values.host_of(site):
        yield from _login(site, "oauth_callback_url", site.site.callback_url)
    yield from exposure_values.url_values(site, value, path)


def _contact(site: Site, value: str | None, path: KeyPath) -> Iterable[Destination]:
    if value is not None:
        yield helm(HUB, "hub", "templateVars", "site_contact", value=value)
        yield from carried.login_trait(site, "words", "contact")
    yield from exposure_values.contact_values(site, value, path)


def _addresses(site: Site, value: Any, path: KeyPath) -> Iterable[Destination]:
    found = carried.provider(site)
    if found is not None:
        if found.issuer:
            yield from carried.login_trait(site, "issuer")
        yield from _login(site, "authorize_url", found.authorize_url)
        yield from _login(site, "token_url", found.token_url)
        yield from _login(site, "userdata_url", found.userinfo_url)
        yield from _login(site, "login_service", site.login.title)
    if path[-1] == "provider" and not replaces_login(site):
        own = "the code puts SiteAuthenticator in its place; without the code no user would be admitted"
        note = own if carried.has_own_login(site) else ""
        yield helm(
            HUB, "hub", "config", "JupyterHub", "authenticator_class", value="generic-oauth", note=note
        )


def _ephemeral(kind: str) -> Rule:
    return _hub("singleuser", "extraResource", kind, "ephemeral-storage", convert=to_kubernetes_quantity)


def _idle(site: Site, value: float, path: KeyPath) -> Iterable[Destination]:
    yield helm(HUB, "cull", "enabled", value=bool(value or site.notebooks.max_age))
    # The chart has one switch for both: who is stopped for their age alone is idle for longer than they live.
    if value or site.notebooks.max_age:
        yield helm(HUB, "cull", "timeout", value=to_whole_seconds(value or 2 * site.notebooks.max_age))


def _age(site: Site, value: float, path: KeyPath) -> Iterable[Destination]:
    if value:
        yield helm(HUB, "cull", "maxAge", value=to_whole_seconds(value))


def _home(site: Site, value: int | None, path: KeyPath) -> Iterable[Destination]:
    if value is not None:
        yield helm(HUB, "singleuser", "storage", "type", value="dynamic")
        yield helm(HUB, "singleuser", "storage", "capacity", value=to_kubernetes_quantity(value))


def _database(site: Site, value: int, path: KeyPath) -> Iterable[Destination]:
    yield helm(HUB, "hub", "db", "type", value="sqlite-pvc")
    yield helm(HUB, "hub", "db", "pvc", "storage", value=to_kubernetes_quantity(value))


def _worker(what: str) -> Rule:
    """Cores or memory of a worker for whom chooses nothing; the policy reads the key as the choice's beginning.

    The chart's limit is the same for every worker: who chooses more than the default would get a pod whose request
    exceeds its limit, which Kubernetes refuses. Without it the limit is what was chosen.
    """

    def rule(site: Site, value: Any, path: KeyPath) -> Iterable[Destination]:
        yield helm(GATEWAY, "gateway", "backend", "worker", what, "request", value=_amount(what, value))
        yield from carried.of_clusters(site, value, path)

    return rule


def _scheduler(what: str) -> Rule:
    """Cores or memory of a scheduler: what is asked for is also the limit."""

    def rule(site: Site, value: Any, path: KeyPath) -> Iterable[Destination]:
        for bound in ("request", "limit"):
            yield helm(GATEWAY, "gateway", "backend", "scheduler", what, bound, value=_amount(what, value))

    return rule


def _amount(what: str, value: Any) -> str | int:
    return to_dask_cores(value) if what == "cores" else to_dask_memory(value)


def _limit(name: str) -> Rule:
    """The chart has no values for the limits of a cluster: they are Python. A user's own come from the policy."""

    def rule(site: Site, value: Any, path: KeyPath) -> Iterable[Destination]:
        code = f"c.KubeClusterConfig.{name} = {cluster_config(site.dask)[name]!r}"
        yield helm(GATEWAY, "gateway", "extraConfig", ORDER_LIMITS, value=code, code=True)
        yield from carried.of_clusters(site, value, path)

    return rule


def _dask_image(site: Site, value: str, path: KeyPath) -> Iterable[Destination]:
    if value == "profile":
        # The Dask client formats it. KubeSpawner from 6 on (charts from 3.0) does so before, hence doubled braces.
        chart = hub_chart(site)
        image = "{JUPYTER_IMAGE_SPEC}" if chart and chart < (3,) else "{{JUPYTER_IMAGE_SPEC}}"
        yield helm(HUB, "singleuser", "extraEnv", "DASK_GATEWAY__CLUSTER__OPTIONS__IMAGE", value=image)
    else:
        yield from _image(GATEWAY, _CLUSTER_IMAGE, value)
    yield from carried.of_clusters(site, value, path)


def _engine(site: Site, value: str, path: KeyPath) -> Iterable[Destination]:
    if value == "gateway":
        yield helm(GATEWAY, "gateway", "auth", "type", value="jupyterhub", note="the chart is installed")
        yield helm(HUB, "hub", "services", "dask-gateway", "display", value=False)
        note = "distributed 2026.6 and newer have no dask-scheduler and dask-worker programs"
        for name in ("scheduler", "worker"):
            code = f'c.KubeClusterConfig.{name}_cmd = ["dask", "{name}"]'
            yield helm(GATEWAY, "gateway", "extraConfig", ORDER_COMMANDS, value=code, code=True, note=note)


_OVERRIDE = "kubespawner_override"
RULES: dict[str, Rule] = {
    "site.name": _name,
    "site.contact": _contact,
    "site.url": _url,
    "login.provider": _addresses,
    "login.instance": _addresses,
    "login.issuer": _addresses,
    "login.endpoints.authorize": _auth("authorize_url"),
    "login.endpoints.token": _auth("token_url"),
    "login.endpoints.userinfo": _auth("userdata_url"),
    "login.endpoints.jwks": carried.trait("jwks_url"),
    "login.endpoints.end_session": _auth("logout_redirect_url", own="end_session_url"),
    "login.client_id": _auth("client_id"),
    "login.scopes": _auth("scope"),
    "notebooks.cpu.guarantee": _hub("singleuser", "cpu", "guarantee", convert=to_jupyterhub_cpu),
    "notebooks.cpu.limit": _hub("singleuser", "cpu", "limit", convert=to_jupyterhub_cpu),
    "notebooks.memory.guarantee": _hub("singleuser", "memory", "guarantee", convert=to_jupyterhub_memory),
    "notebooks.memory.limit": _hub("singleuser", "memory", "limit", convert=to_jupyterhub_memory),
    "notebooks.ephemeral_storage.guarantee": _ephemeral("guarantees"),
    "notebooks.ephemeral_storage.limit": _ephemeral("limits"),
    "notebooks.home.size": _home,
    "notebooks.home.storage_class": _hub("singleuser", "storage", "dynamic", "storageClass"),
    "notebooks.idle_timeout": _idle,
    "notebooks.max_age": _age,
    "notebooks.profiles[].name": _profile("display_name"),
    "notebooks.profiles[].slug": _profile("slug"),
    "notebooks.profiles[].default": _profile("default"),
    "notebooks.profiles[].description": _profile("description"),
    "notebooks.profiles[].image": _profile_image,
    "notebooks.profiles[].cpu.guarantee": _profile(_OVERRIDE, "cpu_guarantee", convert=to_jupyterhub_cpu),
    "notebooks.profiles[].cpu.limit": _profile(_OVERRIDE, "cpu_limit", convert=to_jupyterhub_cpu),
    "notebooks.profiles[].memory.guarantee": _profile(
        _OVERRIDE, "mem_guarantee", convert=to_jupyterhub_memory
    ),
    "notebooks.profiles[].memory.limit": _profile(_OVERRIDE, "mem_limit", convert=to_jupyterhub_memory),
    "dask.engine": _engine,
    "dask.worker.cores.default": _worker("cores"),
    "dask.worker.memory.default": _worker("memory"),
    "dask.scheduler.cores": _scheduler("cores"),
    "dask.scheduler.memory": _scheduler("memory"),
    "dask.cluster.max_workers": _limit("cluster_max_workers"),
    "dask.cluster.max_cores": _limit("cluster_max_cores"),
    "dask.cluster.max_memory": _limit("cluster_max_memory"),
    "dask.cluster.idle_timeout": _limit("idle_timeout"),
    "dask.image.default": _dask_image,
    "hub.database.size": _database,
    "hub.database.storage_class": _hub("hub", "db", "pvc", "storageClassName"),
    **exposure_values.RULES,
    "kubernetes.user_scheduler": _hub("scheduling", "userScheduler", "enabled"),
}
