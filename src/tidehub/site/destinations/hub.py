"""What keys become in the hub's and the gateway's configuration, as on one machine. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tidehub.gateway.limits import cluster_config
from tidehub.login.endpoints import known_endpoints, stated_endpoints
from tidehub.site.destinations import destination
from tidehub.site.destinations.convert import to_jupyterhub_cpu
from tidehub.site.destinations.destination import Destination, Rule
from tidehub.site.model import Site
from tidehub.site.problems import KeyPath

_GATEWAY = "ClusterConfig"
_POLICY = "read by tidehub.login.rule, for every login"


def _trait(*names: str, note: str = "") -> Rule:
    def rule(site: Site, value: Any, path: KeyPath) -> Iterable[Destination]:
        shown = list(value) if isinstance(value, tuple) else value
        return [destination.hub(name, shown, note) for name in names]

    return rule


def _cpu(name: str) -> Rule:
    return lambda site, value, path: [destination.hub(name, to_jupyterhub_cpu(value))]


def _cluster(name: str) -> Rule:
    """A trait of dask-gateway, with the value that the platform gives it."""
    return lambda site, value, path: [destination.hub(f"{_GATEWAY}.{name}", cluster_config(site.dask)[name])]


def _option(name: str) -> Rule:
    def rule(site: Site, value: Any, path: KeyPath) -> Iterable[Destination]:
        unit = " (in GiB, as users choose it)" if name == "worker_memory" else ""
        shown = value / 2**30 if name == "worker_memory" else int(value)
        bound = path[-1]
        yield destination.hub(
            f"Backend.cluster_options {name} {bound}", shown, f"the choice of a cluster{unit}"
        )

    return rule


def _both(*rules: Rule) -> Rule:
    return lambda site, value, path: [found for rule in rules for found in rule(site, value, path)]


def _url(site: Site, value: str | None, path: KeyPath) -> Iterable[Destination]:
    if value is None:
        return
    yield destination.hub("JupyterHub.bind_url", value)
    yield destination.hub("SiteAuthenticator.oauth_callback_url", site.site.callback_url)


def _addresses(site: Site, value: Any, path: KeyPath) -> Iterable[Destination]:
    found = stated_endpoints(site.login) or known_endpoints(site.login)
    if found is None:
        note = (
            "from the provider's discovery document"
            if site.login.provider == "oidc"
            else "the embedded provider's"
        )
        yield destination.hub("SiteAuthenticator.authorize_url, token_url, userdata_url", None, note)
        return
    note = "" if site.login.endpoints else "unless the provider's discovery document says otherwise"
    yield destination.hub("SiteAuthenticator.authorize_url", found.authorize_url, note)
    yield destination.hub("SiteAuthenticator.token_url", found.token_url, note)
    yield destination.hub("SiteAuthenticator.userdata_url", found.userinfo_url, note)


def _engine(site: Site, value: str, path: KeyPath) -> Iterable[Destination]:
    if value == "gateway":
        yield destination.hub("JupyterHub.services", "dask-gateway", "the gateway as a service of the hub")
        yield destination.hub("Spawner.server_token_scopes", "access:services!service=dask-gateway")


RULES: dict[str, Rule] = {
    "site.name": _trait("JupyterHub.template_vars.site_name"),
    "site.url": _url,
    "site.contact": _trait("JupyterHub.template_vars.site_contact"),
    "login.provider": _both(_trait("SiteAuthenticator.login_service", note="shown by its title"), _addresses),
    "login.instance": _addresses,
    "login.issuer": _addresses,
    "login.endpoints.authorize": _trait("SiteAuthenticator.authorize_url"),
    "login.endpoints.token": _trait("SiteAuthenticator.token_url"),
    "login.endpoints.userinfo": _trait("SiteAuthenticator.userdata_url"),
    "login.endpoints.jwks": _trait("SiteAuthenticator.jwks_url"),
    "login.endpoints.end_session": _trait("SiteAuthenticator.end_session_url"),
    "login.client_id": _trait("SiteAuthenticator.client_id"),
    "login.scopes": _trait("SiteAuthenticator.scope"),
    "login.username_claim": _trait("SiteAuthenticator.username_claim"),
    "login.allow.users": _trait("SiteAuthenticator.rule", note=_POLICY),
    "login.allow.groups": _trait("SiteAuthenticator.rule", note=_POLICY),
    "login.allow.everyone": _trait("SiteAuthenticator.rule", note=_POLICY),
    "login.allow.assurance": _trait("SiteAuthenticator.rule", note=_POLICY),
    "login.admins.users": _trait("SiteAuthenticator.rule", note=_POLICY),
    "login.admins.groups": _trait("SiteAuthenticator.rule", note=_POLICY),
    "login.enrolment_url": _trait("SiteAuthenticator.words", note="a link on the refusal page"),
    "login.refresh": _trait("SiteAuthenticator.check_every", "SiteAuthenticator.auth_refresh_age"),
    "login.grace": _trait("SiteAuthenticator.grace"),
    "login.block": _trait("SiteAuthenticator.blocked_users", "SiteAuthenticator.blocked_subjects"),
    "login.names": _trait("SiteAuthenticator.stated_names"),
    "notebooks.cpu.guarantee": _cpu("Spawner.cpu_guarantee"),
    "notebooks.cpu.limit": _cpu("Spawner.cpu_limit"),
    "notebooks.memory.guarantee": _trait("Spawner.mem_guarantee"),
    "notebooks.memory.limit": _trait("Spawner.mem_limit"),
    "notebooks.profiles[].name": _trait("Spawner.options_form", note="a choice on the spawn page"),
    "notebooks.profiles[].description": _trait("Spawner.options_form", note="a choice on the spawn page"),
    "notebooks.profiles[].slug": _trait("Spawner.user_options.profile"),
    "notebooks.profiles[].default": _trait("Spawner.options_form", note="preselected on the spawn page"),
    "notebooks.profiles[].cpu.guarantee": _cpu("Spawner.cpu_guarantee"),
    "notebooks.profiles[].cpu.limit": _cpu("Spawner.cpu_limit"),
    "notebooks.profiles[].memory.guarantee": _trait("Spawner.mem_guarantee"),
    "notebooks.profiles[].memory.limit": _trait("Spawner.mem_limit"),
    "dask.engine": _engine,
    "dask.worker.cores.default": _cluster("worker_cores"),
    "dask.worker.cores.min": _option("worker_cores"),
    "dask.worker.cores.max": _option("worker_cores"),
    "dask.worker.memory.default": _cluster("worker_memory"),
    "dask.worker.memory.min": _option("worker_memory"),
    "dask.worker.memory.max": _option("worker_memory"),
    "dask.scheduler.cores": _cluster("scheduler_cores"),
    "dask.scheduler.memory": _cluster("scheduler_memory"),
    "dask.cluster.max_workers": _cluster("cluster_max_workers"),
    "dask.cluster.max_cores": _cluster("cluster_max_cores"),
    "dask.cluster.max_memory": _cluster("cluster_max_memory"),
    "dask.cluster.idle_timeout": _cluster("idle_timeout"),
}
