"""Puts the platform of one site on one machine together: software, state, configurations, parts."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tidehub import __version__
from tidehub.capacity.fit import capacity as memory_to_give
from tidehub.capacity.queue import Capacity, capacity_of, reserves
from tidehub.errors import TidehubError, UsageError
from tidehub.identity.demo_accounts import FILE_NAME
from tidehub.local import notebook_side, parts
from tidehub.local.addresses import (
    FRONT,
    HELD,
    Front,
    Known,
    Ports,
    forget_asked_port,
    from_elsewhere,
    keep_ports,
    known_front,
    remember_front,
    remember_ports,
)
from tidehub.local.changes import Served
from tidehub.local.dask_parts import dask_parts, unlimited_connections
from tidehub.local.databases import (
    check_databases,
    check_hub_database,
    hub_database_url,
    mend_users,
    open_ledger,
)
from tidehub.local.front.ports import PortTaken
from tidehub.local.front.proxy import FrontDoor
from tidehub.local.gateway import connection_limit
from tidehub.local.hub.settings import HubSettings, LoginEndpoints
from tidehub.local.identity_part import DemoLogin, prepare_identity
from tidehub.local.isolation import Isolation, choose_isolation
from tidehub.local.isolation.systemd import ensure_users_scope, move_to_users_scope
from tidehub.local.isolation.users import proxy_uid, services_uid
from tidehub.local.machine import machine_cores, machine_memory, refuse_unsupported
from tidehub.local.places import Places, command
from tidehub.local.preparation import (
    Brought,
    Keys,
    bring_software,
    fitted,
    front_door_of,
    keys_of,
    site_of,
    with_demo,
)
from tidehub.local.service_files import remove_older_layout
from tidehub.local.software import Software, pruning
from tidehub.local.software.layout import default_root
from tidehub.local.software.own import check_startable, refuse_closed, source_digest
from tidehub.local.supervisor.listeners import Listeners
from tidehub.local.supervisor.platform import Platform, Prepare, Say, UpOptions
from tidehub.local.users_on_machine import end_betrayed, end_everybody, observe
from tidehub.login.entitled import largest_servers
from tidehub.site.model import Site
from tidehub.system.files import write_private
from tidehub.system.notify import writes_to_journal


@dataclass(frozen=True)
class _Standing:
    """What stays as it is while the site changes: sockets, ports, the address, how users' processes are kept apart."""

    places: Places
    listeners: Listeners
    front: Front
    door: FrontDoor
    ports: Ports
    isolation: Isolation


@dataclass(frozen=True)
class _Prepared:
    """What was brought and found before any configuration is rendered."""

    site: Site
    brought: Brought
    isolation: Isolation
    capacity: Capacity


def prepare(places: Places, options: UpOptions) -> Prepare:
    """The work of `tidehub up` before its parts start; see `supervisor.platform.Prepare`."""

    def work(say: Say) -> Platform:
        site = site_of(options)
        refuse_unsupported(site)
        return assemble(site, places, options, say)

    return work


def assemble(site: Site, places: Places, options: UpOptions, say: Say, *, with_room: bool = True) -> Platform:
    """The work of `tidehub up` before its parts start: brings software, renders configurations, names the parts.

    May take minutes at the first start. Raises `TidehubError`, also for a full disk where `with_room`.
    """
    front, door = front_door_of(site, options)
    for warning in door.check():
        say.warn(warning)
    listeners = Listeners(places, lambda pid: move_to_users_scope(places.platform_id, pid))
    listeners.recover()
    try:
        front, door = _open_front(site, options, places, listeners, say)
        ports = keep_ports(places.ports, listeners, low=os.geteuid() == 0)
        listeners.keep()
        check_databases(places)
        if site.machine.database_url:
            check_hub_database(site.machine.database_url)
        site = fitted(site, options, say)
        places.ensure(with_room=with_room)
        for part in (*HELD, connection_limit.NAME):
            listeners.open_inside(part, (proxy_uid(), services_uid()) if os.geteuid() == 0 else None)
        remove_older_layout(places.services)
        keys = keys_of(places, site, options)
        refuse_closed(default_root())
        with pruning.choosing(default_root()):
            brought = bring_software(site, say)
            ensure_users_scope(places.platform_id)
            isolation = choose_isolation(places)
            listeners.shelter()
            mend_users(places, isolation, say.warn)
            standing = _Standing(places, listeners, front, door, ports, isolation)
            return _compose(standing, site, brought, options, say, keys)
    except BaseException:
        listeners.leave(nothing_runs=False)
        raise


def _open_front(
    site: Site, options: UpOptions, places: Places, listeners: Listeners, say: Say
) -> tuple[Front, FrontDoor]:
    """Listen where users know the platform, if that is meant and possible, and otherwise where site and options say.

    A platform that was started with `--port`, or on any port, and did not stop cleanly is not looked for elsewhere.
    """
    front, door = front_door_of(site, options)
    known = known_front(places.front)
    port = None if known is None else known.for_start(asked=options.port, site=site.machine.port)
    why = ""
    if port is not None and port != door.port:
        kept, kept_door = front_door_of(site, options, port)
        try:
            listeners.open(FRONT, kept_door.address, kept_door.port)
        except (PortTaken, UsageError) as error:
            why = error.what
        else:
            if options.port is None and site.machine.port:
                say.note(
                    f"this platform keeps port {port}, on which it was started before, and the site names "
                    f"{site.machine.port}. To have that: {command(places.state, 'up', '--port', str(door.port))}"
                )
            return kept, kept_door
    listeners.open(FRONT, door.address, door.port)
    if why:
        say.warn(f"this platform was reached on port {port} before, and is on port {door.port} now: {why}")
    return front, door


def _known(site: Site, options: UpOptions, front: Front) -> Known:
    """What the next start is to know of the port that users know now."""
    by_site, _ = front_door_of(site, replace(options, port=None))
    elsewhere = site.machine.port and front.port != by_site.port
    return Known(front.port, site.machine.port if elsewhere else None)


def _again(standing: _Standing, wanted: Mapping[str, Any], say: Say) -> Platform:
    """The same platform for a changed site: `wanted` is `changes.Served` in JSON. The parts run meanwhile."""
    site = Site.model_validate(wanted["site"])
    options = UpOptions.from_json(wanted["options"])
    # Ports that were found stolen at the start have been dealt with.
    known = replace(standing, ports=Ports(standing.ports.of))
    keys = keys_of(standing.places, site, options)
    with pruning.choosing(default_root()):
        return _compose(known, site, bring_software(site, say), options, say, keys)


def _compose(
    standing: _Standing, site: Site, brought: Brought, options: UpOptions, say: Say, keys: Keys
) -> Platform:
    places, listeners, isolation, ports = (
        standing.places,
        standing.listeners,
        standing.isolation,
        standing.ports,
    )
    prepared = _Prepared(site, brought, isolation, _capacity(site))
    root = brought.software.root
    side = notebook_side.install(root / "notebook-side")
    pruning.write_down(root, places.state, [*brought.used(), side / "overrides.json"])
    setting = parts.Setting(
        site=site,
        places=places,
        front=standing.front,
        door=standing.door,
        secrets=keys.platform,
        ports=ports.of,
        listeners=listeners,
        service=_service(brought.software),
    )
    login = _demo_login(setting, options, with_demo(site, options))
    if login is not None:
        endpoints, client_secret = login.endpoints, keys.platform.demo_client_secret
    else:
        assert keys.provider is not None  # as `with_demo` says in both
        endpoints, client_secret = keys.provider
    readable = (root,)
    _render_hub(setting, prepared, endpoints, side, readable, identity=login is not None)
    ledger = open_ledger(places, prepared.capacity, say.warn)
    if ports.stolen:
        end_betrayed(ports, ledger, isolation, database=_hub_database(setting), say=say)
    # Only now: a start that fails before this must find the theft again.
    remember_ports(places.ports, ports)
    remember_front(places.front, _known(site, options, standing.front))
    ledger.resume()
    own_uid = proxy_uid() if os.geteuid() == 0 else None
    roots = {slug: environment.python.parent.parent for slug, environment in brought.environments.items()}
    components = [
        parts.logs(setting, client_secret),
        parts.proxy(setting, brought.proxy, uid=own_uid, gid=own_uid, tell=say.warn),
        *dask_parts(setting, roots, isolation.kind, prepared.capacity, readable, side),
        *([parts.identity(setting)] if login else []),
        parts.hub(
            setting,
            client_secret,
            identity=login is not None,
        ),
        *([culler] if (culler := parts.culler(setting)) else []),
    ]
    isolation.enter_platform()
    gaps = [
        *isolation.gaps(),
        *standing.door.gaps(users_have_uids=os.geteuid() == 0),
        *unlimited_connections(setting),
    ]

    def leave(nothing_runs: bool) -> None:
        if nothing_runs:
            with contextlib.suppress(TidehubError):  # a full disk
                forget_asked_port(places.front)
        listeners.leave(nothing_runs=nothing_runs)
        isolation.leave_platform()

    return Platform(
        components=[replace(one, groups=isolation.part_groups(one.name)) for one in components],
        address=standing.front.public_url,
        gaps=gaps,
        secrets=(*setting.secrets, client_secret),
        before_stop=end_everybody(ledger, isolation),
        observe=observe(setting, ledger, isolation),
        after_stop=leave,
        closing_lines=lambda: closing_lines(setting, login, gaps),
        serves=served(site, options, brought).to_json(),
        again=partial(_again, standing),
        hand_over=listeners.hand_over,
        tidy=partial(_tidy, root, places, isolation),
    )


def _tidy(root: Path, places: Places, isolation: Isolation) -> list[str]:
    """Remove the software that nothing uses any more, and say which."""
    running = [Path(one.handle.program) for one in isolation.running() if one.handle.program]
    return [
        f"removed {path}, which nothing uses any more" for path in pruning.prune(root, places.state, running)
    ]


def served(site: Site, options: UpOptions, brought: Brought) -> Served:
    """What a platform of these serves, to be compared with what it should serve; the source is that of this tidehub."""
    return Served(
        site=site.model_dump(mode="json", by_alias=True),
        options=options.to_json(),
        environments={slug: one.version for slug, one in brought.environments.items()},
        program=source_digest(),
        version=__version__,
    )


def _capacity(site: Site) -> Capacity:
    memory, cores = machine_memory(), machine_cores()
    given = memory_to_give(memory, site)
    largest = max(server.memory.guarantee for server in largest_servers(site))
    with_dask = site.dask.engine == "gateway"
    reserved = reserves(
        given,
        notebook=largest,
        scheduler=site.dask.scheduler.memory if with_dask else 0,
        worker=site.dask.worker.memory.default if with_dask else 0,
    )
    return capacity_of(given, cores, reserved=reserved)


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


def _render_hub(
    setting: parts.Setting,
    prepared: _Prepared,
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
        environments=dict(prepared.brought.environments),
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
    """What the user who ran `up` reads in the end."""
    lines = [
        f"{setting.site.site.name} is at {setting.front.public_url}",
        *from_elsewhere(setting.front, os.environ),
    ]
    if login and writes_to_journal():
        lines += [
            "",
            f"The demo accounts and their passwords: {setting.places.identity / FILE_NAME}",
        ]
    elif login:
        width = max(len(name) for name in login.passwords)
        lines += ["", "Demo accounts of this machine:"]
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
        f"Stop with: {command(state, 'down')}",
    ]
    return lines
