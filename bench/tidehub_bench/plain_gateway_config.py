"""Configuration of the plain gateway: the stock local backend, with the names of the programs as distributed has them
since it dropped `dask-scheduler` and `dask-worker`. `TIDEHUB_BENCH_PLAIN` is its JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

c: Any = get_config()  # type: ignore[name-defined]  # noqa: F821  # given by traitlets
told: dict[str, Any] = json.loads(Path(os.environ["TIDEHUB_BENCH_PLAIN"]).read_text())

c.DaskGateway.address = f"127.0.0.1:{told['gateway_port']}"
c.DaskGateway.backend_class = "dask_gateway_server.backends.local.UnsafeLocalBackend"
c.DaskGateway.authenticator_class = "dask_gateway_server.auth.JupyterHubAuthenticator"
c.JupyterHubAuthenticator.jupyterhub_api_token = told["gateway_token"]
c.JupyterHubAuthenticator.jupyterhub_api_url = f"http://127.0.0.1:{told['hub_port']}/hub/api"
c.Proxy.address = told["gateway_address"].removeprefix("http://")
c.UnsafeLocalBackend.clusters_directory = f"{told['state']}/clusters"
c.ClusterConfig.scheduler_cmd = [f"{told['environment']}/bin/dask", "scheduler"]
c.ClusterConfig.worker_cmd = [f"{told['environment']}/bin/dask", "worker"]
c.ClusterConfig.worker_cores = told["worker_cores"]
c.ClusterConfig.worker_memory = told["worker_memory"]
c.ClusterConfig.scheduler_memory = told["scheduler_memory"]
