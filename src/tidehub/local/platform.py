"""Puts the platform of one site on one machine together: software, state, configurations, parts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tidehub.capacity.fit import capacity as memory_to_give
from tidehub.capacity.fit import fit, impossible
from tidehub.capacity.queue import Capacity, capacity_of, reserves
from tidehub.errors import TidehubError, UsageError
from tidehub.identity.demo_accounts import FILE_NAME
from tidehub.local import notebook_side, parts
from tidehub.local.addresses import (
    FRONT,
    Front,
    free_ports,
    front_of,
    keep_ports,
    on_this_machine,
    remember_ports,
)
from tidehub.local.dask_parts import dask_parts
from tidehub.local.databases import (
    check_databases,
    check_hub_database,
    hub_database_url,
    mend_people,
    open_ledger,
)
from tidehub.local.front.proxy import FrontDoor
from tidehub.local.front.tls import TlsFiles
from tidehub.local.hub.settings import HubSettings, LoginEndpoints, ProfileEnvironment
from tidehub.local.identity_part import DemoLogin, prepare_identity
from tidehub.local.isolation import Isolation, choose_isolation
from tidehub.local.isolation.people import proxy_uid, services_uid
from tidehub.local.isolation.systemd import ensure_users_scope, move_to_users_scope
from tidehub.local.machine import machine_cores, machine_memory
from tidehub.local.people_on_machine import end_betrayed, end_everybody, observe
from tidehub.local.places import Places
from tidehub.local.secrets import load_secrets
from tidehub.local.service_files import remove_older_layout
from tidehub.local.software import Software
from tidehub.local.software.own import check_startable
from tidehub.local.supervisor.listeners import Listeners
from tidehub.local.supervisor.platform import Platform, Prepare, Say, UpOptions
from tidehub.local.unsupported import refuse_unsupported
from tidehub.login.endpoints import find_endpoints
from tidehub.login.entitled import largest_servers
from tidehub.secrets.secret import Secret
from tidehub.secrets.site_secrets import require
from tidehub.site.model import Site
from tidehub.site.reading.load import load_preset, load_site
from tidehub.system.files import write_private
from tidehub.system.notify import writes_to_journal


@dataclass(frozen=True)
class Prepared:
    """What was brought and found before any configuration is rendered."""

    site: Site
    software: Software
    environments: Mapping[str, ProfileEnvironment]
    proxy: list[str]
    isolation: Isolation
    capacity: Capacity


def prepare(places: Places, options: UpOptions) -> Prepare:
    """The work of `tidehub up` before its parts start; see `supervisor.platform.Prepare`."""

    def work(say: Say) -> Platform:
        site = site_of(options)
        refuse_unsupported(site)
        return assemble(site, places, options, say)

    return work


def site_of(options: UpOptions) -> Site:
    """The site that `up` serves: the file's or the built-in one, with the environment's and the options' values."""
    if options.site_file is None:
        return load_preset("laptop", overrides=options.settings, environ=os.environ).site
    return load_site(options.site_file, overrides=options.settings, environ=os.environ)


def assemble(site: Site, places: Places, options: UpOptions, say: Say) -> Platform:
    """The work of `tidehub up` before its parts start: brings software, renders configurations, names the parts.

    May take minutes at the first start. Raises `TidehubError`.
    """
    demo = options.demo_login or site.login.provider == "demo"
    front = _front(site, options, demo)
    door = _door(site, front, options)
    for warning in door.check():
        say.warn(warning)
    listeners = Listeners(places, lambda pid: move_to_users_scope(places.platform_id, pid))
    listeners.recover()
    try:
        return _assemble(site, places, options, say, listeners, front, door)
    except BaseException:
        listeners.leave(nothing_runs=False)
        raise


def _assemble(
    site: Site,
    places: Places,
    options: UpOptions,
    say: Say,
    listeners: Listeners,
    front: Front,
    door: FrontDoor,
) -> Platform:
    demo = options.demo_login or site.login.provider == "demo"
    listeners.open(FRONT, door.address, door.port)
    ports = keep_ports(places.ports, listeners, low=os.geteuid() == 0)
    listeners.keep()
    check_databases(places)
    if site.machine.database_url:
        check_hub_database(site.machine.database_url)
    prepared = _prepare(site, places, options, say)
    listeners.shelter()
    mend_people(places, prepared.isolation, say.warn)
    site = prepared.site
    setting = parts.Setting(
        site=site,
        places=places,
        front=front,
        door=door,
        secrets=load_secrets(places.secrets),
        ports=ports.of,
        listeners=listeners,
        service=_service(prepared.software),
    )
    login = _demo_login(setting, options, demo)
    endpoints, client_secret = _login(setting, login, options)
    side = notebook_side.install(prepared.software.root / "notebook-side")
    readable = (prepared.software.root,)
    _render_hub(setting, prepared, endpoints, side, readable, identity=login is not None)
    ledger = open_ledger(places, prepared.capacity, say.warn)
    if ports.stolen:
        end_betrayed(ports, ledger, prepared.isolation, database=_hub_database(setting), say=say)
    # Only now: a start that fails before this must find the theft again.
    remember_ports(places.ports, ports)
    ledger.resume()
    own_uid = proxy_uid() if os.geteuid() == 0 else None
    roots = {slug: environment.python.parent.parent for slug, environment in prepared.environments.items()}
    components = [
        parts.logs(setting, client_secret),
        parts.proxy(setting, prepared.proxy, uid=own_uid, gid=own_uid, tell=say.warn),
        *dask_parts(setting, roots, prepared.isolation.kind, prepared.capacity, readable),
        *([parts.identity(setting)] if login else []),
        parts.hub(
            setting,
            client_secret,
            identity=login is not None,
        ),
        *([culler] if (culler := parts.culler(setting)) else []),
    ]
    secrets = (*setting.secrets, client_secret)
    prepared.isolation.enter_platform()

    def leave(nothing_runs: bool) -> None:
        listeners.leave(nothing_runs=nothing_runs)
        prepared.isolation.leave_platform()

    return Platform(
        components=[replace(one, groups=prepared.isolation.part_groups(one.name)) for one in components],
        address=front.public_url,
        gaps=prepared.isolation.gaps(),
        secrets=secrets,
        before_stop=end_everybody(ledger, prepared.isolation),
        observe=observe(setting, ledger, prepared.isolation),
        after_stop=leave,
        closing_lines=lambda: closing_lines(setting, login, prepared.isolation.gaps()),
    )


def _front(site: Site, options: UpOptions, demo: bool) -> Front:
    front = front_of(
        site,
        port=options.port,
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
            "address may try trial passwords, say --demo-login-on-public-address",
        )
    return front


def _door(site: Site, front: Front, options: UpOptions) -> FrontDoor:
    tls, beside = None, (options.site_file or Path("tidehub.yaml")).absolute().parent
    if front.tls and site.machine.tls:
        tls = TlsFiles(beside / site.machine.tls.certificate, beside / site.machine.tls.key)
    return FrontDoor(front.listen, front.port, tls, site.machine.trusted_proxies)


def _prepare(site: Site, places: Places, options: UpOptions, say: Say) -> Prepared:
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
    places.ensure()
    remove_older_layout(places.services)
    software = Software(progress=_Progress(say))
    environments = {}
    for profile in site.notebooks.profiles:
        own = profile if profile.packages or profile.lock else None
        made = software.environment(own)
        environments[profile.slug] = ProfileEnvironment(
            python=made.python, bin=made.bin, version=made.version
        )
    proxy = software.proxy()
    ensure_users_scope(places.platform_id)
    isolation = choose_isolation(places)
    given = memory_to_give(memory, site)
    largest = max(server.memory.guarantee for server in largest_servers(site))
    with_dask = site.dask.engine == "gateway"
    reserved = reserves(
        given,
        notebook=largest,
        scheduler=site.dask.scheduler.memory if with_dask else 0,
        worker=site.dask.worker.memory.default if with_dask else 0,
    )
    return Prepared(
        site, software, environments, proxy, isolation, capacity_of(given, cores, reserved=reserved)
    )


def _service(software: Software) -> parts.Service:
    """Who the parts without rights over users' processes run as. Raises `TidehubError` where that user cannot run them:
    no part ever runs as root because its own user could not.
    """
    uid = services_uid() if os.geteuid() == 0 else None
    check_startable(uid, software.root)
    return parts.Service(uid, uid)


def _demo_login(setting: parts.Setting, options: UpOptions, demo: bool) -> DemoLogin | None:
    if not demo:
        return None
    return prepare_identity(setting, allow_public=options.demo_login_on_public_address)


def _login(
    setting: parts.Setting, login: DemoLogin | None, options: UpOptions
) -> tuple[LoginEndpoints, Secret]:
    if login is not None:
        return login.endpoints, setting.secrets.demo_client_secret
    found = find_endpoints(setting.site.login)
    if setting.site.login.client_id is None:
        raise UsageError("login.client_id is missing", fix="add the client id of the provider's registration")
    endpoints = LoginEndpoints(
        service_name=setting.site.login.title,
        issuer=found.issuer,
        issuer_in_answers=found.issuer_in_answers,
        jwks_url=found.jwks_url,
        authorize_url=found.authorize_url,
        token_url=found.token_url,
        userinfo_url=found.userinfo_url,
        end_session_url=found.end_session_url,
        client_id=setting.site.login.client_id,
    )
    return endpoints, require(options.site_file, "client_secret")


def _render_hub(
    setting: parts.Setting,
    prepared: Prepared,
    endpoints: LoginEndpoints,
    side: Path,
    readable: tuple[Path, ...],
    *,
    identity: bool,
) -> None:
    places, front = setting.places, setting.front
    with_dask = setting.site.dask.engine == "gateway"
    settings = HubSettings(
        site=setting.site,
        state_dir=places.state,
        public_url=front.public_url,
        base_path=front.base_path,
        hub_port=setting.ports["hub"],
        proxy_api_socket=str(places.proxy_api_socket),
        # The gate, not the gateway: JupyterLab's Dask extension follows this address to the dashboards.
        gateway_address=f"{setting.dashboards_url}{setting.gateway_prefix}",
        gateway_scheduler_address=setting.scheduler_address,
        dashboards_url=setting.dashboards_url if with_dask else None,
        identity_url=setting.identity_url if identity else None,
        login=endpoints,
        environments=dict(prepared.environments),
        notebook_side=side,
        readable=readable,
        database_url=_hub_database(setting),
        isolation=prepared.isolation.kind,
        capacity=prepared.capacity,
    )
    write_private(places.hub_config, settings.model_dump_json(indent=2, by_alias=True) + "\n")


def _hub_database(setting: parts.Setting) -> str:
    return hub_database_url(setting.site.machine.database_url or f"sqlite:///{setting.places.hub_database}")


def closing_lines(setting: parts.Setting, login: DemoLogin | None, gaps: Sequence[str]) -> list[str]:
    """What the person who ran `up` reads in the end."""
    lines = [f"{setting.site.site.name} is at {setting.front.public_url}"]
    if login and writes_to_journal():
        lines += [
            "",
            f"The accounts for trying out and their passwords: {setting.places.identity / FILE_NAME}",
        ]
    elif login:
        width = max(len(name) for name in login.passwords)
        lines += ["", "Accounts of this machine, for trying out:"]
        lines += [
            f"  {name:<{width}}  {password}   {login.parts.get(name, '')}".rstrip()
            for name, password in login.passwords.items()
        ]
    if gaps:
        lines += ["", "Not enforced on this machine:", *(f"  {gap}" for gap in gaps)]
    state = setting.places.state
    lines += [
        "",
        f"Files, accounts and databases live in {state}",
        f"Stop with: tidehub down --state {state}",
    ]
    return lines


class _Progress:
    """Software's progress, said in the supervisor's voice."""

    def __init__(self, say: Say) -> None:
        self._say = say

    def step(self, text: str) -> None:
        self._say.step(text)

    def detail(self, text: str) -> None:
        self._say.step(text)

    def done(self) -> None: ...
