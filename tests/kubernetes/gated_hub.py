"""A real hub whose own service is the gate before dashboards, as the chart's values say, with a real proxy in front.

`HubAndProxy.url` is the hub's API, as `GatewayOnCluster` asks a hub.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import jupyterhub
from child import with_us
from gateway_platform import separate_proxy
from identity_process import free_port, hidden_fields

from tidehub.kubernetes.objects import Object
from tidehub.kubernetes.values import dashboards, gateway, hub
from tidehub.site.model import Site

PYTHON = Path(jupyterhub.__file__).parents[4] / "bin" / "python"
"""Of the locked environment: the one in which the tests run has tidehub on top of it, and a hub's image has not."""
BASE = "/base/"
KEY = "5a" * 32
ADMIN = "ada"
CONFIG = """
c = get_config()
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.Authenticator.admin_users = {{{admin!r}}}
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{api}"
c.ConfigurableHTTPProxy.should_start = False
c.JupyterHub.bind_url = "http://127.0.0.1:{front}{base}"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{hub}"
c.JupyterHub.db_url = "sqlite:///{directory}/hub.sqlite"
c.JupyterHub.cookie_secret_file = "{directory}/cookie-secret"
c.JupyterHub.services = [{service!r}, {{"name": "tests", "api_token": {key!r}}}]
roles = {roles!r}
c.JupyterHub.load_roles = [{{"name": name, **role}} for name, role in roles.items()]
c.JupyterHub.load_roles.append(
    {{"name": "tests", "scopes": ["admin:users", "tokens", "read:services"], "services": ["tests"]}}
)
{entry}
"""


class HubAndProxy:
    """Two processes, and the gate as a child of the hub. `gateway_url` is where the gateway's server answers."""

    def __init__(self, directory: Path, site: Site, service_token: str, gateway_url: str) -> None:
        self.directory, self.log = directory, directory / "hub.log"
        self.front, self.api, self.hub, port = (free_port() for _ in range(4))
        self.site = site.model_copy(update={"site": site.site.model_copy(update={"url": f"https://x{BASE}"})})
        stated: Object = hub.values(self.site)["hub"]
        mounted = dashboards.with_gate(self.site, {"hub": {}})["hub"]["extraFiles"]
        (program,) = mounted.values()
        (directory / "gate.py").write_text(program["stringData"])
        told = dashboards.hub_values(self.site, gateway_url)["hub"]["services"][gateway.SERVICE]
        service = {
            **stated["services"][gateway.SERVICE],
            "name": gateway.SERVICE,
            "api_token": service_token,
            "command": [str(PYTHON), "-I", str(directory / "gate.py")],
            "environment": told["environment"],
        }
        names = {
            "front": self.front,
            "api": self.api,
            "hub": self.hub,
            "base": BASE,
            "key": KEY,
            "admin": ADMIN,
        }
        entry = stated["extraConfig"]["0-tidehub-dashboards"].replace(str(dashboards.PORT), str(port))
        text = CONFIG.format(
            **names, directory=directory, service=service, roles=stated["loadRoles"], entry=entry
        )
        (directory / "config.py").write_text(text)
        env = {
            "PATH": f"{PYTHON.parent}:{os.environ['PATH']}",
            "HOME": str(directory),
            "CONFIGPROXY_AUTH_TOKEN": KEY,
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        hub_command = [str(PYTHON), "-m", "jupyterhub", "-f", str(directory / "config.py")]
        self.processes: list[subprocess.Popen[bytes]] = []
        for argv in (separate_proxy(self.front, self.api), hub_command):
            with self.log.open("ab") as log:
                one = subprocess.Popen(
                    with_us(argv), stdout=log, stderr=log, cwd=directory, env=env, start_new_session=True
                )
            self.processes.append(one)
        self.public = f"http://127.0.0.1:{self.front}{BASE}"
        self.dask = f"{self.public}services/{gateway.SERVICE}/"
        self.url = f"http://127.0.0.1:{self.hub}{BASE}hub/api"
        self.server = self

    # What `GatewayOnCluster` ends a hub by.
    def shutdown(self) -> None:
        for one in self.processes:
            one.terminate()
        for one in self.processes:
            try:
                one.wait(20)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()

    def server_close(self) -> None:
        """Nothing is left to close."""

    def said(self) -> str:
        return "".join(line for line in self.log.open() if "[ConfigProxy]" not in line)[-6000:]

    def wait(self, url: str, status: int = 200, seconds: float = 90) -> None:
        until = time.monotonic() + seconds
        while True:
            try:
                if httpx.get(url, timeout=5).status_code == status:
                    return
            except httpx.TransportError:
                pass
            assert time.monotonic() < until, self.said()
            time.sleep(0.1)

    def token(self, name: str) -> str:
        """A token of a user, as their notebook server has one."""
        headers = {"Authorization": f"token {KEY}"}
        httpx.post(f"{self.url}/users/{name}", headers=headers)
        made = httpx.post(f"{self.url}/users/{name}/tokens", headers=headers, json={}, timeout=30)
        assert made.status_code == 201, made.text
        return str(made.json()["token"])

    def browser(self, name: str) -> httpx.Client:
        """Signed in at the hub."""
        client = httpx.Client(follow_redirects=True, timeout=30)
        page = client.get(f"{self.public}hub/login")
        fields: dict[str, Any] = {**hidden_fields(page.text), "username": name, "password": "x"}
        done = client.post(f"{self.public}hub/login", data=fields)
        assert done.status_code < 400 or "/hub/" in str(done.url), done.text
        return client

    def gate_process(self) -> int:
        """The pid of the gate, a child of the hub."""
        found = subprocess.run(
            ["pgrep", "-f", str(self.directory / "gate.py")], capture_output=True, text=True, check=True
        )
        return int(found.stdout.split()[0])
