"""A hub with the login's text and nothing else of ours: no proxy, no isolation, no `tidehub` to import."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import jupyterhub
from child import with_us
from identity_process import free_port

from tidehub.login.endpoints import Endpoints, discovered
from tidehub.login.hub_text import authenticator_text
from tidehub.site.model import Site

_CONFIG = """
import os
from jupyterhub.proxy import Proxy
from jupyterhub.spawner import SimpleLocalProcessSpawner

c = get_config()


class NoProxy(Proxy):
    should_start = False
    routes = {{}}

    async def add_route(self, routespec, target, data):
        self.routes[routespec] = {{"routespec": routespec, "target": target, "data": data}}

    async def delete_route(self, routespec):
        self.routes.pop(routespec, None)

    async def get_all_routes(self):
        return self.routes


class Sleeper(SimpleLocalProcessSpawner):
    '''A server that only is there.'''

    cmd = ["sleep", "1000"]
    running = False

    async def start(self):
        self.running = True
        return "http://127.0.0.1:{port}{base}hub/"

    async def poll(self):
        return None if self.running else 0

    async def stop(self, now=False):
        self.running = False


c.JupyterHub.spawner_class = Sleeper
c.JupyterHub.redirect_to_server = False
c.JupyterHub.proxy_class = NoProxy
c.JupyterHub.bind_url = "http://127.0.0.1:{port}{base}"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{port}{base}"
c.JupyterHub.db_url = "sqlite:///{directory}/hub.sqlite"
c.JupyterHub.cookie_secret_file = "{directory}/cookie-secret"
c.JupyterHub.services = [{{"name": "tests", "api_token": "{token}"}}]
scopes = ["admin:users", "admin:servers", "tokens"]
c.JupyterHub.load_roles = [{{"name": "tests", "scopes": scopes, "services": ["tests"]}}]
c.JupyterHub.log_level = "DEBUG"
c.SiteAuthenticator.client_secret = os.environ["CLIENT_SECRET"]
exec(open("{directory}/login.py").read())
{more}
"""


@dataclass
class BareHub:
    """One hub process. `client` is id and secret at the provider; `login` are further keys of the site's login."""

    directory: Path
    issuer: str
    client: tuple[str, str]
    login: dict[str, Any] = field(default_factory=dict)
    base: str = "/"
    port: int = field(default_factory=free_port)
    python: str = str(Path(jupyterhub.__file__).parents[4] / "bin" / "python")
    """Of the locked environment: the one in which the tests run has tidehub on top of it."""
    more: str = ""
    token: str = field(default_factory=lambda: secrets.token_hex(16))
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.base}"

    @property
    def callback(self) -> str:
        return f"{self.url}hub/oauth_callback"

    @property
    def log(self) -> str:
        return (self.directory / "hub.log").read_text(errors="replace")

    def site(self) -> Site:
        login = {
            "provider": "oidc",
            "issuer": self.issuer,
            "client_id": self.client[0],
            "allow": {"everyone": True},
            **self.login,
        }
        return Site.model_validate(
            {
                "site": {"name": "Bare", "url": self.url, "contact": "help@example.org"},
                "login": login,
                "notebooks": {"profiles": [{"name": "A", "default": True}]},
            }
        )

    def addresses(self) -> Endpoints:
        return discovered(self.issuer, httpx.get(f"{self.issuer}/.well-known/openid-configuration").json())

    def start(self) -> None:
        self.directory.mkdir(exist_ok=True)
        (self.directory / "login.py").write_text(authenticator_text(self.site(), self.addresses()))
        config = _CONFIG.format(
            port=self.port, base=self.base, directory=self.directory, token=self.token, more=self.more
        )
        (self.directory / "config.py").write_text(config)
        with (self.directory / "hub.log").open("ab") as log:
            self.process = subprocess.Popen(
                with_us([self.python, "-m", "jupyterhub", "-f", str(self.directory / "config.py")]),
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env={
                    "PATH": f"{Path(self.python).parent}:{os.environ['PATH']}",
                    "HOME": str(self.directory),
                    "CLIENT_SECRET": self.client[1],
                    "JUPYTERHUB_CRYPT_KEY": "00" * 32,
                    "PYTHONDONTWRITEBYTECODE": "1",
                },
            )
        deadline = time.monotonic() + 90
        while True:
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
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
            method, f"{self.url}hub/api/{path}", headers=headers, content=content, timeout=30
        )

    def names(self) -> set[str]:
        """User names that the hub knows."""
        answer = self.api("GET", "users")
        assert answer.status_code == 200, answer.text
        return {user["name"] for user in answer.json()}
