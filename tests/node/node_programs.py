"""What runs on the node and is built from Go modules: kubelet, kube-proxy, kubectl, CoreDNS and the pause program.

Those of Kubernetes come from the module of the test cluster's API server: `tests/cluster/go`, with the checksums of a
few more of its dependencies in `kubernetes.sum`. Only the standard library: `prepare` runs on the system's Python.
"""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cluster_programs
from cluster_programs import COMPILER_FLAGS

from tidehub.local.software import layout, progress

HERE = Path(__file__).resolve().parent
_KUBERNETES = cluster_programs.HERE / "go"
PACKAGES = {
    "kubelet": (_KUBERNETES, "k8s.io/kubernetes/cmd/kubelet"),
    "kube-proxy": (_KUBERNETES, "k8s.io/kubernetes/cmd/kube-proxy"),
    "kubectl": (_KUBERNETES, "k8s.io/kubernetes/cmd/kubectl"),
    "coredns": (HERE / "dns", "."),
    "pause": (HERE / "pause", "."),
}
"""Program; the folder of its go.mod and the package."""

Said = Callable[[str, float], None]
"""Told what was done and how many seconds it took."""


@dataclass(frozen=True)
class NodePrograms:
    """A complete directory of programs."""

    directory: Path

    @property
    def kubelet(self) -> Path:
        return self.directory / "kubelet"

    @property
    def kube_proxy(self) -> Path:
        return self.directory / "kube-proxy"

    @property
    def kubectl(self) -> Path:
        return self.directory / "kubectl"

    @property
    def coredns(self) -> Path:
        return self.directory / "coredns"

    @property
    def pause(self) -> Path:
        return self.directory / "pause"


def key() -> str:
    """The name of the programs' directory: the digest of all that decides what they are."""
    files = [
        *(_KUBERNETES / name for name in ("go.mod", "go.sum")),
        HERE / "kubernetes.sum",
        *(HERE / "dns" / name for name in ("go.mod", "go.sum", "main.go")),
        *(HERE / "pause" / name for name in ("go.mod", "main.go")),
    ]
    packages = [(name, package) for name, (_, package) in PACKAGES.items()]
    recipe = repr((packages, COMPILER_FLAGS, platform.machine()))
    return layout.digest(recipe.encode(), *(path.read_bytes() for path in files))


def build(root: Path, place: Path, said: Said, shown: progress.Progress) -> dict[str, str]:
    """Build every program into `place` and return what to note about it. Raises `TidehubError`."""
    place.mkdir(parents=True)
    # Kept until all is built, so that an interrupted run goes on from where it was.
    caches = place.parent / "build"
    caches.mkdir(exist_ok=True)
    env = cluster_programs.go_environment(caches)
    go = cluster_programs.go_program(root, caches, shown)
    module = _module_with_more_sums(caches)
    for program, (folder, package) in PACKAGES.items():
        began = time.monotonic()
        command: list[str | Path] = [
            # It ends with `prepare`, also when that is killed.
            *("setpriv", "--pdeathsig", "KILL", "--"),
            *(go, "build", *COMPILER_FLAGS, "-ldflags", " ".join(cluster_programs.linker_flags())),
            *([f"-modfile={module}"] if folder == _KUBERNETES else []),
            *("-o", place / program, package),
        ]
        cluster_programs.run_go(command, folder, env, shown)
        said(program, time.monotonic() - began)
    shutil.rmtree(caches, ignore_errors=True)
    return {"kubernetes": cluster_programs.versions()["kubernetes"]}


def _module_with_more_sums(folder: Path) -> Path:
    """The test cluster's go.mod beside all the checksums that the programs of a node need."""
    module = folder / "kubernetes.mod"
    shutil.copyfile(_KUBERNETES / "go.mod", module)
    sums = (_KUBERNETES / "go.sum").read_text() + (HERE / "kubernetes.sum").read_text()
    module.with_suffix(".sum").write_text(sums)
    return module
