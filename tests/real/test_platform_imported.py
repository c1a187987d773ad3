"""A site imported from a deployment's Helm values, tried out on this machine, with Python of its own at the end."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator

import pytest
from real_platform import REPOSITORY, RealPlatform, running_platform

from tidehub.importing.command import import_files

pytestmark = pytest.mark.real

VALUES = REPOSITORY / "tests" / "data" / "helm_values"
OVERRIDES = """
overrides:
  helm:
    jupyterhub: {hub: {resources: {requests: {cpu: 1}}}}
  hub_config: |
    words = "tide and coast"
    c.JupyterHub.tornado_settings = {"headers": {"X-Site-Words": words}}
  gateway_config: |
    c.DaskGateway.log_level = "DEBUG"
"""


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPlatform]:
    directory = tmp_path_factory.mktemp("imported")
    names = ("protocoast-jhub.yaml", "protocoast-dask-gateway.yaml", "protocoast-values-secrets.yaml")
    assert import_files([VALUES / name for name in names], directory).is_complete
    site = directory / "tidehub.yaml"
    site.write_text(site.read_text() + OVERRIDES)
    with running_platform("impor", "--site", str(site), "--fit") as started:
        yield started


def test_check_passes(imported: RealPlatform) -> None:
    assert list(imported.target.profiles) == ["protocoast-main", "protocoast-develop"]
    code, report = imported.check()
    assert code == 0, report


def test_the_sites_own_python_counts_in_the_hub(imported: RealPlatform) -> None:
    with urllib.request.urlopen(f"{imported.address}hub/login", timeout=30) as answer:
        assert answer.headers["X-Site-Words"] == "tide and coast"


def test_the_sites_own_python_counts_in_the_gateway(imported: RealPlatform) -> None:
    log = (imported.places.logs / "gateway.log").read_text(encoding="utf-8", errors="replace")
    assert "[D " in log
