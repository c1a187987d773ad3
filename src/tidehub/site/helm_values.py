"""What keys become in the values of the jupyterhub and dask-gateway charts. Pure.

Paths and types are those of jupyterhub 2.0 to 4.4 and dask-gateway 2022.6 to 2026.3, held against the charts' own
schemas by tests. Quantities are converted by `convert`, because the charts' programs read them differently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tidehub.gateway.limits import cluster_config
from tidehub.login.endpoints import known_endpoints, stated_endpoints
from tidehub.site import exposure_values
from tidehub.site.convert import (
    split_image,
    to_dask_cores,
    to_dask_memory,
    to_jupyterhub_cpu,
    to_jupyterhub_memory,
    to_kubernetes_quantity,
    to_whole_seconds,
)
from tidehub.site.destination import Destination, Rule, helm
from tidehub.site.gateway_code import ORDER_COMMANDS, ORDER_LIMITS, ORDER_OPTIONS, options_code
from tidehub.site.hub_chart import hub_chart
from tidehub.site.model import Site
from tidehub.site.problems import KeyPath

HUB, GATEWAY = "jupyterhub", "dask-gateway"
_AUTH = ("hub", "config", "GenericOAuthenticator")
_RULE = "admission itself is tidehub's rule: entitlements are compared without their authority"


def _hub(*path: str, convert: Callable[[Any], Any] = lambda value: value, note: str = "") -> Rule:
    def rule(site: Site, value: Any, at: KeyPath) -> Iterable[Destination]:
        if value is not None and (converted := convert(value)) is not None:
            yield helm(HUB, *path, value=converted, note=note)

    return rule


def _auth(name: str, note: str = "") -> Rule:
    """A trait of the authenticator; an empty list says nothing."""

    def converted(value: Any) -> Any:
        return (list(value) or None) if isinstance(value, tuple) else value

    return _hub(*_AUTH, name, convert=converted, note=note)


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


def _image(chart: str, path: tuple[str, ...], image: str) -> Iterable[Destination]:
    name, tag = split_image(image)
    yield helm(chart, *path, "name", value=name)
    yield helm(chart, *path, "tag", value=tag or "latest")


def _url(site: Site, value: str | None, path: KeyPath) -> Iterable[Destination]:
    yield helm(HUB, "hub", "baseUrl", value=site.base_path)
    yield helm(GATEWAY, "gateway", "prefix", value=f"{site.base_path}services/dask-gateway")
    if value and exposure_values.host_of(site):
        yield helm(HUB, *_AUTH, "oauth_callback_url", value=site.site.callback_url)
    yield from exposure_values.url_values(site, value, path)


def _contact(site: Site, value: str | None, path: KeyPath) -> Iterable[Destination]:
    if value is not None:
        yield helm(HUB, "hub", "templateVars", "site_contact", value=value)
    yield from exposure_values.contact_values(site, value, path)


def _addresses(site: Site, value: Any, path: KeyPath) -> Iterable[Destination]:
    found = stated_endpoints(site.login) or known_endpoints(site.login)
    if found is not None:
        yield helm(HUB, *_AUTH, "authorize_url", value=found.authorize_url)
        yield helm(HUB, *_AUTH, "token_url", value=found.token_url)
        yield helm(HUB, *_AUTH, "userdata_url", value=found.userinfo_url)
        yield helm(HUB, *_AUTH, "login_service", value=site.login.title)
    if path[-1] == "provider":
        yield helm(HUB, "hub", "config", "JupyterHub", "authenticator_class", value="generic-oauth")


def _username(site: Site, value: str, path: KeyPath) -> Iterable[Destination]:
    # oauthenticator 14 and 15, in charts before 3.0, know the older name only.
    chart = hub_chart(site)
    yield helm(HUB, *_AUTH, "username_key" if chart and chart < (3,) else "username_claim", value=value)


def _groups(name: str) -> Rule:
    """Groups need a claim to come from; oauthenticator 17, in charts from 4.0, also wants to be told to manage them."""

    def rule(site: Site, value: tuple[str, ...], path: KeyPath) -> Iterable[Destination]:
        if not value:
            return
        yield helm(HUB, *_AUTH, name, value=list(value), note=_RULE)
        claim = "entitlements" if "entitlements" in site.login.scopes else "eduperson_entitlement"
        chart = hub_chart(site)
        if chart and chart < (4,):
            yield helm(HUB, *_AUTH, "claim_groups_key", value=claim)
        else:
            yield helm(HUB, *_AUTH, "manage_groups", value=True)
            yield helm(HUB, *_AUTH, "auth_state_groups_key", value=f"oauth_user.{claim}")
            yield helm(
                HUB, *_AUTH, "enable_auth_state", value=True, note="without it groups are never read again"
            )

    return rule


def _everyone(site: Site, value: bool, path: KeyPath) -> Iterable[Destination]:
    chart = hub_chart(site)
    if chart and chart < (3,):
        note = "this chart's oauthenticator admits everyone where nobody is named" if value else ""
        if value:
            yield helm(HUB, *_AUTH, "allowed_users", value=[], note=note)
    else:
        yield helm(HUB, *_AUTH, "allow_all", value=value)


def _ephemeral(kind: str) -> Rule:
    return _hub("singleuser", "extraResource", kind, "ephemeral-storage", convert=to_kubernetes_quantity)


def _idle(site: Site, value: float, path: KeyPath) -> Iterable[Destination]:
    yield helm(HUB, "cull", "enabled", value=bool(value))
    if value:
        yield helm(HUB, "cull", "timeout", value=to_whole_seconds(value))


def _home(site: Site, value: int | None, path: KeyPath) -> Iterable[Destination]:
    if value is not None:
        yield helm(HUB, "singleuser", "storage", "type", value="dynamic")
        yield helm(HUB, "singleuser", "storage", "capacity", value=to_kubernetes_quantity(value))


def _database(site: Site, value: int, path: KeyPath) -> Iterable[Destination]:
    yield helm(HUB, "hub", "db", "type", value="sqlite-pvc")
    yield helm(HUB, "hub", "db", "pvc", "storage", value=to_kubernetes_quantity(value))


def _gateway(part: str, what: str) -> Rule:
    """Cores or memory of schedulers or workers: what is asked for is also the limit."""

    def rule(site: Site, value: Any, path: KeyPath) -> Iterable[Destination]:
        amount = to_dask_cores(value) if what == "cores" else to_dask_memory(value)
        for bound in ("request", "limit"):
            yield helm(GATEWAY, "gateway", "backend", part, what, bound, value=amount)

    return rule


def _limit(name: str) -> Rule:
    """The chart has no values for the limits of a cluster: they are Python."""

    def rule(site: Site, value: Any, path: KeyPath) -> Iterable[Destination]:
        code = f"c.KubeClusterConfig.{name} = {cluster_config(site.dask)[name]!r}"
        yield helm(GATEWAY, "gateway", "extraConfig", ORDER_LIMITS, value=code, code=True)

    return rule


def _options(site: Site, value: Any, path: KeyPath) -> Iterable[Destination]:
    yield helm(GATEWAY, "gateway", "extraConfig", ORDER_OPTIONS, value=options_code(site.dask), code=True)


def _dask_image(site: Site, value: str, path: KeyPath) -> Iterable[Destination]:
    if value == "profile":
        # The Dask client formats it. KubeSpawner from 6 on (charts from 3.0) does so before, hence doubled braces.
        chart = hub_chart(site)
        image = "{JUPYTER_IMAGE_SPEC}" if chart and chart < (3,) else "{{JUPYTER_IMAGE_SPEC}}"
        yield helm(HUB, "singleuser", "extraEnv", "DASK_GATEWAY__CLUSTER__OPTIONS__IMAGE", value=image)
    else:
        yield from _image(GATEWAY, ("gateway", "backend", "image"), value)


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
    "site.name": _hub("hub", "templateVars", "site_name"),
    "site.contact": _contact,
    "site.url": _url,
    "login.provider": _addresses,
    "login.instance": _addresses,
    "login.issuer": _addresses,
    "login.endpoints.authorize": _auth("authorize_url"),
    "login.endpoints.token": _auth("token_url"),
    "login.endpoints.userinfo": _auth("userdata_url"),
    "login.endpoints.end_session": _auth("logout_redirect_url"),
    "login.client_id": _auth("client_id"),
    "login.scopes": _auth("scope"),
    "login.username_claim": _username,
    "login.allow.users": _auth("allowed_users", _RULE),
    "login.allow.groups": _groups("allowed_groups"),
    "login.allow.everyone": _everyone,
    "login.admins.users": _auth("admin_users", _RULE),
    "login.admins.groups": _groups("admin_groups"),
    "notebooks.cpu.guarantee": _hub("singleuser", "cpu", "guarantee", convert=to_jupyterhub_cpu),
    "notebooks.cpu.limit": _hub("singleuser", "cpu", "limit", convert=to_jupyterhub_cpu),
    "notebooks.memory.guarantee": _hub("singleuser", "memory", "guarantee", convert=to_jupyterhub_memory),
    "notebooks.memory.limit": _hub("singleuser", "memory", "limit", convert=to_jupyterhub_memory),
    "notebooks.ephemeral_storage.guarantee": _ephemeral("guarantees"),
    "notebooks.ephemeral_storage.limit": _ephemeral("limits"),
    "notebooks.home.size": _home,
    "notebooks.home.storage_class": _hub("singleuser", "storage", "dynamic", "storageClass"),
    "notebooks.idle_timeout": _idle,
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
    "dask.worker.cores.default": _gateway("worker", "cores"),
    "dask.worker.cores.min": _options,
    "dask.worker.cores.max": _options,
    "dask.worker.memory.default": _gateway("worker", "memory"),
    "dask.worker.memory.min": _options,
    "dask.worker.memory.max": _options,
    "dask.scheduler.cores": _gateway("scheduler", "cores"),
    "dask.scheduler.memory": _gateway("scheduler", "memory"),
    "dask.cluster.max_workers": _limit("cluster_max_workers"),
    "dask.cluster.max_cores": _limit("cluster_max_cores"),
    "dask.cluster.max_memory": _limit("cluster_max_memory"),
    "dask.cluster.idle_timeout": _limit("idle_timeout"),
    "dask.image.default": _dask_image,
    "dask.image.choice": _options,
    "hub.database.size": _database,
    "hub.database.storage_class": _hub("hub", "db", "pvc", "storageClassName"),
    **exposure_values.RULES,
    "kubernetes.user_scheduler": _hub("scheduling", "userScheduler", "enabled"),
}
