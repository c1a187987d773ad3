"""The configuration of the gateway's proxy process (`dask-gateway-server proxy`), which runs without our
secrets.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tidehub.local.gateway.config import ProxySettings

c: Any = get_config()  # type: ignore[name-defined]  # noqa: F821  # given by traitlets

settings = ProxySettings.model_validate_json(Path(os.environ["TIDEHUB_GATEWAY_PROXY_SETTINGS"]).read_bytes())

c.DaskGateway.address = settings.address
c.Proxy.address = settings.proxy_address
c.Proxy.tcp_address = settings.scheduler_address
c.Proxy.prefix = settings.prefix
c.Proxy.externally_managed = True
c.Proxy.log_level = "warn"
