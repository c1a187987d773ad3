"""A platform through Helm, every release at the same time. The only edge is the engine's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from tidehub.charts.archive import Chart, open_chart
from tidehub.charts.kube_version import check_kube_version
from tidehub.charts.shape import ignored
from tidehub.errors import TidehubError
from tidehub.kubernetes.objects import Object, is_hook, read_manifest
from tidehub.kubernetes.releases import Platform, Release
from tidehub.kubernetes.rendering.capabilities import DEFAULT_KUBE_VERSION, OFFLINE_API_VERSIONS
from tidehub.kubernetes.rendering.model import Rendered, RenderedRelease
from tidehub.kubernetes.values.merge import merge

if TYPE_CHECKING:
    from tidehub.charts.fetch import ChartArchive
    from tidehub.helm.engine import Helm

_TEST = "test"
"""Hooks of this kind run only for `helm test`."""


def render(
    platform: Platform,
    archives: Mapping[str, ChartArchive],
    helm: Helm,
    *,
    kube_version: str | None = None,
    api_versions: Sequence[str] | None = None,
    upgrade: bool = False,
) -> Rendered:
    """The platform's objects as they will be in the cluster, the same for the same input.

    `archives` are by chart. `kube_version` and `api_versions` are the cluster's (`Cluster.version`, `.api_versions`);
    without them, `DEFAULT_KUBE_VERSION` and what such a cluster serves. `upgrade` says that the releases are there.

    Raises `TidehubError` where a chart does not support the version, ignores a value or has no archive, and Helm's
    problems.
    """
    version = kube_version or DEFAULT_KUBE_VERSION
    served = OFFLINE_API_VERSIONS if api_versions is None else tuple(api_versions)

    charts = [_chart(release, archives, version) for release in platform.releases]

    def manifest(release: Release) -> list[Object]:
        text = helm.render(
            archives[release.chart].path,
            helm_values(release),
            release=release.name,
            namespace=platform.namespace,
            kube_version=version,
            api_versions=served,
            is_upgrade=upgrade,
        )
        return read_manifest(text)

    with ThreadPoolExecutor(max(1, len(platform.releases)), thread_name_prefix="render") as pool:
        manifests = [pool.submit(manifest, release) for release in platform.releases]
        # CRDs are read while Helm is at work: half a megabyte of YAML.
        crds_of_charts = [chart.crds for chart in charts]
        releases = tuple(
            _release(release, archives[release.chart], found.result(), crds)
            for release, found, crds in zip(platform.releases, manifests, crds_of_charts, strict=True)
        )
    return Rendered(platform, releases, platform.objects, version)


def helm_values(release: Release) -> dict[str, Any]:
    """What Helm gets: the values with the secrets over them. Leaves may be `Secret`s; only a 0600 file reveals them."""
    return merge(release.values, release.secrets)


def check_supported(chart: Chart, version: str) -> None:
    """Whether a chart, and every chart in it, supports this Kubernetes. Raises `TidehubError`.

    Helm asks the outermost chart alone, and daskhub says nothing.
    """
    wanted = chart.metadata.kube_version
    try:
        fits = check_kube_version(wanted, version)
    except ValueError as error:
        raise TidehubError(
            f"the Kubernetes version cannot be compared with what {chart.metadata.name} supports: {error}",
            expected="a version such as 1.34.0",
        ) from None
    if not fits:
        raise TidehubError(
            f"{chart.metadata.name} {chart.metadata.version} does not support Kubernetes {version}",
            expected=f"Kubernetes {wanted}",
            fix="choose other charts (kubernetes.release_set, kubernetes.charts), or upgrade the cluster",
        )
    for inside in chart.subcharts:
        check_supported(inside, version)


def _chart(release: Release, archives: Mapping[str, ChartArchive], version: str) -> Chart:
    archive = archives.get(release.chart)
    if archive is None:
        raise TidehubError(f"no archive was found of the chart {release.chart} {release.version}")
    chart = open_chart(archive.path)
    check_supported(chart, version)
    for complaint in ignored(chart, helm_values(release)):
        raise TidehubError(
            f"{release.chart} {release.version}: {complaint.path.lstrip('/')} {complaint.says}",
            fix=f"correct overrides.helm.{release.chart}",
        )
    return chart


def _release(
    release: Release, archive: ChartArchive, found: Sequence[Object], crds: Sequence[Object]
) -> RenderedRelease:
    hooks = [obj for obj in found if is_hook(obj)]
    return RenderedRelease(
        release,
        archive,
        objects=tuple(obj for obj in found if not is_hook(obj)),
        hooks=tuple(obj for obj in hooks if _kinds_of_hook(obj) != {_TEST}),
        crds=tuple(crds),
    )


def _kinds_of_hook(obj: Object) -> set[str]:
    said = str(obj["metadata"]["annotations"]["helm.sh/hook"])
    return {one.strip().removesuffix("-success").removesuffix("-failure") for one in said.split(",")}
