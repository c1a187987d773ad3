"""The platform's own processes on one machine, one function a part. Pure but for the readiness questions they carry."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidehub import inside
from tidehub.identity.addresses import front_proof
from tidehub.local.addresses import FRONT, HELD, LOOPBACK, Front
from tidehub.local.databases import database_environment
from tidehub.local.front.pages import away_page
from tidehub.local.front.proxy import FrontDoor, cookie_mark, front_door
from tidehub.local.front.routes import both, restore_routes, routes_check
from tidehub.local.logs.pipes import goes_round
from tidehub.local.places import Places
from tidehub.local.secrets import PlatformSecrets
from tidehub.local.service_files import write_for_part
from tidehub.local.supervisor.listeners import Listeners
from tidehub.local.supervisor.platform import Check, Component, Probe, http_check
from tidehub.secrets.secret import Secret
from tidehub.site.model import Site
from tidehub.system.files import PASSABLE_DIRECTORY, make_directory

_INHERITED = (
    "LANG",
    "LC_ALL",
    "TZ",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTPS_PROXY",
    "https_proxy",
    "NO_PROXY",
    "no_proxy",
    "XDG_RUNTIME_DIR",
    "TIDEHUB_SOFTWARE",
)
"""What a part may know of the operator's environment: language, time zone, and the way to the internet."""


@dataclass(frozen=True)
class Service:
    """The identity of parts that need no rights over users' processes. None means the operator's own."""

    uid: int | None
    gid: int | None


@dataclass(frozen=True)
class Setting:
    """What all parts share."""

    site: Site
    places: Places
    front: Front
    door: FrontDoor
    secrets: PlatformSecrets
    ports: Mapping[str, int]
    listeners: Listeners
    service: Service

    @property
    def hub_url(self) -> str:
        """The hub's own address on loopback, with the base path."""
        return f"http://127.0.0.1:{self.ports['hub']}{self.front.base_path}"

    @property
    def gateway_prefix(self) -> str:
        """The path of Dask Gateway at the front door and behind it, without a closing slash."""
        return f"{self.front.base_path}services/dask-gateway"

    def sockets_of(self, part: str) -> dict[str, socket.socket]:
        """What `Component.sockets` says of a part that listens on one loopback port, and inside."""
        return self.listeners.of_part(part)

    @property
    def inside(self) -> dict[str, Path]:
        """The table of `tidehub.inside`."""
        return {f"{LOOPBACK}:{self.ports[part]}": self.places.inside_socket(part) for part in HELD}

    def check_inside(self, part: str, url: str) -> Check:
        """A check that `part` answers there, asked past its port."""
        return http_check(url, unix_socket=self.places.inside_socket(part))

    @property
    def scheduler_listen(self) -> str:
        """Where Dask schedulers are reached, `host:port`: on loopback, or where the site shows them to others."""
        port = self.site.machine.scheduler_port
        if port is None:
            return f"127.0.0.1:{self.ports['gateway-scheduler']}"
        host = self.front.listen
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def scheduler_address(self) -> str:
        """The same for programs on this machine."""
        host, _, port = self.scheduler_listen.rpartition(":")
        return f"gateway://{'127.0.0.1' if host in ('0.0.0.0', '[::]') else host}:{port}"

    @property
    def dashboards_url(self) -> str:
        """The gate before the dashboards, on loopback."""
        return f"http://127.0.0.1:{self.ports['dashboards']}"

    @property
    def identity_url(self) -> str:
        """The embedded identity provider on loopback."""
        return f"http://127.0.0.1:{self.ports['identity']}"


def base_environment(setting: Setting) -> dict[str, str]:
    """The environment of a part of ours: nothing of the operator's but what is named here."""
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return {
        "LANG": "C.UTF-8",
        **kept,
        **inside.passing(setting.inside),
        "PATH": f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(setting.places.private),
        "PYTHONUNBUFFERED": "1",
        # Whatever the operator's locale: what parts read and write is UTF-8.
        "PYTHONUTF8": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def hub(setting: Setting, client_secret: Secret, *, identity: bool) -> Component:
    """JupyterHub. Ready when its API answers through the front door, routes included."""
    config = Path(__file__).parent / "hub" / "jupyterhub_config.py"
    services = [
        *(["identity"] if identity else []),
        *(["dask-gateway"] if setting.site.dask.engine == "gateway" else []),
    ]
    routes = [setting.front.base_path, *(f"{setting.front.base_path}services/{name}/" for name in services)]
    return Component(
        name="hub",
        argv=[sys.executable, "-m", "tidehub.local.hub.start", "-f", str(config)],
        env=base_environment(setting)
        | (database_environment() if setting.site.machine.database_url else {})
        | {
            "TIDEHUB_HUB_SETTINGS": str(setting.places.hub_config),
            "TIDEHUB_OIDC_CLIENT_SECRET": client_secret.reveal(),
        },
        ready=both(
            http_check(f"{setting.door.local_url}{setting.front.base_path}hub/api"),
            routes_check(setting.places.proxy_api_socket, setting.secrets.proxy_auth_token, routes),
        ),
        # Not after the gateway: jupyterhub 5.5 looks for a service at its start once, for a second, and goes on.
        after=("proxy",),
        cwd=setting.places.private,
        sockets=setting.sockets_of("hub"),
        alongside=setting.listeners.stay_kept,
        # As quick as hub/api, and the one address whose requests the hub does not write into its log.
        probe=Probe(check=setting.check_inside("hub", f"{setting.hub_url}hub/health")),
        start_timeout=120,
        stop_timeout=20,
    )


def proxy(
    setting: Setting,
    program: Sequence[str],
    *,
    uid: int | None,
    gid: int | None,
    tell: Callable[[str], None],
) -> Component:
    """configurable-http-proxy at the front door. `tell` gets what the operator should know of a changed certificate."""
    site = setting.site.site
    make_directory(setting.places.service_config, PASSABLE_DIRECTORY)
    write_for_part(setting.places.away_page, away_page(site.name, site.contact), gid)
    return front_door(
        setting.door,
        program=program,
        places=setting.places,
        listener=setting.listeners[FRONT],
        token=setting.secrets.proxy_auth_token,
        hub_target=f"http://127.0.0.1:{setting.ports['hub']}",
        hub_path=f"{setting.front.base_path}hub/",
        restore=restore_routes(
            f"{setting.hub_url}hub",
            setting.secrets.operator_token,
            unix_socket=setting.places.inside_socket("hub"),
        ),
        inside=setting.inside,
        sign_in=(
            f"{setting.front.base_path}services/identity/login",
            Secret(front_proof(setting.secrets.demo_client_secret.reveal())),
        ),
        cookie_mark=cookie_mark(setting.secrets.hub_cookie_secret),
        uid=uid,
        gid=gid,
        tell=tell,
    )


def identity(setting: Setting) -> Component:
    """The embedded OpenID Provider."""
    prefix = f"{setting.front.base_path}services/identity"
    return Component(
        name="identity",
        argv=[sys.executable, "-m", "tidehub.identity", "--config", str(setting.places.identity_config)],
        env=base_environment(setting) | {"HOME": "/nonexistent"},
        ready=setting.check_inside("identity", f"{setting.identity_url}{prefix}/health"),
        uid=setting.service.uid,
        gid=setting.service.gid,
        sockets=setting.sockets_of("identity"),
    )


def logs(setting: Setting, client_secret: Secret) -> Component:
    """What reads the pipes of users' programs and writes their logs. Ready when it goes round."""
    return Component(
        name="logs",
        argv=[sys.executable, "-m", "tidehub.local.logs.writer", str(setting.places.state)],
        env=base_environment(setting) | {"TIDEHUB_OIDC_CLIENT_SECRET": client_secret.reveal()},
        ready=goes_round(setting.places.log_pipes),
        cwd=setting.places.private,
    )


def culler(setting: Setting) -> Component | None:
    """jupyterhub-idle-culler, unless servers may idle and run for ever."""
    timeout, age = int(setting.site.notebooks.idle_timeout), int(setting.site.notebooks.max_age)
    if not timeout and not age:
        return None
    every = max(5, min(600, min(timeout or age, age or timeout) // 4))
    return Component(
        name="culler",
        argv=[
            sys.executable,
            "-m",
            "tidehub.local.hub.culler",
            f"--url={setting.hub_url}hub/api",
            # Who is stopped for their age alone is idle for longer than they live.
            f"--timeout={timeout or 2 * age}",
            f"--max-age={age}",
            f"--cull-every={every}",
            "--cull-admin-users=true",
        ],
        env=base_environment(setting)
        | {"JUPYTERHUB_API_TOKEN": setting.secrets.culler_token.reveal(), "HOME": "/nonexistent"},
        ready=setting.check_inside("hub", f"{setting.hub_url}hub/api"),
        after=("hub",),
        uid=setting.service.uid,
        gid=setting.service.gid,
        probe=None,
    )
