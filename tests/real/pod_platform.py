"""Notebook servers as in pods on Kubernetes: an image's own `jupyterhub-singleuser`, and what the chart's values mount.

The values are a site's as they are deployed: `singleuser.extraFiles` at their paths in a private mount namespace,
`singleuser.extraEnv`, `hub.loadRoles` and `cull` for a real hub. The gateway is dask-gateway's own server with its own
proxy, which guards no dashboard and names clusters with a namespace, as its backend for Kubernetes does.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
from child import with_us
from gateway_platform import free_ports, notebook_environment, proxy_program, wait_for

from tidehub.kubernetes.values.build import platform
from tidehub.site.reading.load import load_text

NAMESPACE = "daskhub"
PREFIX = "/services/dask-gateway"
BARE = "bare"
"""A user whose pod has none of our files."""
SITE = """
site: {{name: Coast, url: "https://hub.example.org"}}
login: {{provider: egi-check-in, client_id: x, allow: {{everyone: true}}}}
notebooks:
  idle_timeout: {idle} s
  max_age: {age} s
  profiles: [{{name: Main, default: true, image: "quay.io/x/main:1"}}]
dask:
  worker: {{cores: {{min: 1, max: 2, default: 1}}, memory: {{min: 1 GiB, max: 4 GiB, default: 1 GiB}}}}
  scheduler: {{cores: 1, memory: 2 GiB}}
  cluster: {{max_workers: 3, max_cores: 9, max_memory: 24 GiB}}
kubernetes: {{namespace: daskhub, model: split}}
"""
HUB = """
import json, os
s = json.load(open(os.environ["TIDEHUB_TEST_PODS"]))
c.JupyterHub.bind_url = s["public"]
c.JupyterHub.hub_port = s["hub_port"]
c.JupyterHub.db_url = s["database"]
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.spawner_class = "simple"
c.ConfigurableHTTPProxy.command = s["proxy"]
c.ConfigurableHTTPProxy.api_url = s["proxy_api"]
c.JupyterHub.load_roles = [
    *({"name": name, **role} for name, role in s["roles"].items()),
    {"name": "culler", "scopes": ["list:users", "read:users:activity", "read:servers", "delete:servers"],
     "services": ["culler"]},
    {"name": "tester", "scopes": ["admin:users", "admin:servers", "tokens"], "services": ["tester"]},
]
c.JupyterHub.services = [
    {"name": "dask-gateway", "url": s["gateway"], "api_token": s["gateway_token"]},
    {"name": "culler", "command": s["culler"]},
    {"name": "tester", "api_token": s["tester_token"]},
]
c.SimpleLocalProcessSpawner.home_dir_template = s["homes"] + "/{username}"
c.Spawner.environment = s["environment"]
c.Spawner.start_timeout = c.Spawner.http_timeout = 120

async def pod(spawner):
    name = spawner.user.name
    spawner.cmd = s["bare"] if name == s["bare_user"] else s["pod"]
    if name in s["images"]:
        spawner.environment = {**s["environment"], "PATH": s["images"][name] + "/bin:/usr/bin:/bin"}

c.Spawner.pre_spawn_hook = pod
"""
GATEWAY = """
import json, os, types, uuid
from dask_gateway_server.backends import db_base
from dask_gateway_server.backends.local import UnsafeLocalBackend
s = json.load(open(os.environ["TIDEHUB_TEST_PODS"]))
db_base.uuid = types.SimpleNamespace(
    uuid4=lambda: types.SimpleNamespace(hex=s["namespace"] + "." + uuid.uuid4().hex)
)
c.DaskGateway.backend_class = UnsafeLocalBackend
c.DaskGateway.authenticator_class = "dask_gateway_server.auth.JupyterHubAuthenticator"
c.JupyterHubAuthenticator.jupyterhub_api_url = s["hub_api"]
c.JupyterHubAuthenticator.jupyterhub_api_token = s["gateway_token"]
c.DaskGateway.address = s["gateway_address"]
c.Proxy.address = s["gateway"].split("//")[1]
c.Proxy.tcp_address = s["schedulers"]
c.Proxy.prefix = s["prefix"]
c.ClusterConfig.scheduler_cmd = [s["dask"], "scheduler"]
c.ClusterConfig.worker_cmd = [s["dask"], "worker"]
"""
EXECUTE = {
    "msg_type": "execute_request",
    "msg_id": "1",
    "username": "",
    "session": "1",
    "version": "5.3",
    "date": "",
}


class PodPlatform:
    """A context manager: the hub with its culler and proxy, and a gateway.

    `images` are the environments of users whose pods have another one than the others'.
    """

    def __init__(self, *, idle: int, age: int, images: Mapping[str, Path] | None = None) -> None:
        self.notebook = notebook_environment()
        self.root = Path(tempfile.mkdtemp(prefix="tidehub-pods-"))
        self.root.chmod(0o755)
        public, hub, proxy_api, gateway, web, tcp = free_ports(6)
        self.url = f"http://127.0.0.1:{public}"
        self.gateway = f"http://127.0.0.2:{web}"
        """Not 127.0.0.1: to other hosts jupyter-server-proxy does not go by itself."""
        self.hub_api = f"http://127.0.0.1:{hub}/hub/api"
        self.tester = {"Authorization": f"token {'7e57' * 16}"}
        values = (
            platform(load_text(SITE.format(idle=idle, age=age), "tidehub.yaml").site, {}).releases[0].values
        )
        self.servers: dict[str, Any] = values["singleuser"]
        self.environment = {
            **self.servers["extraEnv"],
            "DASK_GATEWAY__ADDRESS": f"{self.gateway}{PREFIX}",
            "DASK_GATEWAY__PROXY_ADDRESS": f"gateway://127.0.0.2:{tcp}",
            "PATH": f"{self.notebook}/bin:/usr/bin:/bin",
        }
        # Of pods, which are not here; and of the gate, which older hubs have not (tests/node has one).
        for name in ("DASK_GATEWAY__CLUSTER__OPTIONS__IMAGE", "TIDEHUB_DASHBOARDS"):
            self.environment.pop(name, None)
        cull = values["cull"]
        self._settings = {
            "public": self.url,
            "hub_port": hub,
            "hub_api": self.hub_api,
            "database": f"sqlite:///{self.root}/hub.sqlite",
            "proxy": proxy_program(),
            "proxy_api": f"http://127.0.0.1:{proxy_api}",
            "roles": values["hub"]["loadRoles"],
            "culler": [
                *(sys.executable, "-m", "jupyterhub_idle_culler", f"--timeout={cull['timeout']}"),
                *(f"--max-age={cull['maxAge']}", f"--cull-every={cull.get('every', 600)}"),
            ],
            "gateway": self.gateway,
            "gateway_token": "9a7e" * 16,
            "tester_token": "7e57" * 16,
            "gateway_address": f"127.0.0.1:{gateway}",
            "schedulers": f"127.0.0.2:{tcp}",
            "prefix": PREFIX,
            "namespace": NAMESPACE,
            "dask": f"{self.notebook}/bin/dask",
            "homes": str(self.root / "homes"),
            "environment": self.environment,
            "pod": self._in_pod("jupyterhub-singleuser"),
            "bare": ["bwrap", *_PRIVATE, "jupyterhub-singleuser"],
            "bare_user": BARE,
            "images": {name: str(root) for name, root in (images or {}).items()},
        }
        self._processes: list[subprocess.Popen[bytes]] = []

    def _in_pod(self, *command: str) -> list[str]:
        """The command with the files of the values at their paths; nothing else of ours."""
        files = self.root / "files"
        files.mkdir()
        mounts: list[str] = []
        for name, file in self.servers["extraFiles"].items():
            (files / name).write_text(file["stringData"], encoding="utf-8")
            mounts += ["--ro-bind", str(files / name), file["mountPath"]]
        return ["bwrap", *_PRIVATE, *mounts, *command]

    def __enter__(self) -> PodPlatform:
        if shutil.which("bwrap") is None:
            pytest.skip("bubblewrap is not installed")
        tried = subprocess.run(["bwrap", *_PRIVATE, "true"], capture_output=True, text=True, check=False)
        if tried.returncode:
            pytest.skip(f"bubblewrap cannot make a namespace here: {tried.stderr.strip()}")
        (self.root / "homes").mkdir()
        (self.root / "settings.json").write_text(json.dumps(self._settings))
        for name, text in (("hub", HUB), ("gateway", GATEWAY)):
            (self.root / f"{name}.py").write_text(text)
        self._run("gateway", "-m", "dask_gateway_server", "--config", str(self.root / "gateway.py"))
        self._run("hub", "-m", "jupyterhub", "-f", str(self.root / "hub.py"))
        try:
            wait_for("the hub", lambda: _answers(f"{self.url}/hub/api/"), 90)
            wait_for("the gateway", lambda: _answers(f"{self.gateway}{PREFIX}/api/health"), 60)
        except AssertionError as error:
            self.__exit__()
            raise AssertionError(f"{error}\n{self.log()}") from None
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):  # the hub ends its servers, the gateway its clusters
            process.terminate()
        for process in self._processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.root, ignore_errors=True)

    def _run(self, name: str, *argv: str) -> None:
        env = {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.root),
            "TIDEHUB_TEST_PODS": str(self.root / "settings.json"),
        }
        with (self.root / f"{name}.log").open("wb") as log:
            self._processes.append(
                subprocess.Popen(
                    with_us([sys.executable, *argv]), env=env, cwd=self.root, stdout=log, stderr=log
                )
            )

    def log(self) -> str:
        """The ends of both logs; the hub's has what the servers wrote."""
        return "\n".join(
            path.read_text(errors="replace")[-20000:] for path in sorted(self.root.glob("*.log"))
        )

    def start(self, name: str) -> None:
        """Starts the server of a user, new or known, and waits until it is ready."""
        self._meet(name)
        asked = httpx.post(f"{self.hub_api}/users/{name}/server", headers=self.tester, timeout=60)
        assert asked.status_code in (201, 202), asked.text
        wait_for(f"the server of {name}\n{self.log()}", lambda: self.record(name).get("ready", False), 120)

    def _meet(self, name: str) -> None:
        (self.root / "homes" / name).mkdir(exist_ok=True)
        httpx.post(f"{self.hub_api}/users/{name}", headers=self.tester, timeout=20)

    def record(self, name: str) -> dict[str, Any]:
        """What the hub knows of a user's server; empty when it does not run."""
        answer = httpx.get(f"{self.hub_api}/users/{name}", headers=self.tester, timeout=20)
        return dict(answer.json().get("servers", {}).get("", {}))

    def token(self, name: str) -> str:
        """A token with which a user, or a browser of theirs, reaches their server and the gateway."""
        self._meet(name)
        answer = httpx.post(f"{self.hub_api}/users/{name}/tokens", headers=self.tester, timeout=20)
        return str(answer.json()["token"])

    def lab(self, name: str) -> httpx.Client:
        """A client of the user's server."""
        headers = {"Authorization": f"token {self.token(name)}"}
        return httpx.Client(base_url=f"{self.url}/user/{name}/", headers=headers, timeout=60)

    async def compute(self, name: str, code: str) -> None:
        """Runs a cell, and closes the page when it has begun."""
        with self.lab(name) as lab:
            kernel = lab.post("api/kernels", json={}).json()["id"]
            headers = dict(lab.headers)
        address = f"{self.url}/user/{name}/api/kernels/{kernel}/channels".replace("http", "ws", 1)
        message = {
            "channel": "shell",
            "header": EXECUTE,
            "parent_header": {},
            "metadata": {},
            "content": {"code": code, "silent": False},
        }
        async with (
            aiohttp.ClientSession(headers={"Authorization": headers["authorization"]}) as session,
            session.ws_connect(address) as socket,
        ):
            await socket.send_str(json.dumps(message))
            async for said in socket:
                found = json.loads(said.data)
                if found.get("msg_type") == "execute_input":
                    return

    def in_notebook(self, name: str, code: str) -> str:
        """What `code` writes in a notebook of a user."""
        env = {
            **self.environment,
            "JUPYTERHUB_API_TOKEN": self.token(name),
            "HOME": str(self.root / "homes" / name),
        }
        done = subprocess.run(
            [f"{self.notebook}/bin/python", "-c", code],
            capture_output=True,
            text=True,
            timeout=120,
            env=env,
            cwd=self.root,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{self.log()}"
        return done.stdout


_PRIVATE = [
    *("--die-with-parent", "--unshare-user", "--uid", "1000", "--gid", "100", "--dev-bind", "/", "/"),
    *("--tmpfs", "/usr/local/etc"),
]
"""As in a pod: a user that is not root, and nothing in `/usr/local/etc` but what is mounted there."""


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False
