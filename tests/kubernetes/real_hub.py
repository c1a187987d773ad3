"""A real hub with a real KubeSpawner of a given version, on the test cluster. Only the proxy is left out.

The simulated nodes run nothing in the pods: whatever server is started, this process answers for it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from cluster_processes import dies_with_parent, free_ports
from local_cluster import LocalCluster

from tidehub.local.software import Software, layout

LOCKS = Path(__file__).parent / "kubespawner"
CHARTS = {
    # As `jupyterhub_config.py` of these charts sets them (its part "dynamically provisioning pvc").
    "3.3.8": ("6.2.0", "claim-{username}{servername}", "claim-{username}{servername}"),
    "4.4.0": ("7.0.0", "", "{pvc_name}"),
}
"""By chart: KubeSpawner, the template of PVCs' names where the chart sets it, and the volume's claim."""
CONFIG = """
import os
from jupyterhub.proxy import Proxy

class NoProxy(Proxy):
    should_start = False
    routes = {{}}
    async def add_route(self, routespec, target, data):
        self.routes[routespec] = {{"routespec": routespec, "target": target, "data": data}}
    async def delete_route(self, routespec):
        self.routes.pop(routespec, None)
    async def get_all_routes(self):
        return self.routes

c.JupyterHub.proxy_class = NoProxy
c.JupyterHub.spawner_class = "kubespawner.KubeSpawner"
c.JupyterHub.authenticator_class = "null"
c.JupyterHub.hub_ip = "127.0.0.1"
c.JupyterHub.hub_port = {port}
c.JupyterHub.bind_url = "http://127.0.0.1:{public}/"
c.JupyterHub.cleanup_servers = False
c.JupyterHub.allow_named_servers = True
c.JupyterHub.services = [{{"name": "test", "api_token": os.environ["TEST_TOKEN"]}}]
scopes = ["admin:users", "admin:servers", "list:users", "delete:servers"]
c.JupyterHub.load_roles = [{{"name": "test", "services": ["test"], "scopes": scopes}}]
c.KubeSpawner.namespace = "{namespace}"
c.KubeSpawner.image = "registry.invalid/notebook:1"
c.KubeSpawner.pod_connect_ip = "127.0.0.1"
c.KubeSpawner.port = {answering}
c.KubeSpawner.storage_pvc_ensure = True
c.KubeSpawner.storage_class = "homes"
c.KubeSpawner.storage_capacity = "1Gi"
c.KubeSpawner.delete_grace_period = 0
if {template!r}:
    c.KubeSpawner.pvc_name_template = {template!r}
c.KubeSpawner.volumes = [{{"name": "home", "persistentVolumeClaim": {{"claimName": {claim!r}}}}}]
c.KubeSpawner.volume_mounts = [{{"mountPath": "/home/jovyan", "name": "home"}}]
"""


def spawner(version: str) -> Path:
    """The directory with that KubeSpawner and what it needs beside the tests' own packages; installed once."""
    lock = LOCKS / f"{version}.txt"
    target = Software().root / "tests" / f"kubespawner-{version}-{layout.digest(lock.read_bytes())}"
    if not (target / "complete").exists():
        shutil.rmtree(target, ignore_errors=True)
        command = [sys.executable, "-m", "uv", "pip", "install", "--python", sys.executable, "--no-deps"]
        command += ["--require-hashes", "--target", str(target), "-r", str(lock)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            why = f"KubeSpawner {version} cannot be installed here: {done.stderr.strip()[-200:]}"
            pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)
        (target / "complete").touch()
    return target


@dataclass
class RealHub:
    """Hubs one after the other on one database: `running` is one of a chart's KubeSpawner."""

    cluster: LocalCluster
    namespace: str
    folder: Path
    token: str = field(default_factory=lambda: secrets.token_hex(16))
    _port: int = 0

    @contextmanager
    def running(self, chart: str, code: str = "") -> Iterator[RealHub]:
        """The hub of a chart; `code` is executed after its configuration, as `hub.extraConfig` is."""
        version, template, claim = CHARTS[chart]
        self._port, public = free_ports(2)
        with _answering() as answering:
            config = self.folder / "jupyterhub_config.py"
            config.write_text(
                CONFIG.format(
                    port=self._port, public=public, namespace=self.namespace, answering=answering,
                    template=template, claim=claim,
                ) + code
            )  # fmt: skip
            log = (self.folder / f"hub-{chart}.log").open("ab")
            process = subprocess.Popen(
                [*dies_with_parent(), sys.executable, "-m", "jupyterhub", "-f", str(config)],
                cwd=self.folder,
                env={
                    **os.environ,
                    "PYTHONPATH": str(spawner(version)),
                    "KUBECONFIG": str(self.cluster.kubeconfig),
                    "TEST_TOKEN": self.token,
                },
                stdout=log,
                stderr=log,
            )
            try:
                self._wait("the hub answers", lambda: self._ask("GET", "").status_code == 200, process)
                yield self
            finally:
                process.terminate()
                process.wait(30)
                log.close()

    def start(self, user: str, server: str = "") -> str:
        """Starts a server and waits; the PVC that its pod mounts as the home."""
        self._ask("POST", f"users/{user}")
        asked = self._ask("POST", self._server(user, server))
        assert asked.status_code in (201, 202), asked.text
        self._wait("the server is ready", lambda: (self._state(user, server) or {}).get("ready"))
        name = self._state(user, server)["state"]["pod_name"]  # type: ignore[index]
        pod = self.cluster.api.get("Pod", name, self.namespace)
        assert pod is not None
        (claim,) = [
            one["persistentVolumeClaim"]["claimName"]
            for one in pod["spec"]["volumes"]
            if "persistentVolumeClaim" in one
        ]
        assert self.cluster.api.get("PersistentVolumeClaim", claim, self.namespace) is not None, claim
        return str(claim)

    def stop(self, user: str, server: str = "") -> None:
        """Stops a server and waits."""
        assert self._ask("DELETE", self._server(user, server)).status_code in (202, 204)
        self._wait("the server is stopped", lambda: self._state(user, server) is None)

    def _server(self, user: str, server: str) -> str:
        return f"users/{user}/servers/{server}" if server else f"users/{user}/server"

    def _state(self, user: str, server: str) -> dict[str, Any] | None:
        found = self._ask("GET", f"users/{user}").json()
        servers: dict[str, Any] = found["servers"]
        return servers.get(server)

    def _ask(self, verb: str, path: str) -> httpx.Response:
        headers = {"Authorization": f"token {self.token}"}
        return httpx.request(
            verb, f"http://127.0.0.1:{self._port}/hub/api/{path}", headers=headers, timeout=30
        )

    def _wait(self, what: str, done: Any, process: subprocess.Popen[bytes] | None = None) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                if done():
                    return
            except httpx.TransportError:
                pass
            ended = process is not None and process.poll() is not None
            if ended or time.monotonic() > deadline:
                logs = "\n".join(one.read_text()[-6000:] for one in self.folder.glob("hub-*.log"))
                pytest.fail(f"{what}: no. The hub says:\n{logs}")
            time.sleep(0.2)


@contextmanager
def _answering() -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("X-JupyterHub-Version", "5.5.4")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()
