"""What the site's login becomes in the configuration of `SiteAuthenticator`: plain values, for both targets. Pure."""

from __future__ import annotations

from typing import Any, Protocol

from tidehub.login.admission import rule_of
from tidehub.site.model import Site

OFFLINE = "offline_access"


class Addresses(Protocol):
    """What both `endpoints.Endpoints` and the local hub's settings know of a provider."""

    @property
    def issuer(self) -> str: ...
    @property
    def issuer_in_answers(self) -> bool: ...
    @property
    def authorize_url(self) -> str: ...
    @property
    def token_url(self) -> str: ...
    @property
    def userinfo_url(self) -> str: ...
    @property
    def jwks_url(self) -> str: ...
    @property
    def end_session_url(self) -> str | None: ...


def traits_of(
    site: Site, addresses: Addresses, *, with_offline: bool = False, gateway_url: str | None = None
) -> dict[str, Any]:
    """Trait to value, nothing secret. `with_offline` asks for refresh tokens that outlive a browser session.

    The caller adds `client_secret`, `oauth_callback_url` and `signed_out_url`.
    """
    login = site.login
    scopes = list(login.scopes)
    if with_offline and OFFLINE not in scopes:
        scopes.append(OFFLINE)
    return {
        "rule": rule_of(login),
        "words": {
            "name": site.site.name,
            "contact": site.site.contact,
            "enrolment_url": login.enrolment_url,
        },
        "issuer": addresses.issuer,
        "issuer_in_answers": addresses.issuer_in_answers,
        "realm": getattr(addresses, "realm", ""),
        "client_id": getattr(addresses, "client_id", None) or login.client_id or "",
        "authorize_url": addresses.authorize_url,
        "token_url": addresses.token_url,
        "userdata_url": addresses.userinfo_url,
        "jwks_url": addresses.jwks_url,
        "end_session_url": addresses.end_session_url or "",
        "login_service": getattr(addresses, "service_name", None) or login.title,
        "scope": scopes,
        "username_claim": login.username_claim,
        "stated_names": dict(login.names),
        # A subject never is a user name of somebody else: names are lower-case and short, subjects opaque.
        "blocked_users": {entry.lower() for entry in login.block},
        "blocked_subjects": set(login.block),
        "check_every": login.refresh,
        "grace": login.grace,
        "gateway_url": (gateway_url or "") if site.dask.engine == "gateway" else "",
        "auth_refresh_age": max(1, int(login.refresh)),
        "basic_auth": True,
        "enable_pkce": True,
        "manage_groups": True,
        "enable_auth_state": True,
        "allow_existing_users": False,
        # The rule is ours; without this the hub warns at every start that no user may enter.
        "any_allow_config": True,
    }
