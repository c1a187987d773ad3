"""containerd's own directory with images unpacked: filled once by a containerd of `prepare`, mounted by every node.

The snapshots of images are only ever read, so a node mounts each read-only, and copies no more than the two small
databases that name them. Only the standard library.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import oci_layers
from oci_layers import Image

from tidehub.errors import TidehubError

KEY = b"1"
"""To be changed with what `fill` makes of the same images."""
CONTENT = Path("io.containerd.content.v1.content")
SNAPSHOTS = Path("io.containerd.snapshotter.v1.overlayfs")
DATABASES = (Path("io.containerd.metadata.v1.bolt") / "meta.db", SNAPSHOTS / "metadata.db")
NAMESPACE = "k8s.io"
"""Where the kubelet's images are."""
_UNUSED_PLUGINS = ("zfs", "btrfs", "devmapper", "aufs")
DISABLED = [f"io.containerd.snapshotter.v1.{name}" for name in _UNUSED_PLUGINS]
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_PATIENCE = 60.0


def fill(place: Path, images: Sequence[Image]) -> None:
    """Unpack `images` into containerd's directory `place`/root. Raises `TidehubError`."""
    with tempfile.TemporaryDirectory(prefix="tidehub-store-") as scratch:
        state = Path(scratch)
        oci_layers.write_layout(state / "layout", images, _ARCHITECTURES[platform.machine()])
        config = state / "containerd.toml"
        disabled = [*DISABLED, "io.containerd.grpc.v1.cri"]
        config.write_text(
            f'version = 2\nroot = "{place / "root"}"\nstate = "{state / "state"}"\n'
            f'disabled_plugins = {disabled}\n[grpc]\n  address = "{state / "socket"}"\n'.replace("'", '"')
        )
        ctr = ["ctr", "--address", str(state / "socket"), "--namespace", NAMESPACE]
        with (state / "log").open("w+b") as log:
            daemon = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "containerd", "--config", config],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            try:
                _wait(ctr, daemon, state / "log")
                # Links to the layers are followed: they are written once, into the store.
                send = ["tar", "-c", "-h", "-C", str(state / "layout"), "."]
                packing = subprocess.Popen(send, stdout=subprocess.PIPE)
                done = subprocess.run(
                    [*ctr, "images", "import", "-"], stdin=packing.stdout, capture_output=True, text=True
                )
                packing.wait()
                if done.returncode or packing.returncode:
                    raise TidehubError(f"containerd did not take the images: {done.stderr}")
                listed = subprocess.run(
                    [*ctr, "images", "list", "--quiet"], capture_output=True, text=True, check=True
                )
                missing = {name for one in images for name in one.names} - set(listed.stdout.split())
                if missing:
                    raise TidehubError(f"containerd did not take {', '.join(sorted(missing))}")
            finally:
                daemon.terminate()
                daemon.wait()
    shutil.rmtree(place / "root" / "io.containerd.runtime.v2.task", ignore_errors=True)


def _wait(ctr: Sequence[str], daemon: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _PATIENCE
    while subprocess.run([*ctr, "version"], capture_output=True).returncode:
        if daemon.poll() is not None or time.monotonic() > until:
            raise TidehubError(f"containerd does not start:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.1)
