"""The upstream charts as facts: what each version installs, and what is known not to work together. Pure,
except that `hub_chart` reads the release sets.

Sources: `Chart.yaml` and `values.schema.json` in the published archives of jupyterhub/zero-to-jupyterhub-k8s,
dask/dask-gateway and dask/helm-chart, and the programs' own change logs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidehub.site.model import Site

JUPYTERHUB: Mapping[str, str] = {
    "1.0.0": "1.4.1", "1.0.1": "1.4.1", "1.1.0": "1.4.2", "1.1.1": "1.4.2", "1.1.2": "1.4.2", "1.1.3": "1.4.2",
    "1.1.4": "1.4.2", "1.2.0": "1.5.0", "2.0.0": "3.0.0", "3.0.0": "4.0.2", "3.0.1": "4.0.2", "3.0.2": "4.0.2",
    "3.0.3": "4.0.2", "3.1.0": "4.0.2", "3.2.0": "4.0.2", "3.2.1": "4.0.2", "3.3.0": "4.1.0", "3.3.1": "4.1.0",
    "3.3.2": "4.1.0", "3.3.3": "4.1.1", "3.3.4": "4.1.2", "3.3.5": "4.1.3", "3.3.6": "4.1.4", "3.3.7": "4.1.5",
    "3.3.8": "4.1.6", "4.0.0": "5.2.1", "4.1.0": "5.2.1", "4.2.0": "5.3.0", "4.3.0": "5.4.0", "4.3.1": "5.4.1",
    "4.3.2": "5.4.3", "4.3.3": "5.4.4", "4.3.4": "5.4.5", "4.3.5": "5.4.6", "4.4.0": "5.5.0",
}  # fmt: skip
"""Version of the jupyterhub chart to that of its JupyterHub."""

DASK_GATEWAY = (
    "0.9.0", "2022.4.0", "2022.6.1", "2022.10.0", "2022.11.0", "2023.1.0", "2023.1.1", "2023.9.0", "2024.1.0",
    "2025.4.0", "2026.3.0",
)  # fmt: skip
"""Versions of the dask-gateway chart, which are those of dask-gateway."""

DASKHUB: Mapping[str, tuple[str, str]] = {
    "2021.11.0": ("1.2.0", "0.9.0"), "2022.4.1": ("1.2.0", "0.9.0"), "2022.5.0": ("1.2.0", "2022.4.0"),
    "2022.6.0": ("1.2.0", "2022.6.1"), "2022.8.0": ("1.2.0", "2022.6.1"), "2022.8.1": ("1.2.0", "2022.6.1"),
    "2022.8.2": ("1.2.0", "2022.6.1"), "2022.11.0": ("2.0.0", "2022.10.0"), "2023.1.0": ("2.0.0", "2023.1.1"),
    "2024.1.0": ("3.2.1", "2023.9.0"), "2024.1.1": ("3.2.1", "2024.1.0"),
}  # fmt: skip
"""Version of the daskhub chart to those of the jupyterhub and dask-gateway charts in it."""

NEWEST_DASKHUB = "2024.1.1"
"""No release set has daskhub: its last publication is older than any of them."""

INGRESS_CLASS_FIELD = (2, 0, 0)
"""jupyterhub chart with `ingress.ingressClassName`; older ones refuse it and take the annotation."""
LOGIN_BY_GROUPS = (1, 0, 0)
"""jupyterhub chart whose GenericOAuthenticator (14) asks for groups at all; an older one would admit everybody."""
MANAGED_GROUPS = (2, 0, 0)
"""jupyterhub chart whose hub (JupyterHub 3) takes a user's groups from the login."""
TOKEN_SCOPES = (3, 0, 0)
"""jupyterhub chart whose hub (JupyterHub 4) decides the scopes of each server's token."""
PAGES = (3, 0, 0)
"""jupyterhub chart whose hub's templates (JupyterHub 4) have the blocks that our pages extend."""
GATE = (3, 0, 0)
"""jupyterhub chart whose hub (JupyterHub 4) has what the gate before dashboards runs on, in its image and its API."""
OWN_LOGIN = (4, 0, 0)
"""jupyterhub chart whose hub (JupyterHub 5, oauthenticator 17) runs the authenticator of one machine."""
SCOPES = (2, 0, 0)
"""JupyterHub with roles and scopes."""
GATEWAY_BY_SCOPE = (2025, 4, 0)
"""dask-gateway that admits users by the scopes of their hub token."""
SPAWNER_URL = (2, 0, 0)
"""JupyterHub that tells servers their address (JUPYTERHUB_SERVICE_URL), which jupyterhub 4 in an image asks for."""


def parts(version: str) -> tuple[int, ...]:
    """A version for comparing, without what follows its numbers: `4.3.0-0.dev` gives `(4, 3, 0)`."""
    found = re.match(r"[0-9]+(\.[0-9]+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def hub_of(chart: str) -> str | None:
    """JupyterHub's version in a version of the jupyterhub chart; None where it is not known."""
    return JUPYTERHUB.get(chart)


def installed(
    model: str, pinned: Mapping[str, str], release: Mapping[str, str]
) -> tuple[str | None, str | None]:
    """Versions of the jupyterhub and dask-gateway charts that a site installs; None where they are not known.

    `pinned` is the site's `kubernetes.charts`, `release` the release set's charts.
    """
    if model == "daskhub":
        return DASKHUB.get(pinned.get("daskhub", NEWEST_DASKHUB), (None, None))
    return (
        pinned.get("jupyterhub", release.get("jupyterhub")),
        pinned.get("dask-gateway", release.get("dask-gateway")),
    )


HUB = "jupyterhub"


def hub_chart(site: Site) -> tuple[int, ...]:
    """Version of the jupyterhub chart that the site installs, for comparing; empty where it is not known."""
    from tidehub import release_sets

    if site.kubernetes is None:
        return parts(release_sets.release().versions.charts[HUB])
    name = site.kubernetes.release_set or release_sets.DEFAULT
    pinned = {str(chart): version for chart, version in site.kubernetes.charts.items()}
    # Reading the release set costs; a pin decides without it.
    pins = "daskhub" if site.kubernetes.model == "daskhub" else HUB
    release = {} if pins in pinned or pins == "daskhub" else release_sets.release(name).versions.charts
    return parts(installed(site.kubernetes.model, pinned, release)[0] or "")
