"""The real charts, rendered with a site's values: where the environment says where the archives and helm are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import cluster_programs
import pytest

from tidehub.kubernetes.objects import Object, read_manifest
from tidehub.kubernetes.values import build
from tidehub.kubernetes.values.merge import merge
from tidehub.site.model import Site

TOKEN = "0123456789abcdef" * 4
SECRETS = {
    "jupyterhub": {
        "hub": {"services": {"dask-gateway": {"apiToken": TOKEN}}, "cookieSecret": TOKEN},
        "proxy": {"secretToken": TOKEN},
    },
    "dask-gateway": {"gateway": {"auth": {"jupyterhub": {"apiToken": TOKEN}}}},
}
"""Stand-ins for the site's secrets, by chart: plain texts, as Helm sees them."""


def rendered(site: Site, folder: Path) -> dict[str, list[Object]]:
    """The objects of each release by its name. Skips without charts or helm."""
    helm, archives = helm_program(), archives_folder()
    found = {}
    for release in build.platform(site, SECRETS).releases:
        values = folder / f"{release.name}.json"
        values.write_text(json.dumps(merge(release.values, release.secrets)), encoding="utf-8")
        archive = archives / f"{release.chart}-{release.version}.tgz"
        if not archive.exists():
            pytest.skip(f"TIDEHUB_CHARTS has no {archive.name}")
        command = [helm, "template", release.name, archive, "--namespace", "daskhub", "--values", values]
        command += ["--kube-version", "1.34.0", "--api-versions", "networking.k8s.io/v1/Ingress"]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, env=_environment(folder), check=False
        )
        assert done.returncode == 0, done.stderr
        found[release.name] = read_manifest(done.stdout)
    return found


def pod_templates(objects: list[Object]) -> dict[str, Mapping[str, Any]]:
    """The pods that Deployments would make, by the Deployments' names."""
    return {
        obj["metadata"]["name"]: obj["spec"]["template"] for obj in objects if obj["kind"] == "Deployment"
    }


@cache
def archives_folder() -> Path:
    """Where the upstream archives are."""
    named = os.environ.get("TIDEHUB_CHARTS")
    if not named:
        pytest.skip(
            "TIDEHUB_CHARTS names no directory of upstream charts: CONTRIBUTING.md says how to get them"
        )
    return Path(named)


@cache
def helm_program() -> Path:
    """A helm: that of the test cluster, or of PATH."""
    programs = cluster_programs.find()
    found = programs.helm(4) if programs is not None else shutil.which("helm")
    if found is None:
        pytest.skip(f"no helm: {cluster_programs.PREPARE} makes one")
    return Path(found)


def _environment(folder: Path) -> dict[str, str]:
    homes = {f"HELM_{kind}_HOME": str(folder / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
    return {"PATH": os.environ["PATH"], **homes}
