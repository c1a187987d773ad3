"""What a site may state and one machine cannot do: said at `up`, before anything is made (pure)."""

from __future__ import annotations

from tidehub.errors import UsageError
from tidehub.site.model import Site


def refuse_unsupported(site: Site) -> None:
    """Raises `UsageError` when the site asks for something that only a Kubernetes cluster has."""
    if site.dask.engine == "operator":
        raise UsageError(
            "the site's Dask clusters are made by the Dask operator (dask.engine: operator), "
            "which runs on Kubernetes only",
            expected="dask.engine: gateway, or none, on one machine",
            fix="try the site out here with: --set dask.engine=gateway",
        )
