"""What the gateway, its proxy and the dashboards' gate are told: three JSON files, rendered from the site
(pure).

`GatewaySettings` holds no secrets: the gateway runs as the operator and reads them from the secrets file.
`GateSettings` does hold some: the gate runs as another user, so its file is written 0600 into that user's
directory. Sizes are bytes, times seconds, addresses `host:port`, URLs complete.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from tidehub.capacity.queue import Capacity
from tidehub.gateway.dashboards.gate import GateSettings
from tidehub.gateway.dashboards.protocol import derived
from tidehub.local.places import Places
from tidehub.local.secrets import PlatformSecrets
from tidehub.site.model import Site

SERVICE = "dask-gateway"
"""The name of the gateway as a service of the hub."""
START_TIMEOUT = 180.0
"""Seconds a scheduler or worker may take from its start; at load 50 one start took 57 s."""
HEARTBEAT = 10
HEARTBEAT_TIMEOUT = 120.0
"""Seconds without a heartbeat after which a cluster is given up; a busy machine must not end clusters."""

_HERE = Path(__file__).parent
GUARD = _HERE / "preloads" / "dashboard_guard.py"
NOTICES = _HERE / "preloads" / "scheduler_notices.py"
TLS_ERRORS = _HERE / "preloads" / "tls_errors.py"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GatewaySettings(_Frozen):
    """Everything `dask_gateway_config.py` and the backend need."""

    site: Site
    state_dir: Path
    prefix: str
    """Path below which the gateway is served, `<base>services/dask-gateway`, without a final slash."""
    address: str
    proxy_address: str
    scheduler_address: str
    hub_api_url: str
    environments: Mapping[str, Path]
    """Profile slug to the root of its environment."""
    readable: tuple[Path, ...] = ()
    notebook_side: Path | None = None
    """The files of ours that run in users' processes; None: clusters have the profile's packages only."""
    clusters_dir: Path
    logs_dir: Path
    database_url: str
    isolation: str | None = None
    capacity: Capacity
    max_processes: int = 1024
    reap_period: float = 60.0
    """Seconds between two looks for clusters whose owner has no notebook server."""


class ProxySettings(_Frozen):
    """Everything the gateway's proxy needs; its token comes in `DASK_GATEWAY_PROXY_TOKEN`."""

    prefix: str
    address: str
    proxy_address: str
    scheduler_address: str


def gateway_settings(
    site: Site,
    places: Places,
    *,
    addresses: tuple[str, str, str],
    hub_api_url: str,
    environments: Mapping[str, Path],
    capacity: Capacity,
    isolation: str | None = None,
    readable: tuple[Path, ...] = (),
    notebook_side: Path | None = None,
) -> GatewaySettings:
    """The gateway's settings. `addresses`: of the gateway, of its proxy's HTTP side, of its proxy's TCP side."""
    address, proxy_address, scheduler_address = addresses
    return GatewaySettings(
        site=site,
        state_dir=places.state,
        prefix=f"{site.base_path}services/{SERVICE}",
        address=address,
        proxy_address=proxy_address,
        scheduler_address=scheduler_address,
        hub_api_url=hub_api_url,
        environments=dict(environments),
        readable=readable,
        notebook_side=notebook_side,
        clusters_dir=places.services / "clusters",
        logs_dir=places.cluster_logs,
        database_url=f"sqlite:///{places.gateway_database}",
        isolation=isolation,
        capacity=capacity,
        max_processes=site.notebooks.max_processes,
    )


def proxy_settings(settings: GatewaySettings) -> ProxySettings:
    """What the proxy's process may know."""
    return ProxySettings(
        prefix=settings.prefix,
        address=settings.address,
        proxy_address=settings.proxy_address,
        scheduler_address=settings.scheduler_address,
    )


class GateFile(_Frozen):
    """What the gate's process may know. Write it 0600: it holds the service's token."""

    listen: str
    """Its own address."""
    settings: GateSettings
    log_level: str = "info"


def gate_file(settings: GatewaySettings, secrets: PlatformSecrets, *, listen: str) -> GateFile:
    """For the gate that listens on `listen`."""
    known = GateSettings(
        site_name=settings.site.site.name,
        contact=settings.site.site.contact,
        prefix=settings.prefix,
        base_path=settings.site.base_path,
        gateway_url=f"http://{settings.address}",
        hub_api_url=settings.hub_api_url,
        service_name=SERVICE,
        service_token=secrets.gateway_token.reveal(),
        key_secret=derived(secrets.gate_secret.reveal(), "dashboard keys"),
        cookie_secret=derived(secrets.gate_secret.reveal(), "cookies"),
    )
    return GateFile(listen=listen, settings=known)


def gateway_command() -> list[str]:
    """The gateway's command line; its environment must name the settings file in `TIDEHUB_GATEWAY_SETTINGS`."""
    return _server("--config", str(_HERE / "dask_gateway_config.py"))


def proxy_command() -> list[str]:
    """The proxy's: `TIDEHUB_GATEWAY_PROXY_SETTINGS` names its settings, `DASK_GATEWAY_PROXY_TOKEN` is its
    token.
    """
    return _server("proxy", "--config", str(_HERE / "dask_gateway_proxy_config.py"))


def gate_command(settings_file: Path) -> list[str]:
    """The gate's command line."""
    return [sys.executable, "-m", "tidehub.local.gateway.dashboards", "--config", str(settings_file)]


def _server(*words: str) -> list[str]:
    return [sys.executable, "-m", "dask_gateway_server", *words]
