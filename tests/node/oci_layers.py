"""Layers of container images without a container engine: a shared tree below, what a script adds above.

A layer is `layer.tar` in a directory of its own, with its digest in `layer.json`. Whatever is mounted or started to
make one ends with `prepare`, also when that is killed. Only the standard library.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidehub.errors import TidehubError

PRIVATE = (
    *("setpriv", "--pdeathsig", "KILL", "--"),
    *("unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--"),
)
"""Before a command: its mounts and processes end with the one that started it."""
_IN_OVERLAY = """
set -eu
tree=$1 place=$2 script=$3; shift 3
mount -t overlay overlay -o "lowerdir=$tree,upperdir=$place/upper,workdir=$place/work" "$place/merged"
cd "$place/merged"
mount -t proc proc proc
mount --rbind /dev dev
mount -t tmpfs -o mode=755 tmpfs run
mount --bind /etc/resolv.conf etc/resolv.conf
while [ $# -gt 0 ]; do
    if [ -d "$1" ]; then mkdir -p "run/$2"; else mkdir -p "$(dirname "run/$2")"; touch "run/$2"; fi
    mount --bind "$1" "run/$2"; shift 2
done
exec chroot . /bin/sh -euc "$script"
"""
_OPAQUE = "trusted.overlay.opaque"


@dataclass(frozen=True)
class Layer:
    """A finished layer."""

    archive: Path
    digest: str
    """Of the archive, which is not compressed: hex digits of SHA-256."""

    @property
    def size(self) -> int:
        """Bytes."""
        return self.archive.stat().st_size

    @classmethod
    def read(cls, directory: Path) -> Layer:
        """The layer that was made in `directory`."""
        return cls(directory / "layer.tar", json.loads((directory / "layer.json").read_text())["digest"])


def run(command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> None:
    """Run a program of the build. Raises `TidehubError` with its last lines."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env
    )
    if done.returncode:
        said = "\n".join(done.stdout.decode(errors="replace").splitlines()[-30:])
        raise TidehubError(
            f"{' '.join(map(str, command))[:200]} failed with exit code {done.returncode}:\n{said}",
            fix="mend the cause and run the same command again; what was finished is kept",
        )


def make_tree(place: Path, packages: Sequence[str], suite: str, script: str) -> None:
    """Debian with `packages` as a tree in `place`/tree, after `script` inside it, and as a layer."""
    tree = place / "tree"
    tree.mkdir(parents=True)
    tree.chmod(0o755)
    run(
        [
            *(*PRIVATE, "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase"),
            "--dpkgopt=force-unsafe-io",
            *('--aptopt=APT::Install-Recommends "false"', f"--include={','.join(packages)}"),
            *(f"--customize-hook=chroot \"$1\" sh -euc '{script}'", suite, tree),
        ]
    )
    (tree / "etc" / "resolv.conf").write_text("")  # a place to mount the machine's own
    _pack(tree, place)


def add_layer(
    tree: Path, place: Path, script: str, *, env: Mapping[str, str], binds: Mapping[Path, str]
) -> None:
    """What `script` changes, run as root in `tree` with the machine's network; `binds` go to names below /run."""
    for path in (place / "upper", place / "work", place / "merged"):
        path.mkdir(parents=True)
        path.chmod(0o755)
    words = [word for path, name in binds.items() for word in (str(path), name)]
    run([*PRIVATE, "sh", "-c", _IN_OVERLAY, "sh", tree, place, script, *words], env)
    _white_out(place / "upper")
    _pack(place / "upper", place)
    for name in ("upper", "work", "merged"):
        shutil.rmtree(place / name)


def _white_out(upper: Path) -> None:
    """What overlayfs notes about removed files as image layers note it."""
    for folder, folders, files in os.walk(upper):
        for name in files:
            path = Path(folder, name)
            info = path.lstat()
            if stat.S_ISCHR(info.st_mode) and info.st_rdev == 0:
                path.unlink()
                path.with_name(f".wh.{name}").touch()
        for name in folders:
            path = Path(folder, name)
            if not path.is_symlink() and _OPAQUE in os.listxattr(path):
                (path / ".wh..wh..opq").touch()


def _pack(tree: Path, place: Path) -> None:
    """`tree` as the layer of `place`."""
    archive = place / "layer.tar"
    run(["tar", "-c", "--numeric-owner", "--sort=name", "-C", tree, "-f", archive, "."])
    with archive.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    (place / "layer.json").write_text(json.dumps({"digest": digest}) + "\n")


@dataclass(frozen=True)
class Image:
    """Layers, oldest first, under names, with what OCI's image configuration says about a start."""

    names: tuple[str, ...]
    layers: tuple[Layer, ...]
    config: Mapping[str, object]


def write_layout(directory: Path, images: Sequence[Image], architecture: str) -> None:
    """An OCI image layout whose layers are symbolic links (OCI image-spec 1.0)."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    listed = []
    for image in images:
        for layer in image.layers:
            link = blobs / layer.digest
            if not link.is_symlink():
                link.symlink_to(layer.archive)
        digests = [f"sha256:{layer.digest}" for layer in image.layers]
        config = _blob(
            blobs,
            "application/vnd.oci.image.config.v1+json",
            {
                "architecture": architecture,
                "os": "linux",
                "config": image.config,
                "rootfs": {"type": "layers", "diff_ids": digests},
            },
        )
        layers = [
            {
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": f"sha256:{layer.digest}",
                "size": layer.size,
            }
            for layer in image.layers
        ]
        kind = "application/vnd.oci.image.manifest.v1+json"
        manifest = _blob(
            blobs, kind, {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers}
        )
        listed += [{**manifest, "annotations": {"io.containerd.image.name": name}} for name in image.names]
    (directory / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}))
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": listed}))


def _blob(blobs: Path, media_type: str, content: object) -> dict[str, object]:
    """Write a JSON blob and return its descriptor."""
    data = json.dumps(content, sort_keys=True).encode()
    digest = hashlib.sha256(data).hexdigest()
    (blobs / digest).write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}
