"""`tidehub render` as it is typed: the folder, its secrets, its commands, and what it refuses."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rendered_sites import SECRETS, site_folder

from tidehub.charts.documents import read_all, read_one
from tidehub.errors import FAILED, USAGE
from tidehub.kubernetes.rendering.capabilities import OFFLINE_API_VERSIONS
from tidehub.site.presets import text_of

# What differs between Helm's versions is tried with the charts (test_render_real_charts.py): a command takes seconds.
pytestmark = pytest.mark.parametrize("helm_program", [4], indirect=True, ids=["helm4"])
RENDER = [sys.executable, "-m", "tidehub", "render"]


class Command:
    """Runs `tidehub render` in a folder with a site, as somebody with this helm and these charts."""

    def __init__(self, folder: Path, helm: Path, charts: Path) -> None:
        self.folder = folder
        self._environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": os.pathsep.join(sys.path),
            "TIDEHUB_HELM": str(helm),
            "TIDEHUB_CHARTS": str(charts),
        }

    def __call__(self, *argv: str, code: int = 0, **environ: str) -> str:
        ended = subprocess.run(
            [*RENDER, *argv],
            cwd=self.folder,
            env={**self._environ, **environ},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert ended.returncode == code, ended.stdout + ended.stderr
        return ended.stdout + (ended.stderr if code else "")


@pytest.fixture
def protocoast(helm_program: Path, charts_dir: Path, tmp_path: Path) -> Command:
    site_folder(tmp_path, "protocoast")
    return Command(tmp_path, helm_program, charts_dir)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def everything(folder: Path) -> bytes:
    return b"\n".join(contents(folder).values())


def test_the_folder_is_the_same_to_the_byte_and_holds_no_secret(protocoast: Command) -> None:
    said = protocoast("--output", "out")
    assert "Written to out" in said
    out = protocoast.folder / "out"
    first = contents(out)
    assert {"README.md", "charts.yaml", "values/jupyterhub.yaml", "values/dask-gateway.yaml"} <= set(first)
    assert {
        "manifests/jupyterhub.yaml",
        "objects/00-namespace.yaml",
        "crds/dask-gateway-traefik.yaml",
    } <= set(first)
    protocoast("--output", "out")
    assert contents(out) == first
    protocoast("--output", "elsewhere/out")
    assert contents(protocoast.folder / "elsewhere/out") == first
    for name, value in SECRETS.items():
        assert value.encode() not in everything(out), name
    template = (out / "secrets/jupyterhub.secrets.yaml").read_text()
    assert read_one(template)["hub"]["services"]["dask-gateway"]["apiToken"] == "<gateway_token>"
    assert "hub.config.JupyterHub.cookie_secret\n#     hub_cookie_secret: it signs" in template
    assert (out / "secrets").stat().st_mode & 0o777 == 0o700


def test_no_secret_has_to_be_there(protocoast: Command) -> None:
    protocoast("--output", "with")
    (protocoast.folder / "tidehub.secrets.yaml").unlink()
    protocoast("--output", "without")
    assert contents(protocoast.folder / "without") == contents(protocoast.folder / "with")
    said = protocoast("--output", "secret", "--with-secrets", code=USAGE)
    assert "hub_cookie_secret" in said
    assert not (protocoast.folder / "secret").exists()


def test_with_secrets_the_folder_is_what_helm_takes(protocoast: Command, helm_program: Path) -> None:
    """Helm itself, as the README says it, renders the manifests that lie beside."""
    protocoast("--output", "out", "--with-secrets", "--with-charts")
    out = protocoast.folder / "out"
    hidden = out / "secrets/jupyterhub.secrets.yaml"
    assert (
        read_one(hidden.read_text())["hub"]["services"]["dask-gateway"]["apiToken"]
        == SECRETS["gateway_token"]
    )
    for path in ("secrets/jupyterhub.secrets.yaml", "manifests/jupyterhub.yaml"):
        assert (out / path).stat().st_mode & 0o777 == 0o600
        assert (out / path).parent.stat().st_mode & 0o777 == 0o700
    for name in ("jupyterhub", "dask-gateway"):
        command = next(
            line.removeprefix("$ ")
            for line in (out / "README.md").read_text().splitlines()
            if line.startswith(f"$ helm upgrade {name} ")
        )
        _, _, release, chart, *options = shlex.split(command)
        values = [word for word in options if word.endswith(".yaml")]
        ended = subprocess.run(
            [helm_program, "template", release, chart, "--namespace", "daskhub", "--kube-version", "1.34.0"]
            + ["--api-versions", ",".join(OFFLINE_API_VERSIONS)]
            + [word for file in values for word in ("--values", file)],
            cwd=out,
            env={"HOME": str(protocoast.folder), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        theirs = sorted(read_all(ended.stdout), key=_order)
        ours = sorted(read_all((out / f"manifests/{name}.yaml").read_text()), key=_order)
        assert ours == theirs


def test_the_readmes_commands_name_files_that_are_there(protocoast: Command) -> None:
    protocoast("--output", "out", "--with-charts")
    out = protocoast.folder / "out"
    named = {
        word
        for line in (out / "README.md").read_text().splitlines()
        if line.startswith("$ ")
        for word in shlex.split(line.removeprefix("$ "))
        if word.startswith(("values/", "secrets/", "charts/", "crds/", "objects/"))
    }
    assert {"values/jupyterhub.yaml", "charts/dask-gateway-2026.3.0.tgz", "crds/", "objects/"} <= named
    assert [word for word in named if not (out / word).exists()] == []


def test_charts_are_named_with_their_digests(protocoast: Command) -> None:
    protocoast("--output", "out")
    listed = read_one((protocoast.folder / "out/charts.yaml").read_text())
    assert [(one["name"], one["version"]) for one in listed["charts"]] == [
        ("jupyterhub", "4.4.0"),
        ("dask-gateway", "2026.3.0"),
    ]
    readme = (protocoast.folder / "out/README.md").read_text()
    assert all(one["sha256"] in readme for one in listed["charts"])


def test_somebodys_work_is_not_overwritten(protocoast: Command) -> None:
    protocoast("--output", "out")
    template = protocoast.folder / "out/secrets/jupyterhub.secrets.yaml"
    template.write_text(template.read_text().replace("<gateway_token>", "filled-in"))
    said = protocoast("--output", "out", code=USAGE)
    assert "secrets/jupyterhub.secrets.yaml was changed" in said
    assert "filled-in" in template.read_text()


def test_single_objects(protocoast: Command) -> None:
    said = protocoast("--show", "jupyterhub/Ingress/jupyterhub")
    (ingress,) = read_all(said)
    assert ingress["spec"]["rules"][0]["host"] == "protocoast.vm.fedcloud.eu"
    hidden = protocoast("--show", "jupyterhub/secret")
    assert len(read_all(hidden)) == 1
    assert all(value not in hidden for value in SECRETS.values())
    assert "one of jupyterhub/" in protocoast("--show", "jupyterhub/Ingress/hub", code=USAGE)
    assert "jupyterhub, dask-gateway, tidehub" in protocoast("--show", "hub", code=USAGE)


def test_for_programs(protocoast: Command) -> None:
    found = json.loads(protocoast("--json"))
    assert [(one["name"], one["version"]) for one in found["releases"]] == [
        ("jupyterhub", "4.4.0"),
        ("dask-gateway", "2026.3.0"),
    ]
    assert found["kube_version"] == "1.34.0"
    assert "Ingress/jupyterhub" in found["releases"][0]["objects"]
    assert found["flaws"] == []
    assert found["folder"] is None
    assert not (protocoast.folder / "out").exists()


def test_a_flaw_writes_nothing(protocoast: Command) -> None:
    """A password among the plain values of the site, as the Pangeo guide has it."""
    overrides = "overrides.helm.dask-gateway={gateway: {auth: {simple: {password: a-real-password}}}}"
    said = protocoast("--output", "out", "--set", overrides, code=FAILED)
    assert "gateway.auth.simple.password" in said
    assert "a-real-password" not in said
    assert not (protocoast.folder / "out").exists()
    found = json.loads(protocoast("--json", "--set", overrides, code=FAILED).split("\n}\n")[0] + "\n}")
    assert [flaw["severity"] for flaw in found["flaws"]] == ["error"]


def test_an_older_cluster(protocoast: Command) -> None:
    said = protocoast("--kube-version", "1.27.3", code=FAILED)
    assert "does not support Kubernetes 1.27.3" in said
    assert "Kubernetes v1.31.2" in protocoast("--kube-version", "v1.31.2")


@pytest.mark.parametrize("more", [["--output", "out"], ["--json"], ["--with-secrets"]])
def test_showing_is_all_that_show_does(protocoast: Command, more: list[str]) -> None:
    assert "--show prints objects" in protocoast("--show", "jupyterhub", *more, code=USAGE)


def test_a_site_for_one_machine_only(helm_program: Path, charts_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "tidehub.yaml").write_text(text_of("laptop"))
    command = Command(tmp_path, helm_program, charts_dir)
    assert "no Kubernetes part" in command(code=USAGE)


def test_without_helm(protocoast: Command) -> None:
    said = protocoast(code=FAILED, TIDEHUB_HELM="/nowhere/helm")
    assert "TIDEHUB_HELM names no program" in said


def test_a_gateway_of_ones_own_is_in_the_folder(protocoast: Command) -> None:
    protocoast("--output", "out", "--set", "kubernetes.exposure={kind: gateway-api, class: envoy}")
    objects = protocoast.folder / "out/objects"
    names = {path.name for path in objects.iterdir()}
    assert {
        "gateway-jupyterhub.yaml",
        "httproute-jupyterhub.yaml",
        "httproute-jupyterhub-redirect.yaml",
    } <= names
    (route,) = read_all((objects / "httproute-jupyterhub.yaml").read_text())
    assert route["kind"] == "HTTPRoute"
    assert "httproutes" in (protocoast.folder / "out/README.md").read_text()


def _order(obj: dict[str, Any]) -> tuple[str, str]:
    return str(obj["kind"]), str(obj["metadata"]["name"])
