"""Configuration of the plain hub: what upstream's own pages tell, nothing tuned. `TIDEHUB_BENCH_PLAIN` is its JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

c: Any = get_config()  # type: ignore[name-defined]  # noqa: F821  # given by traitlets
told: dict[str, Any] = json.loads(Path(os.environ["TIDEHUB_BENCH_PLAIN"]).read_text())

c.JupyterHub.bind_url = told["address"]
c.JupyterHub.hub_port = told["hub_port"]
c.ConfigurableHTTPProxy.command = told["proxy"]
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{told['proxy_api_port']}"
c.JupyterHub.db_url = f"sqlite:///{told['state']}/jupyterhub.sqlite"
c.JupyterHub.cookie_secret_file = f"{told['state']}/cookie_secret"

c.JupyterHub.authenticator_class = "dummy"
c.DummyAuthenticator.password = told["password"]
c.Authenticator.allow_all = True

c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = f"{told['state']}/homes/{{username}}"
c.Spawner.cmd = [f"{told['environment']}/bin/jupyterhub-singleuser"]
c.Spawner.default_url = "/lab"
c.Spawner.environment = {
    "DASK_GATEWAY__ADDRESS": told["gateway_address"],
    "DASK_GATEWAY__PROXY_ADDRESS": told["gateway_address"].replace("http://", "gateway://"),
    "DASK_GATEWAY__AUTH__TYPE": "jupyterhub",
    "DASK_LABEXTENSION__FACTORY__MODULE": "dask_gateway",
    "DASK_LABEXTENSION__FACTORY__CLASS": "GatewayCluster",
}
if os.geteuid() == 0:
    c.Spawner.args = ["--allow-root"]

c.JupyterHub.services = [
    {"name": "dask-gateway", "api_token": told["gateway_token"]},
    {"name": "watcher", "api_token": told["watcher_token"]},
]
c.JupyterHub.load_roles = [
    {"name": "watcher", "services": ["watcher"], "scopes": ["list:users", "read:users", "read:servers"]}
]
