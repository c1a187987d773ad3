"""The gateway's configuration on one machine: a fixed module that reads the JSON file rendered by
`config.py`.

`dask-gateway-server --config` executes this file; `TIDEHUB_GATEWAY_SETTINGS` names the settings.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tidehub.gateway.choices import cluster_options
from tidehub.gateway.dashboards.protocol import derived
from tidehub.local.gateway.backend import TidehubClusterConfig
from tidehub.local.gateway.config import (
    HEARTBEAT,
    HEARTBEAT_TIMEOUT,
    SERVICE,
    START_TIMEOUT,
    GatewaySettings,
)
from tidehub.local.gateway.server import InsideAuthenticator, serve_as_part
from tidehub.local.gateway.serving import TidehubBackend
from tidehub.local.places import Places
from tidehub.local.secrets import load_secrets
from tidehub.secrets import redaction

c: Any = get_config()  # type: ignore[name-defined]  # noqa: F821  # given by traitlets

settings = GatewaySettings.model_validate_json(Path(os.environ["TIDEHUB_GATEWAY_SETTINGS"]).read_bytes())
secrets = load_secrets(Places.of(settings.state_dir).secrets)
redaction.known.add(secrets)
redaction.install()

serve_as_part()
c.DaskGateway.address = settings.address
c.DaskGateway.authenticator_class = InsideAuthenticator
c.DaskGateway.backend_class = TidehubBackend
c.DaskGateway.log_level = "INFO"

c.InsideAuthenticator.jupyterhub_api_url = settings.hub_api_url
c.InsideAuthenticator.jupyterhub_api_token = secrets.gateway_token.reveal()
# Turns the access scopes on: a token without access to this service is refused.
c.InsideAuthenticator.jupyterhub_service_name = SERVICE

c.Proxy.address = settings.proxy_address
c.Proxy.tcp_address = settings.scheduler_address
c.Proxy.prefix = settings.prefix
c.Proxy.api_token = secrets.gateway_proxy_token.reveal()
# A process of its own: a restart of the gateway drops no scheduler connection.
c.Proxy.externally_managed = True

c.TidehubBackend.settings = settings
c.TidehubBackend.key_secret = derived(secrets.gate_secret.reveal(), "dashboard keys")
c.TidehubBackend.reaper_token = secrets.reaper_token.reveal()
c.TidehubBackend.reap_period = settings.reap_period
c.TidehubBackend.db_url = settings.database_url
c.TidehubBackend.db_encrypt_keys = [key.reveal() for key in secrets.ring("gateway_database_key")]
c.TidehubBackend.stop_clusters_on_shutdown = False
c.TidehubBackend.cluster_options = cluster_options(settings.site)
c.TidehubBackend.cluster_config_class = TidehubClusterConfig
c.TidehubBackend.cluster_start_timeout = START_TIMEOUT
c.TidehubBackend.worker_start_timeout = START_TIMEOUT
c.TidehubBackend.cluster_heartbeat_period = HEARTBEAT
c.TidehubBackend.cluster_heartbeat_timeout = HEARTBEAT_TIMEOUT
# Straight to the gateway: clusters keep their heartbeats when its proxy is restarted.
c.TidehubBackend.api_url = f"http://{settings.address}/api"

# --- the site's own words ---------------------------------------------------------------
if settings.site.overrides is not None and settings.site.overrides.gateway_config is not None:
    # The operator's own code, last, as in a dask_gateway_config.py of their own; its names are its own too.
    exec(
        compile(settings.site.overrides.gateway_config, "overrides.gateway_config", "exec"),
        {"c": c, "__name__": "overrides.gateway_config"},
    )
