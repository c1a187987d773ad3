"""The login: the identity provider, the address it sends users back to, and the secrets."""

from __future__ import annotations

import json
from urllib.parse import urlencode, urlsplit

from tidehub import program
from tidehub.errors import TidehubError
from tidehub.kubernetes.preflight.edges.network import NoAnswer, Reply
from tidehub.kubernetes.preflight.model import Context, Finding, NotKnown, Skip
from tidehub.kubernetes.preflight.server import clock_finding
from tidehub.login.endpoints import Endpoints, discovered, known_endpoints, stated_endpoints

_OURS = {
    "authorize": "authorize_url",
    "token": "token_url",
    "userinfo": "userinfo_url",
    "jwks": "jwks_url",
    "end_session": "end_session_url",
}
_REFUSALS = (
    ("redirect_uri", "does not know this redirect address"),
    ("client", "does not know this client id"),
)


def provider(context: Context) -> list[Finding]:
    """Whether the provider's discovery answers, and says what the site says."""
    login = context.site.login
    if login.provider == "demo":
        return [
            Finding(
                "identity-provider",
                "problem",
                "the demo provider runs on one machine only",
                "register the site with an identity provider, and write login.provider",
            )
        ]
    issuer = login.issuer_url
    if issuer is None:
        raise Skip
    reply = _discovery(context)
    if reply.status != 200:
        return [
            Finding(
                "identity-provider",
                "problem",
                f"the identity provider's discovery at {issuer} answers HTTP {reply.status}",
                "correct login.issuer (or login.instance), byte for byte",
            )
        ]
    try:
        found = discovered(issuer, json.loads(reply.body))
    except ValueError:
        return [
            Finding(
                "identity-provider",
                "problem",
                f"what answers at {issuer} is not a discovery document",
                "correct login.issuer: it is the address before /.well-known/openid-configuration",
            )
        ]
    except TidehubError as error:
        return [Finding("identity-provider", "problem", error.what, error.fix or "correct login.issuer")]
    differing = _differing(found, context)
    if differing:
        return [
            Finding(
                "identity-endpoints",
                "warning",
                "the provider's addresses are other ones than the site has",
                "take login.endpoints out of the site file, or correct it; tell us, where it is EGI Check-In",
                tuple(differing),
            )
        ]
    return [Finding("identity-provider", "ok", f"the identity provider answers as {found.issuer}")]


def callback_url(context: Context) -> list[Finding]:
    """The address that the provider sends users back to: whether it can be theirs, and the provider takes it."""
    url = context.site.site.url
    if url is None:
        return [
            Finding(
                "callback-url",
                "problem",
                "the site has no address (site.url)",
                "add `url` to the section `site:`",
            )
        ]
    wanted = f"{url.rstrip('/')}/hub/oauth_callback"
    stated = context.site.login.callback_url
    if stated and stated != wanted:
        return [
            Finding(
                "callback-url",
                "problem",
                f"the registered redirect address is {stated}, and the site's is {wanted}",
                "register the site's own with the identity provider, or correct site.url",
            )
        ]
    if urlsplit(url).scheme != "https":
        return [
            Finding(
                "callback-url",
                "problem",
                f"the address that users are sent back to is not https: {wanted}",
                "write site.url with https: providers refuse others, and passwords would travel in clear",
            )
        ]
    said = _asked(context, wanted)
    if said:
        fix = f"register {wanted} with the identity provider, and the client id as login.client_id"
        return [Finding("callback-registered", "problem", f"the identity provider {said}", fix)]
    return [Finding("callback-url", "ok", f"users are sent back to {wanted}")]


def provider_clock(context: Context) -> Finding:
    """The provider's clock against this machine's: ID tokens live for minutes."""
    if context.site.login.provider == "demo" or context.site.login.issuer_url is None:
        raise Skip
    try:
        offset = _discovery(context).clock_offset
    except NotKnown:
        raise Skip from None
    if offset is None:
        raise NotKnown("the identity provider does not say what time it has")
    return clock_finding("provider-clock", "the identity provider's clock", offset)


def secrets(context: Context) -> list[Finding]:
    """Whether every secret that the site needs is there and usable."""
    from tidehub.secrets.site_secrets import needed, problems_of, resolve

    if context.site_file is None:
        raise Skip
    wanted = needed(context.site)
    found = problems_of(resolve(context.site_file, context.environ), wanted)
    if not found:
        return [Finding("secrets", "ok", f"all {len(wanted)} secrets are there")]
    return [
        Finding(
            "secrets",
            "problem" if one.severity == "error" else "warning",
            f"{'.'.join(map(str, one.path)) or 'the secrets file'}: {one.what}",
            one.fix or f"see `{program.command('secrets', 'check')}`",
            (str(one.where),) if one.where else (),
        )
        for one in found
    ]


def _discovery(context: Context) -> Reply:
    issuer = str(context.site.login.issuer_url)
    try:
        return context.network.get(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
    except NoAnswer as error:
        raise NotKnown(
            f"the identity provider was not asked: {error.what}",
            "see whether the provider is up; the hub's pod must reach it, whatever this machine does",
        ) from error


def _differing(found: Endpoints, context: Context) -> list[str]:
    login = context.site.login
    expected = stated_endpoints(login) or known_endpoints(login)
    if expected is None:
        return []
    pairs = ((name, getattr(expected, field), getattr(found, field)) for name, field in _OURS.items())
    return [
        f"{name}: {ours}, and the provider says {theirs}"
        for name, ours, theirs in pairs
        if ours and ours != theirs
    ]


def _asked(context: Context, callback: str) -> str:
    """What the provider's authorization endpoint says against this client and address; empty where nothing.

    It is asked as a browser would be, without a user: a provider that knows both shows its sign-in, and one that
    does not must not redirect anywhere (RFC 6749, section 4.1.2.1).
    """
    login = context.site.login
    endpoints = stated_endpoints(login) or known_endpoints(login)
    if endpoints is None and login.issuer_url:
        try:
            endpoints = discovered(login.issuer_url, json.loads(_discovery(context).body))
        except (NotKnown, ValueError, TidehubError):
            return ""
    if endpoints is None or not login.client_id:
        return ""
    query = {
        "client_id": login.client_id,
        "redirect_uri": callback,
        "response_type": "code",
        "scope": " ".join(login.scopes),
        "state": "preflight",
    }
    joint = "&" if "?" in endpoints.authorize_url else "?"
    try:
        reply = context.network.get(f"{endpoints.authorize_url}{joint}{urlencode(query)}", follow=False)
    except NoAnswer:
        return ""
    if reply.status not in (400, 401, 403):
        return ""
    body = reply.body.decode("utf-8", "replace").lower()
    for mark, words in _REFUSALS:
        if mark in body:
            return words
    return ""
