"""Python for the jupyterhub chart's `hub.extraConfig`: the login, and what each user may start. Pure.

The chart executes the entries in the order of their names, one after the other with the same variables. Modules of
ours travel as text (`tidehub.login.carried`), because the hub's image has none of them.
"""

from __future__ import annotations

from tidehub.errors import TidehubError
from tidehub.kubernetes.homes.carried import ENTRY, spawner_text
from tidehub.kubernetes.values import gateway
from tidehub.login.admission import rule_of
from tidehub.login.carried import modules_text
from tidehub.login.endpoints import Endpoints
from tidehub.login.hub_text import authenticator_text, literal
from tidehub.login.plain import policy_of
from tidehub.site import charts
from tidehub.site.charts import hub_chart
from tidehub.site.destinations.carried import (
    ORDER_LOGIN,
    ORDER_OVERRIDES,
    ORDER_PROXY,
    ORDER_USERS,
    has_choices,
    keeps_clusters,
)
from tidehub.site.model import Site
from tidehub.site.model.overrides import replaces_login

_NOBODY_ELSE = """\
c.GenericOAuthenticator.allow_all = False
c.GenericOAuthenticator.allow_existing_users = False
"""
_KEEP_GROUPS = """\
c.GenericOAuthenticator.manage_groups = True
c.GenericOAuthenticator.post_auth_hook = tidehub_rule.keep_groups
"""
_USERS = ("site.units", "login.entitled", "login.plain", "login.server_choices")


def carries_login(site: Site) -> bool:
    """Whether the hub's login is the authenticator of one machine, or GenericOAuthenticator with the rule.

    Raises `TidehubError` for a chart whose login nobody here knows: it might admit everybody.
    """
    chart = hub_chart(site)
    if chart < charts.LOGIN_BY_GROUPS and not replaces_login(site):
        pinned = site.kubernetes.charts if site.kubernetes is not None else {}
        named = ", ".join(f"{name} {version}" for name, version in pinned.items()) or "the chart"
        raise TidehubError(
            f"it is not known how the hub of {named} decides who may enter",
            expected="jupyterhub 1.0.0 or newer, or a published version of daskhub",
            fix="remove the version below kubernetes.charts, and take the release set's",
        )
    return chart >= charts.OWN_LOGIN


def entries(site: Site, addresses: Endpoints | None = None) -> dict[str, str]:
    """The entries by name, the site's own Python last. Raises `TidehubError` without the provider's addresses."""
    found = {ENTRY: spawner_text(), ORDER_PROXY: proxy_text()}
    if not replaces_login(site):
        found[ORDER_LOGIN] = login_text(site, addresses)
    if has_choices(site):
        found[ORDER_USERS] = users_text(site)
    if site.overrides is not None and site.overrides.hub_config is not None:
        found[ORDER_OVERRIDES] = site.overrides.hub_config
    return found


def gateway_host(site: Site) -> str:
    """Where Dask Gateway answers inside the cluster, from any namespace."""
    return f"{gateway.traefik_service(site)}.{namespace(site)}"


def namespace(site: Site) -> str:
    """Where the site is installed."""
    return site.kubernetes.namespace if site.kubernetes is not None else "default"


def gateway_address(site: Site) -> str:
    """Dask Gateway's address inside the cluster: straight to its own proxy, whatever the public one is like."""
    return f"http://{gateway_host(site)}{site.base_path}services/{gateway.SERVICE}"


def login_text(site: Site, addresses: Endpoints | None = None) -> str:
    """The site's login for this chart's hub; the client secret is not in it."""
    if carries_login(site):
        inside = gateway_address(site) if gateway.is_installed(site) else None
        return authenticator_text(site, addresses, gateway_url=inside)
    # Not at the top: it brings tornado, and today's charts do not need it.
    from tidehub.login import older_hub

    login = site.login
    return (
        "# Who may enter this site, made by tidehub from the site file. Changes belong there.\n"
        + modules_text(["login.rule", "login.older_hub"])
        + f"""
from tidehub.login.older_hub import SiteRule

tidehub_rule = SiteRule(
    {literal(rule_of(login))},
    {literal(dict(login.names))},
    {literal(sorted(login.block))},
)
c.JupyterHub.authenticator_class = "generic-oauth"
c.GenericOAuthenticator.{username_trait(site)} = tidehub_rule.username
c.GenericOAuthenticator.claim_groups_key = tidehub_rule.groups
c.GenericOAuthenticator.allowed_users = set()
c.GenericOAuthenticator.admin_users = set()
c.GenericOAuthenticator.allowed_groups = [{older_hub.ADMITTED!r}]
c.GenericOAuthenticator.admin_groups = [{older_hub.ADMIN!r}]
"""
        + (_NOBODY_ELSE if hub_chart(site) >= charts.TOKEN_SCOPES else "")
        + (_KEEP_GROUPS if hub_chart(site) >= charts.MANAGED_GROUPS else "")
    )


def proxy_text() -> str:
    """The proxy in its own pod, whose routes come back as soon as it does; the same for every site."""
    return (
        "# A restarted proxy has its routes back within seconds. Made by tidehub.\n"
        + modules_text(["kubernetes.hub_pod.routes"])
        + """
from tidehub.kubernetes.hub_pod.routes import WatchedProxy

c.JupyterHub.proxy_class = WatchedProxy
"""
    )


def username_trait(site: Site) -> str:
    """What GenericOAuthenticator calls the claim with the user name: oauthenticator 14 and 15 have the older word."""
    return "username_key" if hub_chart(site) < (3,) else "username_claim"


def users_text(site: Site) -> str:
    """What each user may start: profiles, sizes, and the scopes of their servers."""
    managed = hub_chart(site) >= charts.MANAGED_GROUPS
    where, what = ("server_choices", "groups_of") if managed else ("older_hub", "memberships")
    words = {"name": site.site.name, "contact": site.site.contact}
    text = (
        f"# What users may start, by membership; after {ORDER_LOGIN}. Made by tidehub from the site file.\n"
        + modules_text(_USERS)
        + f"""
from tidehub.login.{where} import {what}
from tidehub.login.server_choices import ServerChoices

tidehub_choices = ServerChoices(
    {literal(policy_of(site))},
    c.KubeSpawner.profile_list,
    {literal(words)},
    {what},
)
c.KubeSpawner.profile_list = tidehub_choices.profile_list
c.KubeSpawner.pre_spawn_hook = tidehub_choices.before_start
"""
    )
    if keeps_clusters(site):
        text += "c.KubeSpawner.server_token_scopes = tidehub_choices.server_token_scopes\n"
    return text
