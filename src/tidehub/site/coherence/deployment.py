"""Where the site runs, against what it asks for: versions, exposure, names, storage. Pure; versions are data."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from tidehub import release_sets
from tidehub.site import charts
from tidehub.site.coherence.exposure import check_exposure
from tidehub.site.model import Site
from tidehub.site.model.deployment import Kubernetes
from tidehub.site.problems import KeyPath, Problem, warning
from tidehub.site.units import format_size


def check_deployment(site: Site) -> list[Problem]:
    """Contradictions between the site and the places it is deployed to."""
    found = [*_name(site), *_storage(site)]
    if site.kubernetes is not None:
        found += [*_charts(site.kubernetes), *_versions(site.kubernetes), *_images(site)]
        found += check_exposure(site)
    return found


def _name(site: Site) -> Iterator[Problem]:
    dns = site.infrastructure.dns if site.infrastructure else None
    host = urlsplit(site.site.url).hostname if site.site.url else None
    if dns is not None and host is not None and dns.host.lower() != host.lower():
        what = f"the name kept up to date is {dns.host}, and the site's address has {host}"
        yield warning(what, ("infrastructure", "dns", "host"))


def _storage(site: Site) -> Iterator[Problem]:
    home, users = site.notebooks.home.size, site.site.people
    cloud = site.infrastructure.cloud if site.infrastructure else None
    stores: list[tuple[int | None, int, str, KeyPath]] = [
        (site.machine.storage, 0, "the disk for homes", ("machine", "storage")),
        (
            cloud.storage if cloud else None,
            site.hub.database.size,
            "the project's storage",
            ("infrastructure", "cloud", "storage"),
        ),
    ]
    for room, beside, store, path in stores:
        if room is None or home is None:
            continue
        fits = max(0, room - beside) // home
        hub = f" beside the hub's {format_size(beside)}" if beside else ""
        if fits == 0:
            what = f"{store} is {format_size(room)}: not one home of {format_size(home)} fits{hub}"
            yield Problem(what, path, fix="raise it, or lower notebooks.home.size")
        elif users is not None and fits < users:
            yield warning(
                f"{users} homes of {format_size(home)}{hub} need {format_size(users * home + beside)}, and {store} "
                f"is {format_size(room)}: enough for {fits}",
                path,
                fix="raise it, or lower notebooks.home.size or site.people",
            )


def _charts(kubernetes: Kubernetes) -> Iterator[Problem]:
    foreign = {"daskhub"} if kubernetes.model == "split" else {"jupyterhub", "dask-gateway"}
    for chart in sorted(foreign & set(kubernetes.charts)):
        what = f"the chart {chart} is not installed by the model {kubernetes.model}"
        yield Problem(what, ("kubernetes", "charts", chart), fix="remove it, or change the model")


def _versions(kubernetes: Kubernetes) -> Iterator[Problem]:
    name = kubernetes.release_set or release_sets.DEFAULT
    if name not in release_sets.names():
        yield Problem(
            f"release set {name!r} does not exist",
            ("kubernetes", "release_set"),
            expected=f"one of {', '.join(release_sets.names())}",
        )
        return
    release = release_sets.release(name).versions
    pinned = {str(chart): version for chart, version in kubernetes.charts.items()}
    hub_chart, gateway = charts.installed(kubernetes.model, pinned, release.charts)
    hub = charts.hub_of(hub_chart) if hub_chart else None
    for chart, version in kubernetes.charts.items():
        yield from _pinned(chart, version, f"release set {name}", release.hub["jupyterhub"])
    path = _path_of_hub(kubernetes)
    if hub is not None and charts.parts(hub) < charts.SPAWNER_URL <= charts.parts(
        release.notebook["jupyterhub"]
    ):
        yield warning(
            f"JupyterHub {hub}, which chart {hub_chart} of jupyterhub installs, does not start images with "
            "jupyterhub 4 or newer (they ask for JUPYTERHUB_SERVICE_URL, which it does not set)",
            path,
            fix="use images of that time, by their tags; or remove the version, and take the release set's",
        )
    if hub_chart is not None and hub is not None:
        by_scope = gateway is not None and charts.parts(gateway) >= charts.GATEWAY_BY_SCOPE
        if by_scope and charts.parts(hub) < charts.SCOPES:
            yield Problem(
                f"dask-gateway {gateway} admits users by the scopes of their hub token, and JupyterHub {hub} (chart "
                f"{hub_chart}) has none",
                path,
                fix="take both charts from the release set",
            )


def _pinned(chart: str, version: str, release: str, hub_of_release: str) -> Iterator[Problem]:
    path: KeyPath = ("kubernetes", "charts", chart)
    if chart == "dask-gateway":
        if version not in charts.DASK_GATEWAY:
            yield warning(f"dask-gateway {version} is not known here: nothing can be said about it", path)
        return
    hub_chart = charts.DASKHUB.get(version, ("", ""))[0] if chart == "daskhub" else version
    hub = charts.hub_of(hub_chart)
    if hub is None:
        yield warning(f"{chart} {version} is not known here: nothing can be said about it", path)
    elif charts.parts(hub)[0] != charts.parts(hub_of_release)[0] and charts.parts(hub) >= charts.SPAWNER_URL:
        yield warning(
            f"{chart} {version} installs JupyterHub {hub}, and {release} was tested with {hub_of_release}: images made "
            "for it may not fit",
            path,
            fix=f"use images with jupyterhub {charts.parts(hub)[0]}, or remove the version",
        )


def _path_of_hub(kubernetes: Kubernetes) -> KeyPath:
    chart = "daskhub" if kubernetes.model == "daskhub" else "jupyterhub"
    return ("kubernetes", "charts", chart) if chart in kubernetes.charts else ("kubernetes", "model")


def _images(site: Site) -> Iterator[Problem]:
    for index, profile in enumerate(site.notebooks.profiles):
        if profile.image is None:
            what = (
                "this profile names no image, which Kubernetes needs: the chart's sample image would be used"
            )
            yield warning(what, ("notebooks", "profiles", index), fix="add image: with a tag")
