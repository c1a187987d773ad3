"""A proxy in a pod of its own is restarted: a real hub with the chart's configuration of it, and a real proxy."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import jupyterhub
import pytest
from child import with_us
from gateway_platform import separate_proxy
from identity_process import free_port

from tidehub.kubernetes.values.hub_code import proxy_text

pytestmark = pytest.mark.real

PYTHON = Path(jupyterhub.__file__).parents[4] / "bin" / "python"
"""Of the locked environment: the one in which the tests run has tidehub on top of it, and a hub's image has not."""
KEY = "5a" * 32
CONFIG = """
from jupyterhub.spawner import SimpleLocalProcessSpawner

c = get_config()


class Served(SimpleLocalProcessSpawner):
    '''A server that only is there, and answers what the hub answers.'''

    cmd = ["true"]
    running = False

    async def start(self):
        self.running = True
        return "http://127.0.0.1:{hub}"

    async def poll(self):
        return None if self.running else 0

    async def stop(self, now=False):
        self.running = False


c.JupyterHub.spawner_class = Served
c.JupyterHub.redirect_to_server = False
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{api}"
c.ConfigurableHTTPProxy.should_start = False
c.JupyterHub.last_activity_interval = 60
c.JupyterHub.bind_url = "http://127.0.0.1:{front}/base/"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{hub}"
c.JupyterHub.db_url = "sqlite:///{directory}/hub.sqlite"
c.JupyterHub.cookie_secret_file = "{directory}/cookie-secret"
c.JupyterHub.services = [
    {{"name": "tests", "api_token": "{key}"}},
    {{"name": "there", "api_token": "{other}", "url": "http://127.0.0.1:{hub}"}},
]
scopes = ["admin:users", "admin:servers"]
c.JupyterHub.load_roles = [{{"name": "tests", "scopes": scopes, "services": ["tests"]}}]
exec(open("{directory}/proxy.py").read())
"""


class HubAndProxy:
    """Two processes, as in two pods."""

    def __init__(self, directory: Path) -> None:
        self.front, self.api, self.hub = free_port(), free_port(), free_port()
        self.log = directory / "hub.log"
        (directory / "proxy.py").write_text(proxy_text())
        names = {
            "front": self.front,
            "api": self.api,
            "hub": self.hub,
            "key": KEY,
            "other": "6b" * 32,
            "directory": directory,
        }
        (directory / "config.py").write_text(CONFIG.format(**names))
        self._env = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "CONFIGPROXY_AUTH_TOKEN": KEY,
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._directory = directory
        self.processes: list[subprocess.Popen[bytes]] = []
        self.proxy = self.start_proxy()
        self._start([str(PYTHON), "-m", "jupyterhub", "-f", str(directory / "config.py")])

    def _start(self, argv: list[str]) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            one = subprocess.Popen(with_us(argv), stdout=log, stderr=log, cwd=self._directory, env=self._env)
        self.processes.append(one)
        return one

    def start_proxy(self) -> subprocess.Popen[bytes]:
        return self._start(separate_proxy(self.front, self.api))

    def answers(self, path: str) -> bool:
        """Whether the hub's API answers at this path of the proxy, whatever it says."""
        try:
            found = httpx.get(f"http://127.0.0.1:{self.front}/base/{path}", timeout=5)
        except httpx.TransportError:
            return False
        return "x-jupyterhub-version" in found.headers

    def said(self) -> str:
        """The hub's part of the log: the proxy repeats each 404."""
        return "".join(line for line in self.log.open() if "[ConfigProxy]" not in line)

    def seconds_until(self, *paths: str, most: float) -> float:
        began = time.monotonic()
        while not all(self.answers(path) for path in paths):
            assert time.monotonic() < began + most, self.said()
            time.sleep(0.05)
        return time.monotonic() - began


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubAndProxy]:
    made = HubAndProxy(tmp_path_factory.mktemp("routes"))
    try:
        made.seconds_until("hub/api/", "services/there/", most=90)
        yield made
    finally:
        for one in made.processes:
            one.kill()
            one.wait()


def test_a_restarted_proxy_has_all_routes_within_seconds(platform: HubAndProxy) -> None:
    headers = {"Authorization": f"token {KEY}"}
    api = f"http://127.0.0.1:{platform.hub}/base/hub/api"
    assert httpx.post(f"{api}/users/ann", headers=headers).status_code == 201
    assert httpx.post(f"{api}/users/ann/server", headers=headers, timeout=60).status_code in (201, 202)
    platform.seconds_until("user/ann/", most=30)
    for how in (signal.SIGTERM, signal.SIGKILL):
        platform.proxy.send_signal(how)
        platform.proxy.wait(20)
        time.sleep(3)  # a pod takes a while, in which the hub asks in vain
        platform.proxy = platform.start_proxy()
        # From the start of its process: Kubernetes lets nobody in before it answers.
        took = platform.seconds_until("hub/api/", "services/there/", "user/ann/", most=30)
        assert took < 5, platform.said()
    assert platform.log.read_text().count("giving it its routes again") == 2


def test_routes_that_are_there_are_left_alone(platform: HubAndProxy) -> None:
    platform.seconds_until("hub/api/", most=30)
    before = platform.log.read_text().count("Adding route")
    time.sleep(5)
    assert platform.log.read_text().count("Adding route") == before
