"""Command line, environment and places of a notebook server (pure, but for `ServerPlace.prepare`)."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidehub.local.hub.settings import HubSettings, ProfileEnvironment
from tidehub.local.isolation import Person
from tidehub.site.model import Profile

PLACEHOLDER_PORT = 80
"""The hub's database insists on a port and writes it behind the host, so the proxy dials `<socket>:80`: the socket
simply bears that name."""


@dataclass(frozen=True)
class ServerPlace:
    """Where one server's sockets and log are. `unit` names its process group."""

    directory: Path
    log: Path
    unit: str

    @classmethod
    def of(cls, *, run_dir: Path, logs: Path, user: str, server: str) -> ServerPlace:
        """`user` is a safe directory name; `server` is the hub's server name, empty for the default one."""
        name = re.sub(r"[^a-z0-9]+", "-", server.lower()).strip("-")[:16] or "default"
        return cls(directory=run_dir / name, log=logs / user / f"{name}.log", unit=f"server-{user}-{name}")

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
        return self.directory / "rt"

    def prepare(self, person: Person) -> None:
        """Makes the directories anew: a socket of a dead server would answer nobody."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(mode=0o750)
        self.runtime.mkdir(mode=0o700)
        if os.geteuid() == 0:
            # The group stays the parent's (the proxy's, by its setgid bit) for the socket, the owner's inside `rt`.
            group = self.directory.parent.stat().st_gid
            os.chown(self.directory, person.uid, group)
            self.directory.chmod(0o2750)
            os.chown(self.runtime, person.uid, person.gid)
            self.runtime.chmod(0o700)


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
        *(["--ServerApp.jpserver_extensions=dask_dashboards=True"] if with_dask else []),
        "--LabApp.extension_manager=readonly",
        # Its overrides.json keeps JupyterLab from asking people whether it may fetch news and updates.
        f"--LabApp.app_settings_dir={settings.notebook_side}",
        "--LanguageServerManager.autodetect=False",
        "--ServerApp.terminado_settings=shell_command=['/bin/bash']",
    ]


def activity_interval(idle_timeout: float, usual: int) -> int:
    """Seconds between reports of activity: far below `idle_timeout` (0: never), or people at work would be culled."""
    return max(1, min(usual, int(idle_timeout / 4))) if idle_timeout else usual


def server_environment(
    hub_env: Mapping[str, str],
    environment: ProfileEnvironment,
    settings: HubSettings,
    person: Person,
    place: ServerPlace,
    profile: Profile,
    *,
    with_dask: bool,
) -> dict[str, str]:
    """The environment of a notebook server: the hub's own variables, the person's, and those that make Dask work."""
    base = settings.base_path
    env = {
        "LANG": "C.UTF-8",
        **hub_env,
        "PATH": f"{environment.bin}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(person.home),
        "USER": person.name,
        "LOGNAME": person.name,
        "SHELL": "/bin/bash",
        "PYTHONPATH": "",
        # The extension reads address and prefix here; the port is only a stand-in beside the socket.
        "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:8888{hub_env['JUPYTERHUB_SERVICE_PREFIX']}",
        "JUPYTERHUB_SINGLEUSER_EXTENSION": "1",
        # jupyterhub's default is 300, which a short idle timeout would not wait for.
        "JUPYTERHUB_ACTIVITY_INTERVAL": str(activity_interval(settings.site.notebooks.idle_timeout, 300)),
        "JUPYTER_RUNTIME_DIR": str(place.runtime),
    }
    if with_dask:
        env |= {
            "DASK_GATEWAY__ADDRESS": settings.gateway_address,
            "DASK_GATEWAY__PROXY_ADDRESS": settings.gateway_scheduler_address,
            "DASK_GATEWAY__PUBLIC_ADDRESS": f"{base}services/dask-gateway",
            "DASK_GATEWAY__AUTH__TYPE": "jupyterhub",
            "DASK_GATEWAY__CLUSTER__OPTIONS__PROFILE": profile.slug,
            "DASK_LABEXTENSION__FACTORY__MODULE": "dask_gateway",
            "DASK_LABEXTENSION__FACTORY__CLASS": "GatewayCluster",
        }
    return {key: value for key, value in env.items() if key != "PYTHONPATH"}
