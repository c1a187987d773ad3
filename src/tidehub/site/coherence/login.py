"""The login against itself and the site's address: what admits no user, or everybody, or leads nowhere. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from tidehub import program
from tidehub.loopback import is_loopback
from tidehub.site.coherence.groups import check_groups
from tidehub.site.model import EGI_HOSTS, Login, Site
from tidehub.site.problems import FILE, KeyPath, Problem, warning

_PLACEHOLDER = re.compile(r"<.*>|\$\{.*\}|(?i:change[-_ ]?me|todo|fixme|xxx+|your[-_ ].*|client[-_]?id)")


def check_login(site: Site) -> list[Problem]:
    """Contradictions in the login, and who may enter."""
    return [*_login(site), *_allow(site.login), *check_groups(site)]


def _login(site: Site) -> Iterator[Problem]:
    login = site.login
    if login.provider == "demo":
        yield from _demo(site)
        return
    if site.site.url is None:
        yield Problem(
            f"the provider {login.provider} sends users back to the site's address, which is missing",
            ("site",),
            fix="add url: with the public address",
        )
    if login.client_id is None:
        yield Problem(
            "client_id is missing",
            ("login",),
            expected="the client id from the registration with the identity provider",
            fix=f"register the redirect URI {site.site.callback_url or 'of the site'}, then add client_id:",
        )
    elif _PLACEHOLDER.fullmatch(login.client_id):
        yield Problem(
            f"{login.client_id!r} is a placeholder", ("login", "client_id"), expected="the real client id"
        )
    if "openid" not in login.scopes:
        yield Problem(
            "the scope openid is missing", ("login", "scopes"), fix="add openid: OpenID Connect needs it"
        )
    yield from _issuer(login)
    yield from _endpoints(login)
    yield from _callback(site)


def _demo(site: Site) -> Iterator[Problem]:
    login = site.login
    if site.site.url is not None and not is_loopback(urlsplit(site.site.url).hostname or ""):
        yield Problem(
            "the demo provider is for trying out, and this site has a public address",
            ("login", "provider"),
            expected="egi-check-in or oidc on a public address",
            fix=f"keep the real provider here, and try it out with: {program.command('up', '--demo-login', FILE)}",
        )
    for name in ("instance", "issuer", "client_id", "callback_url", "endpoints"):
        if getattr(login, name) is not None:
            yield warning("the demo provider does not use this key", ("login", name), fix="remove it")


def _issuer(login: Login) -> Iterator[Problem]:
    if login.provider == "oidc":
        if login.issuer is None and login.endpoints is None:
            yield Problem("the provider oidc needs an issuer", ("login",), fix="add issuer: with its address")
        elif login.issuer is not None and _in_the_clear(login.issuer):
            yield Problem("the issuer is asked over plain http", ("login", "issuer"), expected="https")
        if login.instance is not None:
            yield Problem(
                "instance belongs to the provider egi-check-in", ("login", "instance"), fix="remove it"
            )
    elif login.issuer is not None and login.issuer.rstrip("/") != login.issuer_url_of_instance:
        yield Problem(
            f"the issuer {login.issuer} is not that of the {login.instance or 'production'} instance",
            ("login", "issuer"),
            expected=login.issuer_url_of_instance,
            fix="remove issuer: the instance decides it",
        )
    host = urlsplit(login.issuer).hostname if login.issuer else None
    if login.issuer and host in EGI_HOSTS.values() and "/oidc" in urlsplit(login.issuer).path:
        yield Problem(
            "the addresses of EGI Check-In with /oidc/ were switched off in 2022",
            ("login", "issuer"),
            expected=f"https://{host}/auth/realms/egi",
        )


def _endpoints(login: Login) -> Iterator[Problem]:
    if login.endpoints is None:
        return
    stated = login.endpoints.by_name()
    issuer = login.issuer_url
    for name, url in stated.items():
        path: KeyPath = ("login", "endpoints", name)
        if _in_the_clear(url):
            yield Problem("the identity provider is asked over plain http", path, expected="https")
        if _host(url) in EGI_HOSTS.values() and urlsplit(url).path.startswith("/oidc/"):
            expected = f"https://{_host(url)}/auth/realms/egi/protocol/openid-connect/..."
            yield Problem(
                "the addresses of EGI Check-In with /oidc/ were switched off in 2022", path, expected=expected
            )
    if issuer is not None:
        foreign = {name: url for name, url in stated.items() if _host(url) != _host(issuer)}
        whose = f"the issuer is at {_host(issuer)}"
    else:
        foreign = {name: url for name, url in stated.items() if _host(url) != _host(stated["authorize"])}
        whose = f"users sign in at {_host(stated['authorize'])}"
    for name, url in foreign.items():
        # Some providers spread over hosts; two instances of one provider refuse each other's codes.
        certain = login.provider == "egi-check-in" or {
            _host(url),
            _host(issuer or stated["authorize"]),
        } <= set(EGI_HOSTS.values())
        what = f"this address is at {_host(url)}, and {whose}"
        if certain:
            fix = "take all addresses of one instance, or remove endpoints: they follow from login.instance"
            what += ": one instance of EGI Check-In refuses what another has issued"
            yield Problem(
                what, ("login", "endpoints", name), expected=f"an address at {_host(issuer or '')}", fix=fix
            )
        else:
            yield warning(what, ("login", "endpoints", name), fix="check that both belong to one provider")


def _callback(site: Site) -> Iterator[Problem]:
    stated, right = site.login.callback_url, site.site.callback_url
    if stated is None or right is None or stated == right:
        return
    ours, theirs = urlsplit(right), urlsplit(stated)
    if ours.scheme != theirs.scheme:
        why = f"it begins with {theirs.scheme}://, and site.url with {ours.scheme}://"
    elif ours.netloc.lower() != theirs.netloc.lower():
        why = f"it leads to {theirs.netloc}, and the site is at {ours.netloc}"
    elif ours.path == theirs.path:
        why = "the two differ in capital letters, and identity providers compare them byte for byte"
    elif ours.path == theirs.path.rstrip("/"):
        why = "it ends with a slash too many"
    elif theirs.path.endswith("/hub/oauth_callback"):
        base = theirs.path.removesuffix("hub/oauth_callback")
        why = f"its base path is {base}, and that of site.url is {site.base_path}"
    else:
        why = "its path is not the base path of site.url followed by hub/oauth_callback"
    yield Problem(
        f"the identity provider would send users elsewhere: {why}",
        ("login", "callback_url"),
        expected=right,
        fix="correct it here and in the registration, or correct site.url",
    )


def _host(url: str) -> str:
    return (urlsplit(url).hostname or "").lower()


def _in_the_clear(url: str) -> bool:
    return urlsplit(url).scheme == "http" and not is_loopback(urlsplit(url).hostname or "")


def _allow(login: Login) -> Iterator[Problem]:
    allow = login.allow
    named = bool(allow.users or allow.groups)
    if not named and not allow.everyone:
        yield Problem(
            "no user may enter",
            ("login", "allow"),
            expected="users: [...], groups: [...] or everyone: true",
            fix="say who may enter; everyone: true admits all whom the identity provider knows",
        )
    if "admins" not in login.model_fields_set and not (login.admins.users or login.admins.groups):
        yield warning(
            "nobody is administrator: no user can see or stop others' servers",
            ("login", "admins"),
            expected="users: [...] or groups: [...]",
            fix="name who administers the hub; or write, where nobody should: admins: {users: []}",
        )
    if named and allow.everyone:
        yield Problem(
            "everyone may enter, and yet users or groups are named",
            ("login", "allow", "everyone"),
            fix="keep everyone: true alone, or remove it",
        )
