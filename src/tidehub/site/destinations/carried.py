"""What keys become in the Python that travels in `extraConfig`: the login, the policy about users and clusters. Pure.

The charts have no values for these. An entry carries modules of tidehub and the part of the site that they read as
plain values. `within` of a destination is the way to one of them, from the class that reads it: the traits of
`SiteAuthenticator`, what `SiteRule` (the login of older charts) and `ServerChoices` are made with, `SiteBackend.site`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tidehub.login.admission import rule_of
from tidehub.login.endpoints import Endpoints, known_endpoints, stated_endpoints
from tidehub.login.entitled import is_restricted
from tidehub.login.hub_traits import traits_of
from tidehub.login.plain import policy_of
from tidehub.site import charts
from tidehub.site.charts import hub_chart
from tidehub.site.destinations.destination import Destination, Rule, helm
from tidehub.site.model import Site
from tidehub.site.model.overrides import replaces_login
from tidehub.site.problems import KeyPath

HUB, GATEWAY = "jupyterhub", "dask-gateway"
ORDER_LOGIN, ORDER_USERS, ORDER_PROXY = "0-tidehub-login", "0-tidehub-people", "0-tidehub-proxy"
ORDER_DASHBOARDS, ORDER_OVERRIDES = "0-tidehub-dashboards", "zz-overrides"
"""Entries of `hub.extraConfig`. Ours stand before all that others write (00-..., my-...), whose code counts after
ours."""
ORDER_COMMANDS, ORDER_LIMITS, ORDER_POLICY = "00-commands", "10-limits", "30-policy"
"""Entries of `gateway.extraConfig`. Both charts run entries in the order of their names."""
RULE_NOTE = "admission itself is tidehub's rule: entitlements are compared without their authority"
_CHOICES_NOTE = "counted for each user at each start"
_NOWHERE = Endpoints("", "", "", "", "")


def has_own_login(site: Site) -> bool:
    """Whether the hub's login is the authenticator of one machine; older charts have GenericOAuthenticator."""
    chart = hub_chart(site)
    return not chart or chart >= charts.OWN_LOGIN


def has_choices(site: Site) -> bool:
    """Whether users differ in what they may start or in its size, or in whether they may start clusters."""
    sizes = any(one.notebooks is not None for one in site.login.groups)
    return sizes or keeps_clusters(site) or any(is_restricted(site, one) for one in site.notebooks.profiles)


def has_gateway(site: Site) -> bool:
    """Whether users get their clusters from Dask Gateway."""
    return site.dask.engine == "gateway"


def keeps_clusters(site: Site) -> bool:
    """Whether only some users may start clusters with Dask Gateway."""
    return has_gateway(site) and site.dask.access == "groups"


# --- the login --------------------------------------------------------------------------------


def login_trait(site: Site, *within: str, note: str = "") -> Iterable[Destination]:
    """A trait of `SiteAuthenticator`, or a value inside one, as the hub of current charts is told."""
    if replaces_login(site) or not has_own_login(site):
        return
    traits = traits_of(site, provider(site) or _NOWHERE)
    traits["oauth_callback_url"] = site.site.callback_url
    value: Any = traits
    for part in within:
        value = value[part]
    value = sorted(value) if isinstance(value, (set, frozenset)) else value
    yield _inside(HUB, ORDER_LOGIN, "SiteAuthenticator", *within, value=value, note=note)


def provider(site: Site) -> Endpoints | None:
    """The provider's addresses as far as the site or EGI's documentation tells them; the rest is asked."""
    return stated_endpoints(site.login) or known_endpoints(site.login)


def trait(*names: str, note: str = "") -> Rule:
    """Traits of the login; older charts have none of them."""

    def rule(site: Site, value: Any, path: KeyPath) -> Iterable[Destination]:
        if value not in (None, (), {}):
            for name in names:
                yield from login_trait(site, *name.split("."), note=note)

    return rule


def admission(*within: str, note: str = RULE_NOTE) -> Rule:
    """A value of the admission rule, which is the same with every chart; an empty list says nothing."""

    def rule(site: Site, value: Any, path: KeyPath) -> Iterable[Destination]:
        if value is None or value == () or replaces_login(site):
            return
        if has_own_login(site):
            yield from login_trait(site, "rule", *within, note=note)
            return
        found: Any = rule_of(site.login)
        for part in within:
            found = found[part]
        yield _inside(HUB, ORDER_LOGIN, "SiteRule", "rule", *within, value=found, note=note)

    return rule


def username(site: Site, value: str, path: KeyPath) -> Iterable[Destination]:
    """The claim with the user name: the rule's, and what the log of current hubs calls it."""
    yield from admission("username_claim", note="")(site, value, path)
    yield from login_trait(site, "username_claim")


def block(site: Site, value: tuple[str, ...], path: KeyPath) -> Iterable[Destination]:
    """Who may not enter, by user name or subject."""
    yield from trait("blocked_users", "blocked_subjects")(site, value, path)
    if value and not replaces_login(site) and not has_own_login(site):
        yield _inside(HUB, ORDER_LOGIN, "SiteRule", "blocked", value=sorted(value))


def stated_names(site: Site, value: dict[str, str], path: KeyPath) -> Iterable[Destination]:
    """User names by the operator's word."""
    yield from trait("stated_names")(site, value, path)
    if value and not replaces_login(site) and not has_own_login(site):
        yield _inside(HUB, ORDER_LOGIN, "SiteRule", "names", value=dict(value))


# --- the policy about users and clusters -----------------------------------------------------


def of_users(site: Site, value: Any, path: KeyPath) -> Iterable[Destination]:
    """A key that decides which servers a user may start, and their size."""
    if has_choices(site) and value not in (None, ()):
        found = _in_policy(site, path)
        yield _inside(HUB, ORDER_USERS, "ServerChoices", *path, value=found, note=_CHOICES_NOTE)


def of_clusters(site: Site, value: Any, path: KeyPath) -> Iterable[Destination]:
    """A key that decides about a user's clusters: the policy reads it at each start of one."""
    if has_gateway(site) and value not in (None, ()):
        yield _inside(GATEWAY, ORDER_POLICY, "SiteBackend", "site", *path, value=_in_policy(site, path))


def of_both(site: Site, value: Any, path: KeyPath) -> Iterable[Destination]:
    """A key that the hub and the gateway read."""
    yield from of_users(site, value, path)
    yield from of_clusters(site, value, path)


def _in_policy(site: Site, path: KeyPath) -> Any:
    found: Any = policy_of(site)
    for part in path:
        found = found[part]
    return found


def _inside(chart: str, order: str, *within: str | int, value: Any, note: str = "") -> Destination:
    part = "hub" if chart == HUB else "gateway"
    return helm(chart, part, "extraConfig", order, value=value, note=note, within=within)


_GROUP_DASK = "login.groups[].dask"
RULES: dict[str, Rule] = {
    "login.allow.users": admission("allow", "users"),
    "login.allow.groups": admission("allow", "groups"),
    "login.allow.everyone": admission("allow", "everyone", note=""),
    "login.allow.assurance": admission("allow", "assurance", note=""),
    "login.admins.users": admission("admins", "users"),
    "login.admins.groups": admission("admins", "groups"),
    "login.username_claim": username,
    "login.enrolment_url": trait("words.enrolment_url", note="a link on the refusal page"),
    "login.refresh": trait("check_every", "auth_refresh_age"),
    "login.grace": trait("grace"),
    "login.block": block,
    "login.names": stated_names,
    "login.groups[].group": of_both,
    "login.groups[].profiles": of_users,
    "login.groups[].notebooks.cpu.guarantee": of_users,
    "login.groups[].notebooks.cpu.limit": of_users,
    "login.groups[].notebooks.memory.guarantee": of_users,
    "login.groups[].notebooks.memory.limit": of_users,
    f"{_GROUP_DASK}.enabled": of_both,
    f"{_GROUP_DASK}.worker.cores.max": of_clusters,
    f"{_GROUP_DASK}.worker.memory.max": of_clusters,
    **{
        f"{_GROUP_DASK}.{section}.{name}": of_clusters
        for section, most in (("cluster", "max_workers"), ("per_user", "max_clusters"))
        for name in (most, "max_cores", "max_memory")
    },
    "notebooks.profiles[].allow.users": of_users,
    "notebooks.profiles[].allow.groups": of_users,
    "dask.access": of_both,
    "dask.worker.cores.min": of_clusters,
    "dask.worker.cores.max": of_clusters,
    "dask.worker.memory.min": of_clusters,
    "dask.worker.memory.max": of_clusters,
    "dask.cluster.orphan_grace": of_clusters,
    "dask.per_user.max_clusters": of_clusters,
    "dask.per_user.max_cores": of_clusters,
    "dask.per_user.max_memory": of_clusters,
    "dask.image.choice": of_clusters,
}
