"""The login as text for the configuration of an unchanged hub image: `hub.extraConfig` of the jupyterhub chart. Pure.

The image has JupyterHub, oauthenticator and what they need (PyJWT, cryptography, SQLAlchemy), and nothing of ours.
The text therefore carries the very modules that one machine uses, and the site's login as plain values. What is
secret is not in it: the client secret comes as `hub.config.SiteAuthenticator.client_secret`.
"""

from __future__ import annotations

from typing import Any

from tidehub.errors import TidehubError
from tidehub.login.carried import modules_text
from tidehub.login.endpoints import Endpoints, known_endpoints, stated_endpoints
from tidehub.login.hub_traits import traits_of
from tidehub.site.model import Site

MODULES = ("log_scrub", "rule", "pages", "id_token", "users", "revocation", "handlers", "authenticator")
"""Modules of `tidehub.login` that travel, each after those that it imports."""

_HEAD = "# The login of this site, made by tidehub from the site file. Changes belong there.\n"


def authenticator_text(
    site: Site, addresses: Endpoints | None = None, *, gateway_url: str | None = None
) -> str:
    """Python text that makes the site's login in a hub's configuration; it needs `c` there.

    `addresses` are those that discovery found; without them the stated or well-known ones are taken. `gateway_url`
    is Dask Gateway's address as the hub reaches it. Raises `TidehubError` when nothing says where the provider is.
    """
    found = addresses or _without_asking(site)
    if site.site.callback_url is None or site.site.url is None:
        raise TidehubError("site.url is missing", expected="the public address of the hub")
    traits = traits_of(site, found, gateway_url=gateway_url)
    traits["oauth_callback_url"] = site.site.callback_url
    traits["signed_out_url"] = site.site.callback_url.removesuffix("oauth_callback") + "login"
    parts = [_HEAD, modules_text([f"login.{name}" for name in MODULES])]
    parts.append(
        "\nc.JupyterHub.authenticator_class = sys.modules['tidehub.login.authenticator'].SiteAuthenticator\n"
    )
    parts += [f"c.SiteAuthenticator.{name} = {literal(value)}\n" for name, value in traits.items()]
    return "".join(parts)


def _without_asking(site: Site) -> Endpoints:
    stated = stated_endpoints(site.login)
    found = (
        stated if stated is not None and stated.issuer and stated.jwks_url else known_endpoints(site.login)
    )
    if found is None:
        raise TidehubError(
            "nothing says where the identity provider's addresses are",
            expected="addresses from its discovery document, or login.issuer with login.endpoints and their jwks",
        )
    return found


def literal(value: Any) -> str:
    """The value as Python text, the same at every run; sets as sorted lists, which traitlets takes for them."""
    return repr(sorted(value) if isinstance(value, (set, frozenset)) else value)
