"""A hub as a chart configures it: the chart's own `jupyterhub_config.py` reads a release's values and secrets, with
the packages of the chart's hub image. No cluster: pods are written down, and nothing stands before the hub.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from child import with_us
from identity_process import free_port

from tidehub.charts.archive import Chart
from tidehub.charts.shape import merged

STAND_IN = """
import json
from jupyterhub.proxy import Proxy
from kubespawner import KubeSpawner


class NoProxy(Proxy):
    should_start = False
    routes = {{}}

    async def add_route(self, routespec, target, data):
        self.routes[routespec] = {{"routespec": routespec, "target": target, "data": data}}

    async def delete_route(self, routespec):
        self.routes.pop(routespec, None)

    async def get_all_routes(self):
        return self.routes


class WritesPodsDown(KubeSpawner):
    '''KubeSpawner up to the moment where it would talk to Kubernetes.'''

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.running = False

    def _start_watching_pods(self, replace=False):
        pass

    def _start_watching_events(self, replace=False):
        pass

    async def start(self):
        try:
            from kubernetes_asyncio.client import ApiClient
        except ImportError:
            from kubernetes.client import ApiClient

        await self.load_user_options()
        pod = await self.get_pod_manifest()
        with open("{directory}/pods/" + self.user.name + ".json", "w") as file:
            json.dump(ApiClient().sanitize_for_serialization(pod), file)
        self.running = True
        return "http://127.0.0.1:{port}{base}hub/"

    async def poll(self):
        return None if self.running else 0

    async def stop(self, now=False):
        self.running = False


c.JupyterHub.spawner_class = WritesPodsDown
c.KubeSpawner.k8s_api_host = "http://127.0.0.1:1"
c.KubeSpawner.events_enabled = False
c.JupyterHub.proxy_class = NoProxy
c.JupyterHub.redirect_to_server = False
c.JupyterHub.bind_url = "http://127.0.0.1:{port}{base}"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{port}"
c.JupyterHub.hub_connect_url = "http://127.0.0.1:{port}"
c.JupyterHub.db_url = "sqlite:///{directory}/hub.sqlite"
c.JupyterHub.log_level = "DEBUG"
culler = "jupyterhub-idle-culler"
c.JupyterHub.services = [one for one in c.JupyterHub.services if one["name"] != culler]
c.JupyterHub.services.append({{"name": "tests", "api_token": "{token}", **{admin}}})
"""
ROLES = """
c.JupyterHub.load_roles = [one for one in c.JupyterHub.load_roles if one["name"] != culler]
c.JupyterHub.load_roles.append(
    {{"name": "tests", "scopes": ["admin:users", "admin:servers", "groups"], "services": ["tests"]}}
)
"""

NOWHERE = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "nowhere",
    "contexts": [{"name": "nowhere", "context": {"cluster": "nowhere", "user": "nobody"}}],
    "clusters": [{"name": "nowhere", "cluster": {"server": "http://127.0.0.1:1"}}],
    "users": [{"name": "nobody", "user": {}}],
}


@dataclass
class ChartHub:
    """One hub process. `stand_in` must be the last code of the site (`overrides.hub_config`)."""

    directory: Path
    chart: Chart
    python: str
    base: str = "/"
    with_roles: bool = True
    port: int = field(default_factory=free_port)
    token: str = field(default_factory=lambda: secrets.token_hex(16))
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.base}"

    @property
    def stand_in(self) -> str:
        text = STAND_IN + (ROLES if self.with_roles else "")
        return text.format(
            directory=self.directory,
            port=self.port,
            base=self.base,
            token=self.token,
            admin="{}" if self.with_roles else '{"admin": True}',
        )

    @property
    def log(self) -> str:
        return (self.directory / "hub.log").read_text(errors="replace")

    def pod(self, name: str) -> dict[str, Any] | None:
        """The last pod of a user; None when nothing was started for them."""
        path = self.directory / "pods" / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else None

    def lay_out(self, values: Mapping[str, Any]) -> None:
        """Writes what the chart mounts into the hub's pod; `values` are the release's with its secrets in clear."""
        mounted = self.directory / "mounted"
        kube = self.directory / ".kube"
        for folder in (mounted / "secret", mounted / "config", self.directory / "pods", kube):
            folder.mkdir(parents=True)
        # KubeSpawner wants one, and never gets as far as asking there.
        (kube / "config").write_text(json.dumps(NOWHERE))
        whole = merged(self.chart.values, values)
        whole["Chart"] = {"Name": "jupyterhub", "Version": self.chart.metadata.version}
        whole["Release"] = {"Name": "jupyterhub", "Namespace": "daskhub", "Service": "Helm"}
        self._mount_files(whole["hub"])
        config = whole["hub"]["config"]
        secret = {
            "values.yaml": json.dumps(whole),  # JSON is YAML
            "hub.config.JupyterHub.cookie_secret": config["JupyterHub"]["cookie_secret"],
            "hub.config.CryptKeeper.keys": ";".join(config["CryptKeeper"]["keys"]),
        }
        for name, service in whole["hub"]["services"].items():
            secret[f"hub.services.{name}.apiToken"] = service["apiToken"]
        for name, text in secret.items():
            (mounted / "secret" / name).write_text(text)
        for name in ("hub", "proxy-api", "proxy-public", "singleuser", "user-scheduler"):
            (mounted / "config" / name).write_text(name)
        for name in ("jupyterhub_config.py", "z2jh.py"):
            text = self.chart.files[f"files/hub/{name}"].decode()
            text = text.replace("/usr/local/etc/jupyterhub/", f"{mounted}/")
            # Old charts' images have Python 3.8.
            text = text.replace("from collections import Mapping", "from collections.abc import Mapping")
            (self.directory / name).write_text(text)

    def _mount_files(self, hub: dict[str, Any]) -> None:
        """`hub.extraFiles` below a directory that stands for the pod's root, and `hub.templatePaths` there."""
        for file in hub.get("extraFiles", {}).values():
            path = self._in_pod(file["mountPath"])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(file["stringData"])
        hub["templatePaths"] = [str(self._in_pod(path)) for path in hub.get("templatePaths", [])]

    def _in_pod(self, path: str) -> Path:
        return self.directory / "pod" / path.removeprefix("/")

    def start(self) -> None:
        with (self.directory / "hub.log").open("ab") as log:
            self.process = subprocess.Popen(
                with_us(
                    [self.python, "-m", "jupyterhub", "-f", str(self.directory / "jupyterhub_config.py")]
                ),
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env={
                    "PATH": f"{Path(self.python).parent}:{os.environ['PATH']}",
                    "HOME": str(self.directory),
                    "POD_NAMESPACE": "daskhub",
                    "HELM_RELEASE_NAME": "jupyterhub",
                    "HUB_SERVICE_PORT": "8081",
                    "PROXY_API_SERVICE_PORT": "8001",
                    "PROXY_API_SERVICE_HOST": "127.0.0.1",
                    "CONFIGPROXY_AUTH_TOKEN": "4c" * 32,
                    "PYTHONDONTWRITEBYTECODE": "1",
                },
            )
        deadline = time.monotonic() + 300
        while True:
            assert self.process.poll() is None, self.log[-4000:]
            assert time.monotonic() < deadline, self.log[-4000:]
            try:
                if httpx.get(f"{self.url}hub/api/").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def api(self, method: str, path: str, token: str | None = None, body: Any = None) -> httpx.Response:
        """The hub's API, as the tests' own service or with another token."""
        headers = {"Authorization": f"token {token or self.token}"}
        content = None if body is None else json.dumps(body)
        return httpx.request(
            method, f"{self.url}hub/api/{path}", headers=headers, content=content, timeout=60
        )


def environment(home: Path, wanted: list[str]) -> str | None:
    """An interpreter with these packages, made by uv; None with a reason printed where that cannot be."""
    uv = next(iter(sorted(Path(sys.prefix).glob("bin/uv"))), Path("uv"))
    for command in (
        [uv, "venv", "-q", "--python", sys.executable, home],
        [uv, "pip", "install", "-q", "-p", home / "bin" / "python", *wanted],
    ):
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except FileNotFoundError:
            print("uv is not here")
            return None
        if done.returncode != 0:
            print(done.stderr.strip())
            return None
    return str(home / "bin" / "python")
