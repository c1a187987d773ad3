"""The software of the tests' node: where it lies, and how `tests/node/prepare` builds it.

Below tidehub's software root, in `test-node`, each part is named by the digest of what decides its contents, so a
change makes anew only what it touches: the programs (`node_programs`), the Debian tree of all images, a layer for each
image (`node_images`), and the store, containerd's own directory with every image unpacked, which a node mounts as it
is. A part is complete or not there. Only the standard library: `prepare` runs on the system's Python.

    prepare                  build what is missing
    prepare --if-possible    the same, unless this machine cannot run a node, whatever is installed
    prepare --cached         build nothing; exit with 1 and say so where something is missing
    prepare --where          print the directories of programs and store
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
if __name__ == "__main__":
    sys.path[:0] = [str(CHECKOUT / "src"), str(CHECKOUT / "tests" / "cluster"), str(HERE)]

import cluster_programs  # noqa: E402
import image_store  # noqa: E402
import node_images  # noqa: E402
import node_programs  # noqa: E402
import oci_layers  # noqa: E402
from node_programs import NodePrograms  # noqa: E402

from tidehub.errors import INTERRUPTED, TidehubError  # noqa: E402
from tidehub.local.software import directories, index, installer, interpreter, layout, progress  # noqa: E402
from tidehub.release_sets import release  # noqa: E402

PREPARE = "tests/node/prepare"
HOST_PROGRAMS = {
    "containerd": "containerd",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ipset": "ipset",
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
}
"""What building and running needs: program and Debian package."""
UNUSED = 2 * 86400.0
"""Seconds after its last use that a part which this checkout does not name is kept."""


@dataclass(frozen=True)
class NodeSoftware:
    """All that a node needs, complete."""

    programs: NodePrograms
    store: Path


def folder() -> Path:
    """Where the parts lie."""
    return layout.default_root() / "test-node"


def programs_directory() -> Path:
    """The directory of the programs, made or not."""
    return folder() / f"programs-{node_programs.key()}"


def base_directory() -> Path:
    """The directory of the Debian tree, made or not."""
    return folder() / f"base-{node_images.base_key()}"


def layer_directory(name: str) -> Path:
    """The directory of an image's layer, made or not."""
    key = node_images.layer_key(node_images.RECIPES[name], node_programs.key())
    return folder() / f"layer-{name}-{key}"


def store_directory() -> Path:
    """The directory of the store, made or not."""
    images = [
        (layer_directory(name).name, one.names, one.config) for name, one in node_images.RECIPES.items()
    ]
    return folder() / f"store-{layout.digest(repr(images).encode(), image_store.KEY)}"


def find() -> NodeSoftware | None:
    """The software, where `prepare` made it; otherwise None."""
    programs, store = programs_directory(), store_directory()
    if not (layout.is_complete(programs) and layout.is_complete(store)):
        return None
    for part in _parts():
        if part.exists():
            os.utime(part)
    return NodeSoftware(NodePrograms(programs), store)


def lacking() -> list[str]:
    """What this machine lacks to build and run a node: Debian packages, and what `cannot` names."""
    return [*cannot(), *sorted(package for name, package in HOST_PROGRAMS.items() if not shutil.which(name))]


def why_not() -> str:
    """Why no node can run here now, in words; nothing where one can."""
    if missing := lacking():
        return f"missing are {', '.join(missing)}"
    if cluster_programs.find() is None:
        return f"{cluster_programs.PREPARE} was not run"
    return "" if find() else f"nothing is prepared; as root, {PREPARE} does that (20 minutes, once)"


def cannot() -> list[str]:
    """What no package gives: root, control groups that can be written, a bridge that iptables sees, memory."""
    found = []
    if os.geteuid() != 0:
        found.append("root")
    elif not os.access("/sys/fs/cgroup/memory", os.W_OK):
        found.append("control groups of version 1, mounted to be written")
    if not Path("/proc/sys/net/bridge/bridge-nf-call-iptables").exists():
        found.append("the kernel's bridge netfilter")
    if os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") < 16 * 2**30:
        found.append("16 GiB of memory")
    return found


def prepare() -> NodeSoftware:
    """Build what is missing. Raises `TidehubError`."""
    ready = find()
    if ready is not None:
        return ready
    missing = lacking()
    if missing:
        raise TidehubError(
            f"the tests' node cannot be built here: missing are {', '.join(missing)}",
            fix="as root: apt-get install " + " ".join(HOST_PROGRAMS.values()),
        )
    shown = progress.on_standard_error()
    try:
        made = _Preparation(shown).run()
    finally:
        shown.done()
    used = set(_parts())
    for other in folder().iterdir():
        if other not in used and time.time() - other.stat().st_mtime > UNUSED:
            directories.remove(other)
    return made


def _parts() -> list[Path]:
    layers = [layer_directory(name) for name in node_images.RECIPES]
    return [programs_directory(), base_directory(), *layers, store_directory()]


class _Preparation:
    """One run: the programs are compiled in a thread, while the images are fetched and unpacked."""

    def __init__(self, shown: progress.Progress) -> None:
        self._root = layout.default_root()
        self._shown = shown
        self._failure: BaseException | None = None
        self._began = time.monotonic()

    def run(self) -> NodeSoftware:
        directories.prepare_root(self._root)
        directories.make_folder(folder())
        compiling = threading.Thread(target=self._compile, daemon=True)
        compiling.start()
        needs_programs = []
        self._once(base_directory(), self._base)
        for name, recipe in node_images.RECIPES.items():
            if any(path.parent == node_images.PROGRAMS for path in recipe.files.values()):
                needs_programs.append(name)
            else:
                self._layer(name)
        compiling.join()
        if self._failure is not None:
            raise self._failure
        for name in needs_programs:
            self._layer(name)
        self._once(store_directory(), self._store)
        self._said("everything", time.monotonic() - self._began)
        return NodeSoftware(NodePrograms(programs_directory()), store_directory())

    def _said(self, what: str, seconds: float) -> None:
        self._shown.step(f"{what}: {seconds:.0f} s")

    def _compile(self) -> None:
        try:
            directories.build_once(
                self._root,
                programs_directory(),
                lambda place: node_programs.build(self._root, place, self._said, self._shown),
                progress=self._shown,
            )
        except BaseException as error:
            self._failure = error

    def _once(self, directory: Path, build: Callable[[Path], None]) -> None:
        """As `directories.build_once`, which opens modes: here they belong to the images."""
        if layout.is_complete(directory):
            return
        with directories.locked(self._root, f"test-node-{directory.name}", self._shown):
            if layout.is_complete(directory):
                return
            began = time.monotonic()
            directories.remove(directory)
            directory.mkdir()
            directory.chmod(layout.OPEN_DIRECTORY)
            build(directory)
            directories.sync(directory)
            directories.write_text(directory / layout.MARKER, "{}\n")
            self._said(directory.name.rpartition("-")[0], time.monotonic() - began)

    def _base(self, place: Path) -> None:
        oci_layers.make_tree(place, node_images.BASE_PACKAGES, node_images.SUITE, node_images.BASE_SCRIPT)

    def _layer(self, name: str) -> None:
        def build(place: Path) -> None:
            recipe = node_images.RECIPES[name]
            tree = base_directory() / "tree"
            binds = {
                (programs_directory() / path.name if path.parent == node_images.PROGRAMS else path): as_name
                for as_name, path in recipe.files.items()
            }
            env, more = self._environment()
            for script in (recipe.before, recipe.script):
                if script:
                    directories.remove(place)
                    oci_layers.add_layer(tree, place, script, env=env, binds={**binds, **more})

        self._once(layer_directory(name), build)

    def _environment(self) -> tuple[dict[str, str], dict[Path, str]]:
        """How packages are found from inside a tree, and what is mounted there for it."""
        cache = self._root / "cache"
        caches = {cache / "uv": "cache/uv", cache / "npm": "cache/npm"}
        for path in caches:
            directories.make_folder(path)
        given = index.uv_environment(self._root) | index.npm_environment(self._root)
        reached = ("UV_INDEX", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_INSECURE_HOST")
        env = {
            name: value
            for name, value in given.items()
            if name in reached or name.lower().startswith("npm_config_") or name.lower().endswith("_proxy")
        }
        trusted = Path(given.get("SSL_CERT_FILE") or "/etc/ssl/certs/ca-certificates.crt")
        env |= {
            "PATH": f"/run/bin:{node_images.PATH}",
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "DEBIAN_FRONTEND": "noninteractive",
            "UV_CACHE_DIR": "/run/cache/uv",
            "UV_LINK_MODE": "copy",
            "UV_COMPILE_BYTECODE": "1",
            "UV_NO_MANAGED_PYTHON": "1",
            "npm_config_cache": "/run/cache/npm",
        }
        env |= dict.fromkeys(("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"), "/run/trusted.crt")
        return env, {**caches, trusted: "trusted.crt", self._uv(): "bin/uv"}

    def _uv(self) -> Path:
        python = interpreter.choose(everyone=True)
        (pip,) = (CHECKOUT / "bootstrap").glob("pip-*.whl")
        return installer.fetched(
            self._root, release().directory / "control.txt", pip, Path(python.executable), self._shown
        )

    def _store(self, place: Path) -> None:
        base = oci_layers.Layer.read(base_directory())
        images = [
            oci_layers.Image(one.names, (base, oci_layers.Layer.read(layer_directory(name))), one.config)
            for name, one in node_images.RECIPES.items()
        ]
        image_store.fill(place, images)


def main(arguments: list[str]) -> int:
    """The exit code of `prepare`."""
    if arguments not in ([], ["--if-possible"], ["--cached"], ["--where"]):
        print(f"usage: {PREPARE} [--if-possible | --cached | --where]", file=sys.stderr)
        return 2
    if arguments == ["--cached"]:
        reason = why_not()
        if reason:
            print(f"the node with real containers is left out: {reason}")
        return int(bool(reason))
    if arguments == ["--if-possible"] and (missing := cannot()):
        print(f"no node can run here: missing are {', '.join(missing)}")
        return 0
    try:
        if arguments != ["--where"]:
            prepare()
        print(programs_directory(), store_directory(), sep="\n")
    except TidehubError as error:
        print(f"tidehub: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\ntidehub: interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
