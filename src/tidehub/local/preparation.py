"""What a site needs before its parts can be told anything: the site itself, its sizes, software, the front door.

All of it can be asked for again, changes nothing that runs, and fails where the site cannot be served: so a running
platform is touched only after this has gone well for the new site.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tidehub.capacity.fit import cramped, fit, impossible
from tidehub.errors import TidehubError, UsageError
from tidehub.local.addresses import Front, free_ports, front_of, on_this_machine
from tidehub.local.front.proxy import FrontDoor
from tidehub.local.front.tls import TlsFiles
from tidehub.local.hub.settings import LoginEndpoints, ProfileEnvironment
from tidehub.local.machine import machine_cores, machine_memory
from tidehub.local.places import Places
from tidehub.local.secrets import PlatformSecrets, load_secrets
from tidehub.local.software import Software
from tidehub.local.software.progress import Counted
from tidehub.local.supervisor.platform import Say, UpOptions
from tidehub.login.endpoints import find_endpoints
from tidehub.secrets.secret import Secret
from tidehub.secrets.site_secrets import require
from tidehub.site.model import Site
from tidehub.site.reading.load import load_preset, load_site


@dataclass(frozen=True)
class Brought:
    """The software of one site."""

    software: Software
    environments: Mapping[str, ProfileEnvironment]
    """By the slug of the profile."""
    proxy: list[str]

    def used(self) -> list[Path]:
        """Every program of it, for `software.pruning.write_down`."""
        return [*(one.python for one in self.environments.values()), *map(Path, self.proxy)]


@dataclass(frozen=True)
class Keys:
    """What may be missing or wrong, and is looked for before software comes, or what runs is stopped."""

    platform: PlatformSecrets
    provider: tuple[LoginEndpoints, Secret] | None
    """Where users log in, and the secret that it knows the hub by; None for the demo accounts."""


def keys_of(places: Places, site: Site, options: UpOptions) -> Keys:
    """Raises `UsageError` for a secret or a client id that is missing, `TidehubError` for damaged keys, and for an
    identity provider that does not answer."""
    return Keys(
        load_secrets(places.secrets),
        None if with_demo(site, options) else _provider(site, options.site_file),
    )


def _provider(site: Site, site_file: Path | None) -> tuple[LoginEndpoints, Secret]:
    if site.login.client_id is None:
        raise UsageError("login.client_id is missing", fix="add the client id of the provider's registration")
    client_secret = require(site_file, "client_secret")
    found = find_endpoints(site.login)
    endpoints = LoginEndpoints(
        service_name=site.login.title,
        issuer=found.issuer,
        issuer_in_answers=found.issuer_in_answers,
        jwks_url=found.jwks_url,
        authorize_url=found.authorize_url,
        token_url=found.token_url,
        userinfo_url=found.userinfo_url,
        end_session_url=found.end_session_url,
        client_id=site.login.client_id,
    )
    return endpoints, client_secret


def site_of(options: UpOptions) -> Site:
    """The site that `up` serves: the file's or the built-in one, with the environment's and the options' values."""
    if options.site_file is None:
        return load_preset("laptop", overrides=options.settings, environ=os.environ).site
    return load_site(options.site_file, overrides=options.settings, environ=os.environ)


def fitted(site: Site, options: UpOptions, say: Say) -> Site:
    """The site as it fits this machine; smaller with `--fit`. Raises `TidehubError` where it does not fit."""
    memory, cores = machine_memory(), machine_cores()
    if options.fit:
        site, notes = fit(site, memory, cores)
        for note in notes:
            say.note(note)
    problems = impossible(site, memory, cores)
    if problems:
        raise TidehubError(
            "this site does not fit this machine: " + "; ".join(problems),
            fix="use a larger machine, smaller sizes in the site file, or try it out with --fit",
        )
    for line in cramped(site, memory):
        say.warn(f"{line}. Write smaller sizes in the site file, or try it out with --fit")
    return site


def bring_software(site: Site, say: Say) -> Brought:
    """Every profile's environment and the proxy; takes minutes where they are not there. Raises `TidehubError`."""
    software = Software(progress=_Progress(say))
    own = {one.slug: one if one.packages or one.lock else None for one in site.notebooks.profiles}
    software.announce([*own.values()])
    environments = {}
    for profile in site.notebooks.profiles:
        made = software.environment(own[profile.slug])
        environments[profile.slug] = ProfileEnvironment(
            python=made.python, bin=made.bin, version=made.version
        )
    return Brought(software, environments, software.proxy())


def with_demo(site: Site, options: UpOptions) -> bool:
    """Whether users log in with the demo accounts."""
    return options.demo_login or site.login.provider == "demo"


def front_door_of(site: Site, options: UpOptions, known: int | None = None) -> tuple[Front, FrontDoor]:
    """Where the platform is reached, and how; by port `known` if one is given. Raises `UsageError` for an address that
    must not be.
    """
    demo = with_demo(site, options)
    front = front_of(
        site,
        port=options.port if known is None else known,
        demo=demo,
        demo_in_public=options.demo_login_on_public_address,
        free_port=free_ports(1)[0],
    )
    if (
        demo
        and site.login.provider == "demo"
        and not on_this_machine(site)
        and not options.demo_login_on_public_address
    ):
        raise UsageError(
            f"the site's address is {site.site.url}, and its login is the embedded one for trying out",
            expected="login.provider: egi-check-in or oidc for a public address",
            fix="give the site a real provider; or remove site.url; or, if everybody who can reach the "
            "address may try demo passwords, say --demo-login-on-public-address",
        )
    tls, beside = None, (options.site_file or Path("tidehub.yaml")).absolute().parent
    if front.tls and site.machine.tls:
        tls = TlsFiles(beside / site.machine.tls.certificate, beside / site.machine.tls.key)
    return front, FrontDoor(front.listen, front.port, tls, site.machine.trusted_proxies, front.origin)


class _Progress(Counted):
    """Software's progress, said in the supervisor's voice."""

    def __init__(self, say: Say) -> None:
        super().__init__()
        self._say = say
        self._step = ""

    def step(self, text: str, *, counted: bool = True) -> None:
        self._step = self.numbered(text, counted=counted)
        self._say.step(self._step)

    def detail(self, text: str) -> None:
        self._say.step(f"{self._step}: {text}")

    def done(self, text: str = "") -> None: ...
