"""What no schema sees: values that are each fine and make no sense together. Pure; places are added by `load`.

An `error` means the site cannot work as stated. A `warning` means it works, but probably not as meant.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from tidehub.login.entitlements import parse
from tidehub.site.dask_coherence import check_dask
from tidehub.site.images import has_tag, is_moving
from tidehub.site.model import EGI_HOSTS, Bytes, Cores, Login, Machine, Notebooks, Site, SiteSection
from tidehub.site.problems import KeyPath, Problem
from tidehub.site.units import format_cores, format_size

_PLACEHOLDER = re.compile(r"<.*>|\$\{.*\}|(?i:change[-_ ]?me|todo|fixme|xxx+|your[-_ ].*|client[-_]?id)")
_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*/?", re.ASCII)
_REQUIREMENT = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\s*([\[(<>=!~;@].*)?", re.ASCII)
_ENTITLEMENT_SCOPES = {"entitlements", "eduperson_entitlement"}


def check(site: Site) -> list[Problem]:
    """Every contradiction in the site, errors and warnings."""
    return [
        *_address(site.site),
        *_login(site),
        *_allow(site.login),
        *_notebooks(site.notebooks),
        *check_dask(site.dask),
        *_machine(site),
        *_deployment(site),
    ]


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own loopback."""
    if host.lower() == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _warning(what: str, path: KeyPath, *, expected: str | None = None, fix: str | None = None) -> Problem:
    return Problem(what, path, expected=expected, fix=fix, severity="warning")


def _address(site: SiteSection) -> Iterator[Problem]:
    if site.url is None:
        return
    parts = urlsplit(site.url)
    path: KeyPath = ("site", "url")
    if not _PATH.fullmatch(parts.path):
        yield Problem(
            f"the path {parts.path!r} cannot be a base path",
            path,
            expected="path parts of letters, digits and . _ ~ -, such as /jupyterhub/",
        )
    elif ".." in parts.path.split("/") or "." in parts.path.split("/"):
        yield Problem(f"the path {parts.path!r} goes up", path, expected="a plain path, such as /jupyterhub/")
    elif re.search(r"/(hub|user|services|api)(/|$)", parts.path):
        yield Problem(
            f"the path {parts.path!r} holds a part that the hub uses itself (hub, user, services, api)",
            path,
            expected="the address that people open, without what the hub adds to it",
            fix=f"write {parts.scheme}://{parts.netloc}{re.split('/(?:hub|user|services|api)(?:/|$)', parts.path)[0]}/",
        )
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        yield Problem(
            "plain http on a public address: logins and everything else would travel in the clear",
            path,
            expected="https",
            fix=f"write https{site.url[4:]}",
        )


def _login(site: Site) -> Iterator[Problem]:
    login = site.login
    if login.provider == "demo":
        yield from _demo(site)
        return
    if site.site.url is None:
        yield Problem(
            f"the provider {login.provider} sends people back to the site's address, and there is none",
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
    yield from _group_scopes(login)


def _demo(site: Site) -> Iterator[Problem]:
    login = site.login
    if site.site.url is not None and not is_loopback(urlsplit(site.site.url).hostname or ""):
        yield Problem(
            "the demo provider is for trying out, and this site has a public address",
            ("login", "provider"),
            expected="egi-check-in or oidc on a public address",
            fix="keep the real provider here, and try the site out with: tidehub up --demo-login",
        )
    for name in ("instance", "issuer", "client_id"):
        if getattr(login, name) is not None:
            yield _warning("the demo provider does not use this key", ("login", name), fix="remove it")


def _issuer(login: Login) -> Iterator[Problem]:
    if login.provider == "oidc":
        if login.issuer is None:
            yield Problem("the provider oidc needs an issuer", ("login",), fix="add issuer: with its address")
        elif urlsplit(login.issuer).scheme == "http" and not is_loopback(
            urlsplit(login.issuer).hostname or ""
        ):
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


def _group_scopes(login: Login) -> Iterator[Problem]:
    if not (login.allow.groups or login.admins.groups) or _ENTITLEMENT_SCOPES & set(login.scopes):
        return
    finding = Problem if login.provider == "egi-check-in" else _warning
    yield finding(
        "groups decide who may enter, but no scope is asked for that releases them",
        ("login", "scopes"),
        expected="entitlements, or eduperson_entitlement where the client is registered for the older name",
    )


def _allow(login: Login) -> Iterator[Problem]:
    allow = login.allow
    named = bool(allow.users or allow.groups)
    if not named and not allow.everyone:
        yield Problem(
            "nobody may enter",
            ("login", "allow"),
            expected="users: [...], groups: [...] or everyone: true",
            fix="say who may enter; everyone: true admits all whom the identity provider knows",
        )
    if named and allow.everyone:
        yield Problem(
            "everyone may enter, and yet users or groups are named",
            ("login", "allow", "everyone"),
            fix="keep everyone: true alone, or remove it",
        )
    for section, rules in (("allow", allow.groups), ("admins", login.admins.groups)):
        for index, group in enumerate(rules):
            try:
                parse(group)
            except ValueError as error:
                yield Problem(
                    f"{group!r} can never match: {error}",
                    ("login", section, "groups", index),
                    expected="an entitlement such as urn:mace:egi.eu:group:vo.example.org:role=member",
                )


def _notebooks(notebooks: Notebooks) -> Iterator[Problem]:
    yield from _guarantee(notebooks.cpu, ("notebooks", "cpu"))
    yield from _guarantee(notebooks.memory, ("notebooks", "memory"))
    if notebooks.ephemeral_storage is not None:
        yield from _guarantee(notebooks.ephemeral_storage, ("notebooks", "ephemeral_storage"))
    names: dict[str, int] = {}
    slugs: dict[str, int] = {}
    for index, profile in enumerate(notebooks.profiles):
        path: KeyPath = ("notebooks", "profiles", index)
        first = names.setdefault(profile.name.casefold(), index)
        same_slug = slugs.setdefault(profile.slug, index)
        if first != index:
            yield Problem(
                f"two profiles are called {profile.name!r}", (*path, "name"), fix="give each its own name"
            )
        elif same_slug != index:
            other = notebooks.profiles[same_slug].name
            fix = "give one of them a slug: of its own"
            yield Problem(
                f"its short name {profile.slug!r} is also that of {other!r}", (*path, "name"), fix=fix
            )
        if profile.cpu is not None:
            yield from _guarantee(profile.cpu, (*path, "cpu"))
        if profile.memory is not None:
            yield from _guarantee(profile.memory, (*path, "memory"))
        if profile.packages and profile.lock:
            yield Problem(
                "it has both packages and lock", path, fix="keep one: a lock file already names every package"
            )
        for place, package in enumerate(profile.packages):
            if not _REQUIREMENT.fullmatch(package):
                yield Problem(
                    f"{package!r} is not a Python requirement",
                    (*path, "packages", place),
                    expected="a name with an optional version, such as xarray or zarr>=3",
                )
        if profile.image is not None:
            yield from _image(profile.image, (*path, "image"))
    yield from _default_profile(notebooks)


def _default_profile(notebooks: Notebooks) -> Iterator[Problem]:
    defaults = [index for index, profile in enumerate(notebooks.profiles) if profile.default]
    if not defaults:
        fix = "add default: true to the one that is preselected"
        yield Problem("no profile is the default", ("notebooks", "profiles"), fix=fix)
    for index in defaults[1:]:
        first = notebooks.profiles[defaults[0]].name
        path: KeyPath = ("notebooks", "profiles", index, "default")
        yield Problem(
            f"a second default profile; {first!r} is one already", path, fix="keep one default: true"
        )


def _guarantee(amount: Cores | Bytes, path: KeyPath) -> Iterator[Problem]:
    if amount.guarantee > amount.limit:
        if isinstance(amount, Bytes):
            guarantee, limit = format_size(amount.guarantee), format_size(amount.limit)
        else:
            guarantee, limit = format_cores(amount.guarantee), format_cores(amount.limit)
        what = f"the guarantee {guarantee} is more than the limit {limit}"
        yield Problem(what, (*path, "guarantee"), expected=f"at most {limit}")


def _image(image: str, path: KeyPath) -> Iterator[Problem]:
    if not has_tag(image):
        yield _warning(f"{image} has no tag, so it changes without notice", path, fix=f"write {image}:TAG")
    elif is_moving(image):
        yield _warning(
            f"{image} changes without notice, and its jupyterhub may stop fitting the hub",
            path,
            fix="name a release instead of latest",
        )


def _machine(site: Site) -> Iterator[Problem]:
    machine = site.machine
    try:
        address = ipaddress.ip_address(machine.address.strip("[]"))
    except ValueError:
        if machine.address.lower() != "localhost":
            expected = "an address of this machine, such as 127.0.0.1, 0.0.0.0 or ::"
            yield Problem(f"{machine.address!r} is not an address", ("machine", "address"), expected=expected)
        address = ipaddress.ip_address("127.0.0.1")
    if not address.is_loopback:
        yield from _open_to_the_network(site)
    for index, proxy in enumerate(machine.trusted_proxies):
        try:
            network = ipaddress.ip_network(proxy, strict=False)
        except ValueError:
            expected = "an address or network, such as 10.0.0.5 or 10.0.0.0/24"
            yield Problem(
                f"{proxy!r} is not an address", ("machine", "trusted_proxies", index), expected=expected
            )
            continue
        if network.prefixlen == 0:
            what = f"{proxy} trusts forwarded headers from anyone"
            yield Problem(
                what, ("machine", "trusted_proxies", index), expected="the reverse proxies' own addresses"
            )
    yield from _database(machine)


def _open_to_the_network(site: Site) -> Iterator[Problem]:
    machine = site.machine
    if site.login.provider == "demo":
        yield Problem(
            f"the demo provider is for this machine alone, and {machine.address} is open to the network",
            ("machine", "address"),
            expected="127.0.0.1, or a real identity provider",
        )
    elif machine.tls is None and not machine.trusted_proxies:
        yield Problem(
            f"plain HTTP on {machine.address} is open to the network",
            ("machine", "address"),
            expected="tls: with certificate and key, trusted_proxies: in front, or the address 127.0.0.1",
        )


def _database(machine: Machine) -> Iterator[Problem]:
    if machine.database_url is None:
        return
    path: KeyPath = ("machine", "database_url")
    try:
        parts = urlsplit(machine.database_url)
        password = parts.password
    except ValueError:
        password, parts = None, urlsplit("")
    if parts.scheme.split("+")[0] not in ("postgresql", "postgres"):
        expected = "postgresql://user@host/database, or nothing for a file in the state directory"
        yield Problem("this is not a PostgreSQL address", path, expected=expected)
    if password:
        yield _warning(
            "it holds a password in readable text", path, fix="use a password file (PGPASSFILE) instead"
        )


def _deployment(site: Site) -> Iterator[Problem]:
    dns = site.infrastructure.dns if site.infrastructure else None
    host = urlsplit(site.site.url).hostname if site.site.url else None
    if dns is not None and host is not None and dns.host.lower() != host.lower():
        what = f"the name kept up to date is {dns.host}, and the site's address has {host}"
        yield _warning(what, ("infrastructure", "dns", "host"))
    if site.kubernetes is not None:
        foreign = {"daskhub"} if site.kubernetes.model == "split" else {"jupyterhub", "dask-gateway"}
        for chart in sorted(foreign & set(site.kubernetes.charts)):
            what = f"the chart {chart} is not installed by the model {site.kubernetes.model}"
            yield Problem(what, ("kubernetes", "charts", chart), fix="remove it, or change the model")
