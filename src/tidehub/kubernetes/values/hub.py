"""Values of the jupyterhub chart, 1.0 to 4.4. Pure.

What follows from single keys of the site is in `tidehub.site.destinations.helm`; here is what follows from the whole:
the login as this chart's hub takes it, what joins hub and gateway, and where the chart's defaults do harm.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidehub.errors import TidehubError
from tidehub.kubernetes import exposure
from tidehub.kubernetes.values import dashboards, gateway, hub_code, network, operator
from tidehub.kubernetes.values.merge import merge, remove
from tidehub.login.endpoints import Endpoints, known_endpoints, stated_endpoints
from tidehub.site import charts
from tidehub.site.charts import hub_chart
from tidehub.site.destinations import carried
from tidehub.site.destinations.catalogue import helm_fragments
from tidehub.site.destinations.convert import split_image, to_whole_seconds
from tidehub.site.end_words import end_words
from tidehub.site.model import Site
from tidehub.site.model.overrides import replaces_login

CHART = "jupyterhub"
PUBLIC_PORT = 80
CULL_EVERY = 600
"""Seconds between two looks of the culler: the chart's default."""
ACTIVITY_EVERY = 300
"""Seconds between two reports of a server's activity: jupyterhub's default."""


def values(site: Site, addresses: Endpoints | None = None) -> dict[str, Any]:
    """The values without the site's overrides, to be nested below its name with the daskhub chart; nothing secret.

    `addresses` are those that discovery found; without them the stated or well-known ones are taken. Raises
    `TidehubError` when nothing says where the identity provider is, or what this chart's hub makes of a login.
    """
    fragments = helm_fragments(site)
    found = merge(fragments.get("daskhub", fragments).get(CHART, {}))
    _login(site, found, addresses)
    return merge(
        found,
        {"hub": {"extraConfig": hub_code.entries(site, addresses)}},
        _notebooks(site),
        _scheduling(site),
        _gateway(site) if gateway.is_installed(site) else _without_gateway(site),
        gateway.hub_values(site),
        operator.hub_values(site),
        network.hub_values(site),
        exposure.hub_values(site),
    )


def secrets(site: Site, given: Mapping[str, Any]) -> dict[str, Any]:
    """The secrets of `secrets.charts.chart_values` for this chart, where this chart's hub looks for them."""
    found = merge(given)
    if hub_code.carries_login(site) and not replaces_login(site):
        secret = remove(found, "hub", "config", "GenericOAuthenticator", "client_secret")
        if secret is not None:
            found = merge(found, {"hub": {"config": {"SiteAuthenticator": {"client_secret": secret}}}})
    if not gateway.is_installed(site):
        # The hub would know a service that nobody serves.
        remove(found, "hub", "services", gateway.SERVICE, "apiToken")
    return found


# --- the login --------------------------------------------------------------------------------


def _login(site: Site, found: dict[str, Any], addresses: Endpoints | None) -> None:
    """Puts this chart's login into the values `found`.

    `hub.config` alone admits nobody: were the code in `hub.extraConfig` lost, the hub would refuse everybody.
    """
    config = found["hub"].setdefault("config", {})
    # Also below a login of the site's own words, which is laid over it.
    config["JupyterHub"] = {"authenticator_class": "generic-oauth"}
    if hub_code.carries_login(site) or replaces_login(site):
        return
    # Not at the top: it brings tornado, and today's charts do not need it.
    from tidehub.login import older_hub

    config["GenericOAuthenticator"] = {
        **config.get("GenericOAuthenticator", {}),
        **_provider(site, addresses),
        "allowed_groups": [older_hub.ADMITTED],
        "admin_groups": [older_hub.ADMIN],
    }
    if hub_chart(site) >= (3,):
        config["GenericOAuthenticator"] |= {"allow_all": False, "allow_existing_users": False}
    if carried.has_choices(site) and hub_chart(site) < charts.MANAGED_GROUPS:
        # Memberships at the last sign-in are kept there.
        config["GenericOAuthenticator"]["enable_auth_state"] = True


def _provider(site: Site, addresses: Endpoints | None) -> dict[str, Any]:
    found = addresses or stated_endpoints(site.login) or known_endpoints(site.login)
    if found is None:
        raise TidehubError(
            "nothing says where the identity provider's addresses are",
            expected="addresses from its discovery document, or login.endpoints",
        )
    return {
        "authorize_url": found.authorize_url,
        "token_url": found.token_url,
        "userdata_url": found.userinfo_url,
        "login_service": site.login.title,
    }


# --- notebook servers -------------------------------------------------------------------------


def _notebooks(site: Site) -> dict[str, Any]:
    """JupyterLab first, and users at work are never taken for idle.

    The culler asks the hub for what servers report; that a busy kernel is activity is in `notebook_files`.
    """
    found: dict[str, Any] = {"singleuser": {"defaultUrl": "/lab"}}
    timeout, age = (to_whole_seconds(one) for one in (site.notebooks.idle_timeout, site.notebooks.max_age))
    ages = [one for one in (timeout, age) if one]
    if hub_chart(site) >= charts.PAGES and (words := end_words(timeout, age)):
        found["hub"] = {"templateVars": {"end_words": words}}
    if ages and min(ages) < 4 * CULL_EVERY:
        found["cull"] = {"every": max(1, min(CULL_EVERY, min(ages) // 4))}
    if timeout and timeout < 4 * ACTIVITY_EVERY:
        report = str(max(1, timeout // 4))
        found["singleuser"]["extraEnv"] = {"JUPYTERHUB_ACTIVITY_INTERVAL": report}
    return found


def _scheduling(site: Site) -> dict[str, Any]:
    """Images come to every node in the background: a deployment that waits for gigabytes runs into its deadline."""
    found: dict[str, Any] = {"prePuller": {"hook": {"enabled": False}, "continuous": {"enabled": True}}}
    image = site.dask.image.default
    profiles = {profile.image for profile in site.notebooks.profiles}
    if gateway.is_installed(site) and image != "profile" and image not in profiles:
        name, tag = split_image(image)
        if tag:
            found["prePuller"]["extraImages"] = {"dask": {"name": name, "tag": tag}}
    if site.kubernetes is None or not site.kubernetes.user_scheduler:
        # Placeholders exist to be pushed aside by a scheduler that is not there.
        found["scheduling"] = {
            "userScheduler": {"enabled": False},
            "userPlaceholder": {"enabled": False},
        }
    return found


# --- what joins hub and gateway ---------------------------------------------------------------


def _gateway(site: Site) -> dict[str, Any]:
    access = f"access:services!service={gateway.SERVICE}"
    hub: dict[str, Any] = {
        "services": {gateway.SERVICE: {"url": f"http://{hub_code.gateway_host(site)}", "display": False}},
    }
    if gateway.is_gated(site):
        hub = merge(hub, dashboards.hub_values(site, hub_code.gateway_address(site))["hub"])
    if hub_chart(site) >= charts.SCOPES:
        # A token reaches no further than its owner: users need the scope for their servers to have it.
        hub["loadRoles"] = {
            "user": {"description": "Everybody who may enter", "scopes": ["self", access]},
            "server": {
                "description": "What a notebook server may do for its owner",
                "scopes": ["users:activity!user", "access:servers!server", access],
            },
        }
    environment = {
        "DASK_GATEWAY__ADDRESS": hub_code.gateway_address(site),
        "DASK_GATEWAY__PROXY_ADDRESS": f"gateway://{hub_code.gateway_host(site)}:{PUBLIC_PORT}",
        "DASK_GATEWAY__PUBLIC_ADDRESS": f"{site.base_path}services/{gateway.SERVICE}/",
        "DASK_GATEWAY__AUTH__TYPE": "jupyterhub",
        "DASK_LABEXTENSION__FACTORY__MODULE": "dask_gateway",
        "DASK_LABEXTENSION__FACTORY__CLASS": "GatewayCluster",
    }
    if gateway.is_gated(site):
        environment["TIDEHUB_DASHBOARDS"] = dashboards.address(site, hub_code.namespace(site))
    return {"hub": hub, "singleuser": {"extraEnv": environment}}


def _without_gateway(site: Site) -> dict[str, Any]:
    """daskhub's own defaults join a gateway to the hub, which here would be an address where nobody answers."""
    if site.kubernetes is None or site.kubernetes.model != "daskhub":
        return {}
    # Only what the version's defaults have: Helm leaves a null standing where there is nothing to take away.
    hub: dict[str, Any] = {"extraConfig": {"00-add-dask-gateway-values": None}}
    if hub_chart(site) >= (3,):
        hub["services"] = {gateway.SERVICE: None}
    return {"hub": hub}
