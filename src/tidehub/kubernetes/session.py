"""What `render`, `plan` and `deploy` have in common: a site, its secrets, its charts, Helm and the cluster."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidehub import program
from tidehub.errors import Place, UsageError

if TYPE_CHECKING:
    from tidehub.charts.fetch import ChartArchive
    from tidehub.helm.engine import Helm
    from tidehub.helm.program import HelmProgram
    from tidehub.kubernetes.cluster.port import Cluster
    from tidehub.kubernetes.releases import Platform
    from tidehub.kubernetes.rendering.model import Rendered
    from tidehub.login.endpoints import Endpoints
    from tidehub.secrets.sources import Resolved
    from tidehub.site.model import Site
    from tidehub.site.model.deployment import Kubernetes
    from tidehub.site.reading.load import Loaded

Settings = tuple[tuple[str, Any], ...]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Session:
    """One site and one cluster, opened for one command."""

    site_file: Path
    loaded: Loaded
    platform: Platform
    archives: Mapping[str, ChartArchive]
    """Archives by chart name, verified."""
    helm: Helm
    cluster: Cluster | None
    """None for what works without a cluster."""

    @property
    def connected(self) -> Cluster:
        """The cluster. Raises `UsageError` for a session without one."""
        if self.cluster is None:
            raise UsageError("this works on a Kubernetes cluster only", fix="give --kubeconfig or --context")
        return self.cluster

    def render(self, *, upgrade: bool = False, checked: bool = True) -> Rendered:
        """The platform rendered for this cluster; without one, for `rendering.capabilities.DEFAULT_KUBE_VERSION`.

        With `checked`, raises `RenderError` for objects that the cluster would refuse, or that show a secret.
        """
        from tidehub.kubernetes.rendering.check import check, refuse
        from tidehub.kubernetes.rendering.render import render

        version, served = (
            (None, None) if self.cluster is None else (self.cluster.version(), self.cluster.api_versions())
        )
        rendered = render(
            self.platform,
            self.archives,
            self.helm,
            kube_version=version,
            api_versions=served,
            upgrade=upgrade,
        )
        if checked:
            refuse(check(rendered, served=served))
        return rendered


def open_session(
    site_file: Path,
    settings: Settings = (),
    kubeconfig: Path | None = None,
    context: str | None = None,
    charts: Path | None = None,
    *,
    connect: bool = True,
    offline: bool = False,
    stand_ins: bool = False,
    environ: Mapping[str, str] = os.environ,
    say: Say = lambda line: print(line, file=sys.stderr),
) -> Session:
    """Reads the site and its secrets, gets the charts, finds Helm and, with `connect`, the cluster.

    `charts` is a directory of archives, used before the network; with `offline` only it and the cache are. With
    `stand_ins` no secret is needed: words take their places, for reading. `say` gets lines worth knowing, such as a
    chart trusted for the first time. Raises `UsageError` for a site or secrets that cannot be used, `TidehubError` for
    charts, Helm or a cluster that are not there.
    """
    # Helm is asked its version, and the client takes a second to import: both while site and charts are read.
    with ThreadPoolExecutor(2) as pool:
        program = pool.submit(_program, environ)
        from tidehub.site.reading.load import load

        loaded = load(site_file, overrides=settings, environ=environ)
        for warning in loaded.warnings:
            say(str(warning))
        cluster = pool.submit(connect_to, kubeconfig, context) if connect else None
        platform = platform_of(site_file, loaded.site, environ, stand_ins=stand_ins)
        archives = _archives(site_file, platform, charts, offline=offline, environ=environ, say=say)
        connected = cluster.result() if cluster is not None else None
    helm = helm_for(program.result(), connected)
    return Session(site_file, loaded, platform, archives, helm, connected)


def kubernetes_of(site: Site, site_file: Path, *, fix: str) -> Kubernetes:
    """The site's section for a cluster. Raises `UsageError` with `fix` for a site without one."""
    if site.kubernetes is None:
        raise UsageError(
            "this site has no Kubernetes part",
            where=Place(str(site_file)),
            expected="a section `kubernetes:`",
            fix=fix,
        )
    return site.kubernetes


def platform_of(
    site_file: Path, site: Site, environ: Mapping[str, str] = os.environ, *, stand_ins: bool = False
) -> Platform:
    """The releases of a site with its secrets.

    Asks a provider of OpenID Connect for its addresses where the site does not state them. Raises `UsageError` for
    secrets that cannot be used, `TidehubError` for a provider that does not answer.
    """
    from tidehub.kubernetes.values.build import platform
    from tidehub.secrets.charts import chart_values

    kubernetes_of(
        site,
        site_file,
        fix=f"write one (`{program.command('explain', 'kubernetes')}` says what belongs there), or run it here "
        f"with `{program.command('up')}`",
    )
    if stand_ins:
        from tidehub.kubernetes.rendering.stand_ins import stand_in_values

        return platform(site, stand_in_values(site_file, site, environ))
    return platform(site, chart_values(secrets_of(site_file, site, environ)), addresses=_addresses(site))


def _addresses(site: Site) -> Endpoints | None:
    """The identity provider's addresses by discovery, where neither the site nor tidehub knows them."""
    from tidehub.login.endpoints import find_endpoints, stated_endpoints
    from tidehub.site.model.overrides import replaces_login

    stated = stated_endpoints(site.login)
    known = stated is not None and stated.issuer and stated.jwks_url
    return (
        None if known or site.login.provider != "oidc" or replaces_login(site) else find_endpoints(site.login)
    )


def secrets_of(site_file: Path, site: Site, environ: Mapping[str, str] = os.environ) -> Resolved:
    """Every secret that the site needs. Raises `SecretsError` with all that is missing or wrong."""
    from tidehub.secrets.site_secrets import SecretsError, needed, problems_of, resolve

    resolved = resolve(site_file, environ)
    wrong = [one for one in problems_of(resolved, needed(site)) if one.severity == "error"]
    if wrong:
        raise SecretsError(wrong)
    return resolved


def _archives(
    site_file: Path,
    platform: Platform,
    charts: Path | None,
    *,
    offline: bool,
    environ: Mapping[str, str],
    say: Say,
) -> dict[str, ChartArchive]:
    from tidehub.charts.fetch import ChartStore, given_directory
    from tidehub.charts.lock import chart_lock
    from tidehub.charts.pins import Pins, obtain

    store = ChartStore(directory=given_directory(charts, environ), offline=offline, environ=environ)
    lock, pins = chart_lock(platform.release_set), Pins.beside(site_file)
    wanted: Sequence[tuple[str, str]] = [(one.chart, one.version) for one in platform.releases]
    return {chart: obtain(store, lock, pins, chart, version, say) for chart, version in wanted}


def _program(environ: Mapping[str, str]) -> HelmProgram:
    from tidehub.helm.program import find_helm

    return find_helm(environ)


def helm_for(program: HelmProgram, cluster: Cluster | None) -> Helm:
    """Helm for this cluster, or for none."""
    from tidehub.helm.command_line import HelmCommandLine

    if cluster is None:
        return HelmCommandLine(program)
    return HelmCommandLine(program, kubeconfig=cluster.kubeconfig, context=cluster.context)


def connect_to(kubeconfig: Path | None, context: str | None) -> Cluster:
    """The cluster that the options of a command name. Raises `ClusterProblem`."""
    from tidehub.kubernetes.cluster.connection import connect

    return connect(str(kubeconfig) if kubeconfig else None, context)
