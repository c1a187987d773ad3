"""Where an identity provider's endpoints are: from its discovery document; EGI Check-In's are also known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from tidehub.errors import TidehubError
from tidehub.site.model import Login


@dataclass(frozen=True)
class Endpoints:
    """The addresses that a login needs."""

    issuer: str
    authorize_url: str
    token_url: str
    userinfo_url: str
    jwks_url: str
    end_session_url: str | None = None
    issuer_in_answers: bool = False
    """Whether answers to the browser always carry `iss` (RFC 9207)."""


def known_endpoints(login: Login) -> Endpoints | None:
    """EGI Check-In's endpoints as documented (EGI documentation, providers/check-in/sp: Keycloak, realm egi)."""
    if login.provider != "egi-check-in" or login.issuer_url is None:
        return None
    base = f"{login.issuer_url}/protocol/openid-connect"
    return Endpoints(
        issuer=login.issuer_url,
        authorize_url=f"{base}/auth",
        token_url=f"{base}/token",
        userinfo_url=f"{base}/userinfo",
        jwks_url=f"{base}/certs",
        end_session_url=f"{base}/logout",
    )


def stated_endpoints(login: Login) -> Endpoints | None:
    """The endpoints that the site itself states."""
    stated = login.endpoints
    if stated is None:
        return None
    return Endpoints(
        issuer=login.issuer_url or "",
        authorize_url=stated.authorize,
        token_url=stated.token,
        userinfo_url=stated.userinfo,
        jwks_url=stated.jwks or "",
        end_session_url=stated.end_session,
    )


def discovered(issuer: str, document: Any) -> Endpoints:
    """Endpoints from a discovery document (OpenID Connect Discovery 1.0, section 4.2).

    Raises `TidehubError` when it is another issuer's, or when an address is missing or not on https or loopback.
    """
    if not isinstance(document, dict):
        raise TidehubError(f"the discovery document of {issuer} is not a JSON object")
    if str(document.get("issuer", "")).rstrip("/") != issuer.rstrip("/"):
        raise TidehubError(
            f"the discovery document of {issuer} names another issuer",
            expected=f"issuer: {issuer}",
            fix="correct login.issuer, byte for byte",
        )
    names = ("authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri")
    missing = [name for name in names if not isinstance(document.get(name), str)]
    if missing:
        raise TidehubError(f"the discovery document of {issuer} lacks {', '.join(missing)}")
    hosts = {urlsplit(document[name]).scheme for name in names}
    if hosts - {"https"} and urlsplit(issuer).scheme == "https":
        raise TidehubError(f"the discovery document of {issuer} names addresses without https")
    end_session = document.get("end_session_endpoint")
    return Endpoints(
        issuer=document["issuer"],
        authorize_url=document["authorization_endpoint"],
        token_url=document["token_endpoint"],
        userinfo_url=document["userinfo_endpoint"],
        jwks_url=document["jwks_uri"],
        end_session_url=end_session if isinstance(end_session, str) else None,
        issuer_in_answers=document.get("authorization_response_iss_parameter_supported") is True,
    )


def find_endpoints(login: Login, *, deadline: float = 10.0) -> Endpoints:
    """The endpoints of the site's provider: what the site states, the rest by discovery.

    EGI Check-In's are also known when discovery is silent. `deadline` in seconds. Raises `TidehubError`.
    """
    stated = stated_endpoints(login)
    if stated is None:
        return _asked(login, deadline)
    if stated.issuer and stated.jwks_url:
        return stated
    if login.issuer_url is None:
        raise TidehubError(
            "login.issuer is missing",
            expected="the issuer that the provider writes into its ID tokens (iss)",
            fix="add it: without it no ID token can be verified",
        )
    rest = _asked(login, deadline)
    return replace(
        stated,
        issuer=rest.issuer,
        jwks_url=stated.jwks_url or rest.jwks_url,
        end_session_url=stated.end_session_url or rest.end_session_url,
    )


def _asked(login: Login, deadline: float) -> Endpoints:
    import httpx

    issuer = login.issuer_url
    if issuer is None:
        raise TidehubError(
            "login.issuer is missing", expected="the issuer address of the OpenID Connect provider"
        )
    url = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
    try:
        answer = httpx.get(url, timeout=deadline, follow_redirects=True)
        answer.raise_for_status()
        return discovered(issuer, answer.json())
    except (httpx.HTTPError, ValueError) as error:
        known = known_endpoints(login)
        if known is not None:
            return known
        raise TidehubError(
            f"the identity provider's discovery document cannot be read: {url}: {error}",
            expected="a JSON document with the provider's addresses",
            fix="check login.issuer and this machine's way to it; --demo-login tries the site out without it",
        ) from None
