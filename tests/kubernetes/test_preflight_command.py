"""`tidehub preflight` as users run it: charts, Helm and a real API server. The site's public names are made up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from local_cluster import LocalCluster
from standin_charts import StandinCharts

SITE = """
preset: protocoast
site: {url: https://hub.tidehub.invalid/}
kubernetes:
  namespace: %s
  exposure: {kind: ingress, class: no-such-class}
"""


def test_the_command_says_all_at_once_and_writes_nothing(
    cluster: Any, namespace: str, charts_dir: Path, helm_program: Path, tmp_path: Path
) -> None:
    if not isinstance(cluster, LocalCluster):
        pytest.skip("the audit log is the project's own cluster's")
    (tmp_path / "tidehub.yaml").write_text(SITE % namespace)
    before = time.time()
    done = _preflight(cluster, tmp_path, charts_dir, helm_program, "--json")
    told = json.loads(done.stdout)
    found = {one["item"]: one for one in told["findings"]}
    assert (done.returncode, told["ready"], told["namespace"]) == (1, False, namespace)
    good = ("connection", "api-version", "helm", "kinds-served", "permissions", "namespace", "crds")
    assert {item: found[item]["state"] for item in good} == dict.fromkeys(good, "ok")
    for item in ("storage-class", "ingress-class", "secrets", "dns"):
        assert found[item]["state"] == "problem", found[item]
        assert found[item]["fix"]
    ours = [one for one in cluster.writes(since=before) if one["user"]["username"] == "kubernetes-admin"]
    assert [one["requestURI"] for one in ours] == []


def test_the_command_for_users(
    cluster: Any, namespace: str, standin_charts: StandinCharts, helm_program: Path, tmp_path: Path
) -> None:
    (tmp_path / "tidehub.yaml").write_text(SITE % namespace)
    # Charts of the right name with another digest than the lock's: a problem among the others.
    done = _preflight(cluster, tmp_path, standin_charts.directory, helm_program)
    lines = done.stdout.splitlines()
    assert lines[0].endswith(f", namespace {namespace}")
    assert "  ✗ ingress-class: the IngressClass no-such-class was not found" in lines
    assert any(
        line.startswith("      to do: write one of those as kubernetes.exposure.class") for line in lines
    )
    assert any(
        line.startswith("  ✗ charts: ") and "is another one than the lock says" in line for line in lines
    )
    assert any("items were left out: they need the objects that are to be deployed" in line for line in lines)
    assert lines[-1].startswith("Not ready: ")
    assert "Traceback" not in done.stderr


def _preflight(
    cluster: Any, folder: Path, charts: Path, helm: Path, *options: str
) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "tidehub",
        "preflight",
        "--kubeconfig",
        str(cluster.kubeconfig),
        *options,
    ]
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PYTHONIOENCODING": "utf-8",
        "TIDEHUB_HELM": str(helm),
        "TIDEHUB_CHARTS": str(charts),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=180)
