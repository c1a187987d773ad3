"""Dask Gateway's three processes on one machine: the gateway, its proxy, and the gate before the dashboards."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from tidehub.capacity.queue import Capacity
from tidehub.local.front.ports import first_free_for_all
from tidehub.local.front.routes import both
from tidehub.local.gateway import config, connection_limit
from tidehub.local.parts import Setting, base_environment
from tidehub.local.service_files import write_for_part
from tidehub.local.supervisor.platform import Component, Probe, http_check, listened_by
from tidehub.system.connections import refusal
from tidehub.system.files import write_private

CAP_NET_BIND_SERVICE = 10
"""capabilities(7): listen on ports below 1024."""


def dask_parts(
    setting: Setting,
    environments: Mapping[str, Path],
    isolation: str,
    capacity: Capacity,
    readable: tuple[Path, ...],
    notebook_side: Path,
) -> list[Component]:
    """Writes their settings and names them; nothing where the site has no gateway. `environments`: slug to root."""
    if setting.site.dask.engine != "gateway":
        return []
    places, ports, service = setting.places, setting.ports, setting.service
    settings = config.gateway_settings(
        setting.site,
        places,
        addresses=(
            f"127.0.0.1:{ports['gateway']}",
            f"127.0.0.1:{ports['gateway-proxy']}",
            setting.scheduler_listen,
        ),
        hub_api_url=f"{setting.hub_url}hub/api",
        environments=environments,
        capacity=capacity,
        isolation=isolation,
        readable=readable,
        notebook_side=notebook_side,
    )
    write_private(places.gateway_config, settings.model_dump_json(indent=2, by_alias=True) + "\n")
    write_for_part(
        places.gateway_proxy_config, config.proxy_settings(settings).model_dump_json(), service.gid
    )
    gate = config.gate_file(settings, setting.secrets, listen=f"127.0.0.1:{ports['dashboards']}")
    write_for_part(places.dashboards_config, gate.model_dump_json(), service.gid)
    environment = base_environment(setting)
    gateway_health = setting.check_inside("gateway", f"http://127.0.0.1:{ports['gateway']}/api/health")
    proxy_health = f"http://127.0.0.1:{ports['gateway-proxy']}{setting.gateway_prefix}/api/health"
    proxy_own = f"http://127.0.0.1:{ports['gateway-proxy']}/"
    gate_own = setting.check_inside("dashboards", f"{setting.dashboards_url}{setting.gateway_prefix}/health")
    gate_health = setting.check_inside(
        "dashboards", f"{setting.dashboards_url}{setting.gateway_prefix}/api/health"
    )
    listens_there = listened_by(service.uid, [settings.proxy_address, settings.scheduler_address])
    low = any(
        int(address.rpartition(":")[2]) < first_free_for_all()
        for address in (settings.proxy_address, settings.scheduler_address)
    )
    return [
        Component(
            name="gateway",
            argv=config.gateway_command(),
            env=environment | {"TIDEHUB_GATEWAY_SETTINGS": str(places.gateway_config)},
            ready=gateway_health,
            cwd=places.private,
            sockets=setting.sockets_of("gateway"),
            probe=Probe(check=gateway_health),
        ),
        Component(
            name="gateway-proxy",
            argv=config.proxy_command(),
            env=environment
            | {
                "HOME": "/nonexistent",
                "TIDEHUB_GATEWAY_PROXY_SETTINGS": str(places.gateway_proxy_config),
                "DASK_GATEWAY_PROXY_TOKEN": setting.secrets.gateway_proxy_token.reveal(),
            },
            ready=both(listens_there, http_check(proxy_health)),
            after=("gateway",),
            # Beside the prefix it answers by itself, whatever the gateway does.
            probe=Probe(check=both(listens_there, http_check(proxy_own, statuses=range(200, 600)))),
            uid=service.uid,
            gid=service.gid,
            capabilities=(CAP_NET_BIND_SERVICE,) if service.uid is not None and low else (),
        ),
        Component(
            name="dashboards",
            argv=config.gate_command(places.dashboards_config),
            env=environment | {"HOME": "/nonexistent"},
            ready=gate_health,
            after=("gateway",),
            sockets=setting.sockets_of("dashboards"),
            probe=Probe(check=gate_own),
            uid=service.uid,
            gid=service.gid,
        ),
        *([] if service.uid is None or refusal() else [_connection_limit(setting, environment)]),
    ]


def _connection_limit(setting: Setting, environment: Mapping[str, str]) -> Component:
    door = connection_limit.works(setting.places.inside_socket(connection_limit.NAME))
    return Component(
        name=connection_limit.NAME,
        argv=[
            sys.executable,
            "-m",
            connection_limit.__name__,
            f"127.0.0.1:{setting.ports['gateway-proxy']}",
            setting.scheduler_listen,
        ],
        env={**environment, "HOME": "/nonexistent"},
        ready=door,
        sockets=setting.sockets_of(connection_limit.NAME),
        uid=setting.service.uid,
        gid=setting.service.gid,
        capabilities=(connection_limit.CAP_NET_ADMIN,),
    )


def unlimited_connections(setting: Setting) -> list[str]:
    """What this machine cannot enforce of it, a line."""
    if setting.site.dask.engine != "gateway" or setting.service.uid is None or not (why := refusal()):
        return []
    gap = (
        "A user who opens thousands of connections to the ports of Dask Gateway's proxy keeps others from their"
        f" clusters: the kernel ends no connections for us (CONFIG_INET_DIAG_DESTROY, CAP_NET_ADMIN): {why}."
    )
    return [gap]
