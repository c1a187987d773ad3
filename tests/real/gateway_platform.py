"""A small real platform for the gateway's tests: hub (dummy logins), proxy, gate, gateway proxy, gateway.

`TIDEHUB_TEST_NOTEBOOK_ENV` names a notebook environment; without it Software's default one is used (and made).
`TIDEHUB_TEST_PROXY` is the start of configurable-http-proxy's command line; without it Software's is used.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from child import with_us

from tidehub.capacity.queue import Capacity
from tidehub.local.gateway import config
from tidehub.local.places import Places
from tidehub.local.secrets import load_secrets
from tidehub.site.reading.load import load_site

GIB = 1 << 30
SITE = """
site: {name: Testing}
login: {provider: demo, allow: {everyone: true}}
notebooks:
  memory: {guarantee: 512 MiB, limit: 1 GiB}
  profiles: [{name: Standard, default: true}, {name: Other, image: "quay.io/example/other:1"}]
dask:
  worker:
    cores: {min: 1, max: 2, default: 1}
    memory: {min: 384 MiB, max: 2 GiB, default: 384 MiB}
  scheduler: {cores: 1, memory: 512 MiB}
  cluster: {max_workers: 3, max_cores: 4, max_memory: 4 GiB, idle_timeout: 20 min, orphan_grace: 10 min}
  per_user: {max_clusters: 2}
"""


def notebook_environment() -> Path:
    """The root of the environment that schedulers, workers and clients run in."""
    named = os.environ.get("TIDEHUB_TEST_NOTEBOOK_ENV")
    if named:
        return Path(named)
    from tidehub.local.software import Software

    return Path(Software().environment().root)


def proxy_program() -> list[str]:
    """configurable-http-proxy's command line."""
    named = os.environ.get("TIDEHUB_TEST_PROXY")
    if named:
        return shlex.split(named)
    from tidehub.local.software import Software

    return Software().proxy()


def separate_proxy(front: int, api: int) -> list[str]:
    """The same as in a pod of its own: the ports of 127.0.0.1 for browsers and for the hub."""
    ports = ["--port", str(front), "--api-port", str(api)]
    return [*proxy_program(), *ports, "--ip=127.0.0.1", "--api-ip=127.0.0.1"]


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on just now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def wait_for(what: str, ready: Callable[[], bool], seconds: float = 60.0) -> None:
    """Ask until `ready`; `AssertionError` with `what` after `seconds`."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if ready():
            return
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {seconds:g} s")


class Platform:
    """The running parts, each a child process that a test may kill and start again."""

    def __init__(self, *, site: str = SITE, memory: int = 8 * GIB, base: str = "/", **overrides: Any) -> None:
        self.notebook = notebook_environment()
        self.root = Path(tempfile.mkdtemp(prefix="tidehub-gateway-"))
        self.root.chmod(0o711)
        public, hub, gate, http, tcp, gateway, self.proxy_api = free_ports(7)
        self.public = f"http://127.0.0.1:{public}"
        self.base = base
        self.places = Places.of(self.root / "state").ensure()
        self.secrets = load_secrets(self.places.secrets)
        self.hub_port = hub
        self.gate_address = f"127.0.0.1:{gate}"
        address = f"site: {{name: Testing, url: 'http://127.0.0.1:{public}{base}'}}"
        (self.root / "tidehub.yaml").write_text(site.replace("site: {name: Testing}", address))
        loaded = load_site(self.root / "tidehub.yaml")
        settings = config.gateway_settings(
            loaded,
            self.places,
            addresses=(f"127.0.0.1:{gateway}", f"127.0.0.1:{http}", f"127.0.0.1:{tcp}"),
            hub_api_url=f"http://127.0.0.1:{hub}{base}hub/api",
            environments={profile.slug: self.notebook for profile in loaded.notebooks.profiles},
            capacity=Capacity(memory, 2, 4),
        )
        self.settings = settings.model_copy(update=overrides)
        self.prefix = self.settings.prefix
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.guard: subprocess.Popen[bytes] | None = None
        self._write_settings()

    def _write_settings(self) -> None:
        private = self.root / "settings"
        private.mkdir(mode=0o700, exist_ok=True)
        gate = config.gate_file(self.settings, self.secrets, listen=self.gate_address)
        for name, content in (
            ("gateway", self.settings.model_dump_json()),
            ("proxy", config.proxy_settings(self.settings).model_dump_json()),
            ("gate", gate.model_dump_json()),
        ):
            (private / f"{name}.json").write_text(content)
        hub = {
            "bind_url": f"{self.public}{self.base}",
            "hub_port": self.hub_port,
            "proxy_api": f"http://127.0.0.1:{self.proxy_api}",
            "proxy_token": self.secrets.proxy_auth_token.reveal(),
            "gate": f"http://{self.gate_address}",
            "service_token": self.secrets.gateway_token.reveal(),
            "reaper_token": self.secrets.reaper_token.reveal(),
            "tester_token": self.secrets.operator_token.reveal(),
            "database": f"sqlite:///{private}/hub.sqlite",
        }
        (private / "hub.json").write_text(json.dumps(hub))
        (private / "hub_config.py").write_text(_HUB_CONFIG)

    def start(self) -> Platform:
        """Start everything, and wait until it answers through the public address."""
        # Its standard input ends with us, also when the tests are killed.
        self.guard = subprocess.Popen(
            [sys.executable, __file__, str(self.places.state)], stdin=subprocess.PIPE, start_new_session=True
        )
        # The proxy too: one that the hub starts would outlive a killed hub, and tests that are killed.
        for part in ("logs", "gateway-proxy", "gateway", "gate", "proxy", "hub"):
            self.run(part)
        wait_for("the hub", lambda: self._answers(f"{self.public}{self.base}hub/api/"), 90)
        wait_for("the gateway", lambda: self._answers(f"{self.public}{self.prefix}/api/health"), 60)
        return self

    def run(self, part: str) -> None:
        """Start one part (again)."""
        private = self.root / "settings"
        python = sys.executable
        commands = {
            "logs": [python, "-m", "tidehub.local.logs.writer", str(self.places.state)],
            "gateway": config.gateway_command(),
            "gateway-proxy": config.proxy_command(),
            "gate": config.gate_command(private / "gate.json"),
            "proxy": self._proxy_command(),
            "hub": [python, "-m", "jupyterhub", "-f", str(private / "hub_config.py")],
        }
        source = str(Path(__file__).parents[2] / "src")
        env = {
            "PATH": f"{Path(python).parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.root),
            "PYTHONPATH": source,
            "TIDEHUB_GATEWAY_SETTINGS": str(private / "gateway.json"),
            "TIDEHUB_GATEWAY_PROXY_SETTINGS": str(private / "proxy.json"),
            "CONFIGPROXY_AUTH_TOKEN": self.secrets.proxy_auth_token.reveal(),
            "DASK_GATEWAY_PROXY_TOKEN": self.secrets.gateway_proxy_token.reveal(),
            "TIDEHUB_TEST_HUB": str(private / "hub.json"),
        }
        with (self.root / f"{part}.log").open("ab") as log:
            self.processes[part] = subprocess.Popen(
                with_us(commands[part]),
                env=env,
                cwd=self.root,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _proxy_command(self) -> list[str]:
        hub = f"http://127.0.0.1:{self.hub_port}"
        return [
            *proxy_program(),
            *("--ip", "127.0.0.1", "--port", self.public.rpartition(":")[2]),
            *("--api-ip", "127.0.0.1", "--api-port", str(self.proxy_api)),
            *("--default-target", hub, "--error-target", f"{hub}{self.base}hub/error"),
        ]

    def kill(self, part: str) -> None:
        """`kill -9` of one part, and nothing else."""
        self.processes[part].kill()
        self.processes[part].wait()

    def restart(self, part: str) -> None:
        """Kill it, start it, wait until it answers."""
        self.kill(part)
        self.run(part)
        wait_for(part, lambda: self._answers(f"{self.public}{self.prefix}/api/health"), 60)

    def log(self, part: str) -> str:
        """What a part wrote."""
        return (self.root / f"{part}.log").read_text(errors="replace")

    def token(self, user: str, scopes: tuple[str, ...] = ("access:services!service=dask-gateway",)) -> str:
        """A token of `user` (made if new) such as a notebook server has."""
        headers = {"Authorization": f"token {self.secrets.operator_token.reveal()}"}
        api = f"http://127.0.0.1:{self.hub_port}{self.base}hub/api/users/{user}"
        httpx.post(api, headers=headers, timeout=20)
        answer = httpx.post(f"{api}/tokens", headers=headers, json={"scopes": list(scopes)}, timeout=20)
        answer.raise_for_status()
        return str(answer.json()["token"])

    def client_env(self, user: str) -> dict[str, str]:
        """The variables that the spawner gives a notebook of `user`."""
        return {
            "PATH": f"{self.notebook}/bin:/usr/bin:/bin",
            "HOME": str(self.root / "homes" / user),
            "JUPYTERHUB_API_TOKEN": self.token(user),
            "DASK_GATEWAY__ADDRESS": f"http://{self.gate_address}{self.prefix}",
            "DASK_GATEWAY__PROXY_ADDRESS": f"gateway://{self.settings.scheduler_address}",
            "DASK_GATEWAY__PUBLIC_ADDRESS": self.prefix,
            "DASK_GATEWAY__AUTH__TYPE": "jupyterhub",
            "DASK_GATEWAY__CLUSTER__OPTIONS__PROFILE": "standard",
            "DASK_LABEXTENSION__FACTORY__MODULE": "dask_gateway",
            "DASK_LABEXTENSION__FACTORY__CLASS": "GatewayCluster",
        }

    def notebook_process(self, code: str, user: str) -> subprocess.Popen[str]:
        """Start `code` as in a notebook of `user`; the client's packages, not ours."""
        (self.root / "homes" / user).mkdir(parents=True, exist_ok=True)
        return subprocess.Popen(
            [str(self.notebook / "bin" / "python"), "-c", code],
            env=self.client_env(user),
            cwd=self.root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def in_notebook(self, code: str, user: str = "alice", seconds: float = 240.0) -> str:
        """Run `code` to its end and give what it wrote; fails with it."""
        process = self.notebook_process(code, user)
        try:
            said, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
            raise AssertionError(f"not finished within {seconds:g} s:\n{said}\n{self.tails()}") from None
        assert process.returncode == 0, f"{said}\n{self.tails()}"
        return said

    def tails(self) -> str:
        """The ends of all logs, for a failing test."""
        parts = [f"== {part}\n{self.log(part)[-3000:]}" for part in self.processes]
        return "\n".join(parts)

    def stop(self) -> None:
        """End everything, the clusters too, and remove what was made."""
        if self.guard is not None:
            self.guard.kill()
            self.guard.communicate()
        for process in self.processes.values():
            if process.poll() is None:
                process.terminate()
        for process in self.processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
        end_clusters(self.places)
        if not os.environ.get("TIDEHUB_TEST_KEEP"):
            shutil.rmtree(self.root, ignore_errors=True)
        self.places.remove_run()

    @property
    def kills_for_memory(self) -> bool:
        """Whether control groups hold a worker with all its processes to its memory limit."""
        from tidehub.local.isolation import choose_isolation

        return choose_isolation(self.places).capabilities.memory

    @staticmethod
    def _answers(url: str) -> bool:
        try:
            return httpx.get(url, timeout=5).status_code == 200
        except httpx.HTTPError:
            return False


def end_clusters(places: Places) -> None:
    """End every scheduler and worker."""
    import asyncio

    from tidehub.local.isolation import choose_isolation

    isolation = choose_isolation(places)
    asyncio.run(isolation.stop_all("clusters", grace=1))
    isolation.dismantle()


_HUB_CONFIG = """
import json, os
s = json.load(open(os.environ["TIDEHUB_TEST_HUB"]))
c.JupyterHub.bind_url = s["bind_url"]
c.JupyterHub.hub_port = s["hub_port"]
c.JupyterHub.db_url = s["database"]
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.Authenticator.admin_users = {"root-admin"}
c.JupyterHub.spawner_class = "simple"
c.ConfigurableHTTPProxy.should_start = False
c.ConfigurableHTTPProxy.api_url = s["proxy_api"]
c.ConfigurableHTTPProxy.auth_token = s["proxy_token"]
access = "access:services!service=dask-gateway"
c.JupyterHub.load_roles = [
    {"name": "user", "scopes": ["self", access]},
    {"name": "reaper", "scopes": ["list:users", "read:servers"], "services": ["reaper"]},
    {"name": "dask-gateway", "scopes": ["read:users"], "services": ["dask-gateway"]},
    {"name": "tester", "scopes": ["admin:users", "tokens"], "services": ["tester"]},
]
c.JupyterHub.services = [
    {"name": "dask-gateway", "url": s["gate"], "api_token": s["service_token"], "oauth_no_confirm": True},
    {"name": "reaper", "api_token": s["reaper_token"]},
    {"name": "tester", "api_token": s["tester_token"], "admin": True},
]
"""

if __name__ == "__main__":
    sys.stdin.read()
    killed = Places.of(Path(sys.argv[1]))
    if killed.state.exists():
        end_clusters(killed)
        shutil.rmtree(killed.state.parent, ignore_errors=True)
