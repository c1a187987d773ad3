"""Which jupyterhub chart a site installs. Pure, except that it reads the release sets."""

from __future__ import annotations

from tidehub.site import charts
from tidehub.site.model import Site

HUB = "jupyterhub"


def hub_chart(site: Site) -> tuple[int, ...]:
    """Version of the jupyterhub chart that the site installs, for comparing; empty where it is not known."""
    from tidehub import release_sets

    if site.kubernetes is None:
        return charts.parts(release_sets.release().versions.charts[HUB])
    name = site.kubernetes.release_set or release_sets.DEFAULT
    pinned = {str(chart): version for chart, version in site.kubernetes.charts.items()}
    # Reading the release set costs; a pin decides without it.
    pins = "daskhub" if site.kubernetes.model == "daskhub" else HUB
    release = {} if pins in pinned or pins == "daskhub" else release_sets.release(name).versions.charts
    return charts.parts(charts.installed(site.kubernetes.model, pinned, release)[0] or "")
