"""Command line, environment and places of a notebook server (pure)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidehub.local.hub.settings import HubSettings, ProfileEnvironment
from tidehub.local.isolation import User
from tidehub.local.isolation.homes import RUNTIME
from tidehub.site.model import Profile

PLACEHOLDER_PORT = 80
"""The hub's database insists on a port and writes it behind the host, so the proxy dials `<socket>:80`: the socket
simply bears that name."""


USUAL_ACTIVITY_INTERVAL = 300
"""Seconds between a server's reports of activity where no idle time asks for more (jupyterhub's default)."""
LONGEST_SERVER_NAME = 12
"""Characters of a server's directory name; `places.LONGEST_RUN_DIRECTORY` counts on it."""


def server_directory_name(server: str) -> str:
    """The directory name of the hub's server name `server`: short, lower case, its own.

    A name that cannot stay as it is keeps its beginning and gets a part of its SHA-256, so that two servers of one
    user never meet.
    """
    if not server:
        return "default"
    if (
        re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", server)
        and len(server) <= LONGEST_SERVER_NAME
        and server != "default"
    ):
        return server
    digest = hashlib.sha256(server.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    stem = re.sub(r"[^a-z0-9]+", "-", server.lower()).strip("-")[: LONGEST_SERVER_NAME - 7].strip("-")
    return f"{stem or 'x'}.{digest}"


@dataclass(frozen=True)
class ServerPlace:
    """Where one server's sockets and log are. `unit` names its process group."""

    user: User
    directory: Path
    log: Path
    unit: str

    @classmethod
    def of(cls, *, user: User, run_dir: Path, logs: Path, server: str) -> ServerPlace:
        """`run_dir` is the user's; `server` is the hub's server name, empty for the default one."""
        name, slug = server_directory_name(server), user.home.name
        log = logs / slug / f"{name}.log"
        return cls(user=user, directory=run_dir / name, log=log, unit=f"server-{slug}-{name}")

    @property
    def url_path(self) -> Path:
        """The socket as the hub is told, without the port it will add."""
        return self.directory / "nb.sock"

    @property
    def socket(self) -> Path:
        """The socket the server listens on and the proxy dials."""
        return self.directory / f"nb.sock:{PLACEHOLDER_PORT}"

    @property
    def runtime(self) -> Path:
        """Connection files and kernels' ipc sockets; for the owner alone."""
        return self.directory / RUNTIME


def server_argv(
    environment: ProfileEnvironment,
    settings: HubSettings,
    place: ServerPlace,
    hub_args: Sequence[str],
    *,
    with_dask: bool,
) -> list[str]:
    """The command line of a notebook server. It holds no secret: others can read it in the process list."""
    return [
        str(environment.python),
        str(settings.notebook_side / "tuned_singleuser.py"),
        *hub_args,
        f"--ServerApp.sock={place.socket}",
        "--ServerApp.sock_mode=0660",
        # jupyter_server refuses a socket together with a port of one's own; 8888 counts as none.
        "--ServerApp.port=8888",
        # Kernels on TCP would show their output to every local user.
        "--KernelManager.transport=ipc",
        "--ServerApp.kernel_websocket_connection_class=kernel_words.WordsOnMemoryKill",
        "--ServerApp.jpserver_extensions=busy_kernels=True",
        *(["--ServerApp.jpserver_extensions=dask_dashboards=True"] if with_dask else []),
        "--LabApp.extension_manager=readonly",
        # What is deleted gives its space back: a trash in the home would count against the limit.
        "--FileContentsManager.delete_to_trash=False",
        # Its overrides.json keeps JupyterLab from asking users whether it may fetch news and updates.
        f"--LabApp.app_settings_dir={settings.notebook_side}",
        "--LanguageServerManager.autodetect=False",
        "--ServerApp.terminado_settings=shell_command=['/bin/bash']",
    ]


def activity_interval(idle_timeout: float, usual: int) -> int:
    """Seconds between reports of activity: far below `idle_timeout` (0: never), or users at work would be culled."""
    return max(1, min(usual, int(idle_timeout / 4))) if idle_timeout else usual


def server_environment(
    hub_env: Mapping[str, str],
    environment: ProfileEnvironment,
    settings: HubSettings,
    user: User,
    place: ServerPlace,
    profile: Profile,
    *,
    with_dask: bool,
    without_packages: bool = False,
) -> dict[str, str]:
    """The environment of a notebook server: the hub's own variables, the user's, and those that make Dask work."""
    base = settings.base_path
    env = {
        "LANG": "C.UTF-8",
        # The operator's locale, which `hub_env` may pass on, need not be UTF-8; Python's files and pipes are.
        "PYTHONUTF8": "1",
        **hub_env,
        "PATH": f"{environment.bin}:{user.home}/.local/bin:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(user.home),
        "USER": user.name,
        "LOGNAME": user.name,
        "SHELL": "/bin/bash",
        "PYTHONPATH": "",
        # The extension reads address and prefix here; the port is only a stand-in beside the socket.
        "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:8888{hub_env['JUPYTERHUB_SERVICE_PREFIX']}",
        "JUPYTERHUB_SINGLEUSER_EXTENSION": "1",
        # A short idle timeout would not wait for the usual one.
        "JUPYTERHUB_ACTIVITY_INTERVAL": str(
            activity_interval(settings.site.notebooks.idle_timeout, USUAL_ACTIVITY_INTERVAL)
        ),
        "JUPYTER_RUNTIME_DIR": str(place.runtime),
    }
    if without_packages:
        # As in `notebook_side/own_packages.py`, which can import nothing of ours.
        env["TIDEHUB_WITHOUT_PACKAGES"] = "1"
        # Their own `~/.jupyter` can keep a server from starting, and without a server they cannot mend it.
        env["JUPYTERHUB_DISABLE_USER_CONFIG"] = "1"
    if with_dask:
        env |= {
            "DASK_GATEWAY__ADDRESS": settings.gateway_address,
            "DASK_GATEWAY__PROXY_ADDRESS": settings.gateway_scheduler_address,
            "DASK_GATEWAY__PUBLIC_ADDRESS": f"{base}services/dask-gateway",
            "DASK_GATEWAY__AUTH__TYPE": "jupyterhub",
            "DASK_GATEWAY__CLUSTER__OPTIONS__PROFILE": profile.slug,
            "DASK_LABEXTENSION__FACTORY__MODULE": "dask_gateway",
            "DASK_LABEXTENSION__FACTORY__CLASS": "GatewayCluster",
            "DASK_DISTRIBUTED__CLIENT__PRELOAD": repr([str(settings.notebook_side / "tls_errors.py")]),
        }
        # Or the first cell that computes shows, in red, that each client loads this file.
        quiet = {"distributed.preloading": "warning", "distributed.utils": "warning"}
        env.setdefault("DASK_LOGGING", repr(quiet))
    return {key: value for key, value in env.items() if key != "PYTHONPATH"}
