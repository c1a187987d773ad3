"""Who may do what at the hub: roles and services of the platform on one machine (pure)."""

from __future__ import annotations

from typing import Any

from tidehub.local.hub.settings import HubSettings
from tidehub.local.secrets import PlatformSecrets
from tidehub.site.model import Site

DASK_SERVICE = "dask-gateway"
_DASK_ACCESS = f"access:services!service={DASK_SERVICE}"


def server_scopes(*, with_dask: bool) -> list[str]:
    """The scopes of the token inside a notebook server. Without Dask access in it no cluster could be started."""
    scopes = ["users:activity!user", "access:servers!server"]
    return [*scopes, _DASK_ACCESS] if with_dask else scopes


def roles(site: Site) -> list[dict[str, Any]]:
    """The hub's `load_roles`: users, and one narrow role a service of ours."""
    user_scopes = ["self"] + ([_DASK_ACCESS] if site.dask.engine == "gateway" else [])
    gate = {
        "name": "gate",
        "description": "Knows which users are administrators: they may look at everybody's dashboards",
        "scopes": ["read:users"],
        "services": [DASK_SERVICE],
    }
    return [
        *([gate] if site.dask.engine == "gateway" else []),
        {"name": "user", "description": "Everybody who may enter", "scopes": user_scopes},
        {
            "name": "culler",
            "description": "Stops servers that nobody uses",
            "scopes": ["list:users", "read:users:activity", "read:servers", "delete:servers"],
            "services": ["culler"],
        },
        {
            "name": "reaper",
            "description": "Knows who has a server running and their groups, to end Dask clusters without right",
            "scopes": ["list:users", "read:servers", "read:users:groups"],
            "services": ["reaper"],
        },
        {
            "name": "operator",
            "description": "tidehub status, down, explain-login and the repair of routes",
            "scopes": [
                "list:users",
                "read:users",
                "read:servers",
                "delete:servers",
                "proxy",
                "read:hub",
                # What the provider said of a user, for explain-login. Whoever has this token has the database too.
                "admin:auth_state",
                "read:services",
            ],
            "services": ["operator"],
        },
    ]


def services(settings: HubSettings, secrets: PlatformSecrets) -> list[dict[str, Any]]:
    """The hub's `services`. Their processes are ours to supervise, so the hub gets addresses and tokens only."""
    known: list[dict[str, Any]] = [
        {"name": "culler", "api_token": secrets.culler_token.reveal()},
        {"name": "reaper", "api_token": secrets.reaper_token.reveal()},
        {"name": "operator", "api_token": secrets.operator_token.reveal()},
    ]
    if settings.dashboards_url:
        known.append(
            {
                "name": DASK_SERVICE,
                "url": settings.dashboards_url,
                "api_token": secrets.gateway_token.reveal(),
                "display": False,
                # A dashboard link must open, not ask whether it may know who you are.
                "oauth_no_confirm": True,
            }
        )
    return known
