"""Sites whose values are tested, their made-up secrets, and the real charts where they are."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tidehub.charts.archive import Chart, open_chart
from tidehub.kubernetes.releases import Platform
from tidehub.kubernetes.values.build import platform
from tidehub.secrets.secret import Secret
from tidehub.site.model import Site
from tidehub.site.reading.load import load_text

ROOT = Path(__file__).parents[4]
PLACES = {"pangeo": ROOT / "tests" / "data" / "sites"}
"""The Pangeo guide's layout of 2022, with the charts of that time; the examples are those of today."""
VO = "urn:mace:egi.eu:group:vo.example.eu"
TOKEN = "7c2b" * 16
CLIENT = "Zq7-private-Xw93-client"
PLAIN = """\
site: {name: Coast, url: "https://hub.example.org/x/", contact: help@example.org}
login:
  provider: egi-check-in
  client_id: coast-hub
  scopes: [openid, profile, entitlements]
  allow: {groups: ["urn:mace:egi.eu:group:vo.example.eu"]}
notebooks:
  profiles:
    - {name: Small, default: true, image: "quay.io/x/small:1"}
    - {name: Large, image: "quay.io/x/large:1", memory: {guarantee: 2 GiB, limit: 4 GiB}}
"""
RULES = PLAIN.replace(
    "notebooks:\n",
    """\
  groups:
    - group: urn:mace:egi.eu:group:vo.example.eu:role=power
      profiles: [large]
      notebooks: {memory: {limit: 16 GiB}, cpu: {limit: 8}}
notebooks:
""",
)


def example(name: str, old: str = "", new: str = "") -> Site:
    """A site of the seeds, with a piece of its text replaced."""
    text = (PLACES.get(name, ROOT / "examples") / name / "tidehub.yaml").read_text(encoding="utf-8")
    assert old in text
    return load_text(text.replace(old, new), "tidehub.yaml").site


def site(text: str = PLAIN, kubernetes: str = "{}", more: str = "") -> Site:
    """A site of that text, on Kubernetes."""
    return load_text(f"{text}kubernetes: {kubernetes}\n{more}", "tidehub.yaml").site


def secrets() -> dict[str, dict[str, Any]]:
    """As `secrets.charts.chart_values` gives them."""
    hub = {
        "config": {
            "GenericOAuthenticator": {"client_secret": Secret(CLIENT)},
            "JupyterHub": {"cookie_secret": Secret("5d" * 32)},
            "CryptKeeper": {"keys": [Secret("6e" * 32)]},
            "ConfigurableHTTPProxy": {"auth_token": Secret("4c" * 32)},
        },
        "services": {"dask-gateway": {"apiToken": Secret(TOKEN)}},
    }
    gateway = {"auth": {"jupyterhub": {"apiToken": Secret(TOKEN)}}}
    return {"jupyterhub": {"hub": hub}, "dask-gateway": {"gateway": gateway}}


def built(wanted: Site, **options: Any) -> Platform:
    """The platform of a site with those secrets."""
    return platform(wanted, secrets(), **options)


def hub_values(wanted: Site) -> dict[str, Any]:
    """Values of the jupyterhub chart, wherever the model nests them."""
    values = built(wanted).releases[0].values
    return dict(values.get("jupyterhub", values))


@cache
def _opened(path: Path) -> Chart:
    return open_chart(path)


def chart(name: str, version: str) -> Chart:
    """A real chart. The test is skipped where `TIDEHUB_CHARTS` does not have it."""
    folder = os.environ.get("TIDEHUB_CHARTS", "")
    path = Path(folder) / f"{name}-{version}.tgz"
    if not folder or not path.is_file():
        pytest.skip(f"TIDEHUB_CHARTS names no directory with {name}-{version}.tgz")
    return _opened(path)


def schema(name: str, version: str) -> dict[str, Any]:
    """A chart's schema without `required`: what is not stated comes from the chart's own values."""
    found = chart(name, version).schema
    assert found is not None
    return dict(_optional(found))


def _optional(node: Any) -> Any:
    if isinstance(node, dict):
        kept = {key: value for key, value in node.items() if key != "required" or isinstance(value, dict)}
        # Alternatives are told apart by what they require.
        return {key: value if key == "oneOf" else _optional(value) for key, value in kept.items()}
    return [_optional(item) for item in node] if isinstance(node, list) else node
