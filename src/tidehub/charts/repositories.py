"""Where the upstream charts are published."""

from __future__ import annotations

import os
from collections.abc import Mapping

from tidehub.errors import UsageError

MIRROR = "TIDEHUB_CHART_MIRROR"
"""Environment: the base address of one repository that holds all charts, with an `index.yaml` of its own."""
PUBLISHED: Mapping[str, str] = {
    "jupyterhub": "https://hub.jupyter.org/helm-chart/",
    "dask-gateway": "https://helm.dask.org/",
    "daskhub": "https://helm.dask.org/",
    "dask-kubernetes-operator": "https://helm.dask.org/",
}
"""Chart to the repository that its project's installation guide names; those of Dask share one."""


def repository(chart: str, environ: Mapping[str, str] = os.environ) -> str:
    """Address of the repository of `chart`, ending in `/`. Raises `UsageError` for a chart that is not one of ours."""
    if chart not in PUBLISHED:
        raise UsageError(f"the chart {chart!r} is not known here", expected=f"one of {', '.join(PUBLISHED)}")
    mirror = environ.get(MIRROR, "").strip()
    return (mirror or PUBLISHED[chart]).rstrip("/") + "/"


def index(chart: str, environ: Mapping[str, str] = os.environ) -> str:
    """Address of the repository's index."""
    return repository(chart, environ) + "index.yaml"
