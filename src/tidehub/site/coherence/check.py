"""What no schema sees: values that are each fine and make no sense together. Pure; places are added by `load`.

An `error` means the site cannot work as stated. A `warning` means it works, but probably not as meant.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from tidehub.loopback import is_loopback
from tidehub.site.coherence.dask import check_dask, not_an_image
from tidehub.site.coherence.deployment import check_deployment
from tidehub.site.coherence.hub import check_hub
from tidehub.site.coherence.login import check_login
from tidehub.site.images import has_tag, is_moving, is_reference
from tidehub.site.model import Bytes, Cores, Machine, Notebooks, Site, SiteSection
from tidehub.site.model.overrides import check_overrides, used
from tidehub.site.problems import KeyPath, Problem, warning
from tidehub.site.units import format_cores, format_size

_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*/?", re.ASCII)
_REQUIREMENT = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\s*([\[(<>=!~;@].*)?", re.ASCII)


def check(site: Site) -> list[Problem]:
    """Every contradiction in the site, errors and warnings."""
    return [
        *_address(site.site),
        *check_login(site),
        *_notebooks(site.notebooks),
        *check_dask(site.dask),
        *_machine(site),
        *check_deployment(site),
        *check_hub(site),
        *_overrides(site),
    ]


def _overrides(site: Site) -> Iterator[Problem]:
    if site.overrides is not None:
        yield from check_overrides(site.overrides, site.kubernetes.model if site.kubernetes else None)
        for path, what in used(site.overrides):
            yield warning(what, path)


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
            expected="the address that users open, without what the hub adds to it",
            fix=f"write {parts.scheme}://{parts.netloc}{re.split('/(?:hub|user|services|api)(?:/|$)', parts.path)[0]}/",
        )
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        yield Problem(
            "plain http on a public address: logins and everything else would travel in the clear",
            path,
            expected="https",
            fix=f"write https{site.url[4:]}",
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
    if not is_reference(image):
        yield not_an_image(image, path)
    elif not has_tag(image):
        yield warning(f"{image} has no tag, so it changes without notice", path, fix=f"write {image}:TAG")
    elif is_moving(image):
        yield warning(
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
        yield warning(
            "it holds a password in readable text", path, fix="use a password file (PGPASSFILE) instead"
        )
