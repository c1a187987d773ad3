"""The plain upstream stack: JupyterHub with SimpleLocalProcessSpawner and the stock dask-gateway-server."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tidehub.checks.target import Target
from tidehub_bench.hub_client import Hub, User
from tidehub_bench.processes import Programs, descendants
from tidehub_bench.side import Side, clean_environment, free_ports


@dataclass(frozen=True)
class Sizes:
    """What a Dask cluster gets when nothing is chosen, on both sides. Memory in bytes."""

    worker_cores: int
    worker_memory: int
    scheduler_memory: int


class Plain(Side):
    """Upstream as its documentation sets it up, with the notebook environment and versions of ours."""

    name = "plain"

    def __init__(
        self, programs: Programs, state: Path, *, environment: Path, proxy: list[str], sizes: Sizes
    ) -> None:
        super().__init__(programs)
        public, hub, proxy_api, gateway, gateway_proxy = free_ports(5)
        self.state = state
        self.address = f"http://127.0.0.1:{public}/"
        self.hub = Hub(self.address)
        self._config = state / "plain.json"
        self._told = {
            "address": self.address,
            "hub_port": hub,
            "proxy": proxy,
            "proxy_api_port": proxy_api,
            "gateway_port": gateway,
            "gateway_address": f"http://127.0.0.1:{gateway_proxy}",
            "state": str(state),
            "environment": str(environment),
            "password": secrets.token_hex(16),
            "gateway_token": secrets.token_hex(32),
            "watcher_token": secrets.token_hex(32),
            "worker_cores": sizes.worker_cores,
            "worker_memory": sizes.worker_memory,
            "scheduler_memory": sizes.scheduler_memory,
        }
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []

    async def prepare(self, run: str, users: int) -> None:
        password = str(self._told["password"])
        self.users = [User(name, password) for name in self.user_names(run, users)]
        for directory in ("homes", "clusters"):
            (self.state / directory).mkdir(parents=True)
        descriptor = os.open(self._config, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(self._told, file)
        await self.start()
        await self.stop()

    def launch(self) -> None:
        env = clean_environment(
            {
                "TIDEHUB_BENCH_PLAIN": str(self._config),
                "CONFIGPROXY_AUTH_TOKEN": secrets.token_hex(32),
                "DASK_GATEWAY_PROXY_TOKEN": secrets.token_hex(32),
            }
        )
        here = Path(__file__).parent
        # The gateway first, as upstream's pages advise; neither waits for the other here.
        for name, module, config in (
            ("plain-gateway", "dask_gateway_server", "plain_gateway_config.py"),
            ("plain-hub", "jupyterhub", "plain_hub_config.py"),
        ):
            argv: list[str | Path] = [sys.executable, "-m", module, "-f", here / config]
            self._running.append((name, self.programs.start(name, argv, env=env, cwd=self.state)))

    def failed(self) -> str:
        for name, child in self._running:
            if child.poll() is not None:
                return f"{name} ended with code {child.returncode}:\n{self.programs.tail(name)}"
        return ""

    def gateway_health(self) -> str:
        return f"{self._told['gateway_address']}/api/health"

    def target(self) -> Target:
        # One profile: the spawn page starts the server without a question.
        return Target(self.address, profiles=("",), workers=0)

    def watcher_token(self) -> str:
        return str(self._told["watcher_token"])

    async def stop(self) -> None:
        # What the hub and gateway leave behind (servers, proxies, clusters) goes with them.
        below = descendants([child.pid for _, child in self._running])
        for _, child in reversed(self._running):
            self.programs.stop(child, patience=20)
        self._running.clear()
        self.programs.end(below)
