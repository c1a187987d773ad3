"""The software that one machine needs beside tidehub itself, made on first use and shared by all platforms of
a user.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from tidehub.local.software import directories, environments, installer, interpreter, layout, node
from tidehub.local.software.environments import Environment, Profile
from tidehub.local.software.interpreter import Interpreter
from tidehub.local.software.progress import Progress, Silent
from tidehub.release_sets import Release
from tidehub.release_sets import release as release_set


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

        `<root>/profiles/<slug>` is switched to it, for people; programs should keep to the versioned path,
        which stays as it is while servers run from it.
        """
        wish = environments.profile_wish(profile, release or self._release)
        made = self._made("environments", wish)
        link = self.root / "profiles" / (profile.slug if profile else "default")
        if not link.exists() or link.resolve() != made.root.resolve():
            directories.switch(link, made.root)
        return made

    def control(self, release: Release | None = None) -> Environment:
        """The locked environment that runs the hub, the gateway and tidehub itself."""
        return self._made("control", environments.control_wish(release or self._release))

    def node(self, release: Release | None = None) -> Path:
        """The Node.js program of the release set; npm is beside it."""
        chosen = release or self._release
        directory = node.node_directory(self.root, chosen)
        if layout.is_complete(directory):
            return node.node_program(directory)
        self._prepare()
        return node.install_node(self.root, chosen, self._installer(), self.interpreter().executable)

    def proxy(self, release: Release | None = None) -> list[str]:
        """The start of configurable-http-proxy's command line."""
        chosen = release or self._release
        program = self.node(chosen)
        directory = node.proxy_directory(self.root, chosen)
        if not layout.is_complete(directory):
            self._prepare()
            node.install_proxy(self.root, chosen, program, self._progress)
        return [str(program), str(node.proxy_program(directory))]

    def interpreter(self) -> Interpreter:
        """The Python that new environments get; as root one that every user can run."""
        self._prepare()
        return interpreter.choose(self.root, everyone=os.geteuid() == 0, progress=self._progress)

    def prune(self, in_use: Iterable[str] = ()) -> list[Path]:
        """Remove environments that are neither in `in_use` (versions) nor a profile's newest one; return
        their paths.
        """
        kept = set(in_use)
        kept |= {link.resolve().name for link in (self.root / "profiles").glob("*") if link.is_symlink()}
        removed = []
        for directory in sorted((self.root / "environments").glob("*-py*")):
            if directory.is_dir() and directory.name not in kept:
                with directories.locked(self.root, f"environments-{directory.name}", self._progress):
                    directories.remove(directory)
                removed.append(directory)
        return removed

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
