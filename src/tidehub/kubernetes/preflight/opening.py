"""What preflight is given: the site, the cluster, the rendered objects, as far as each can be had.

What cannot be had is a trouble that an item tells; the others go on without it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tidehub import program
from tidehub.errors import TidehubError
from tidehub.kubernetes.preflight.edges.network import Network
from tidehub.kubernetes.preflight.model import Context, Look

_SECONDS = 20.0
"""For one answer of the cluster: nobody waits longer than this for what comes after the deadline of all items."""

if TYPE_CHECKING:
    from tidehub.kubernetes.cluster.port import Cluster
    from tidehub.kubernetes.rendering.model import Rendered
    from tidehub.kubernetes.session import Session, Settings


def open_context(
    site_file: Path,
    settings: Settings = (),
    kubeconfig: Path | None = None,
    context: str | None = None,
    charts: Path | None = None,
    *,
    offline: bool = False,
    network: Network | None = None,
    environ: Mapping[str, str] = os.environ,
    say: Callable[[str], None] = lambda line: None,
    adopt: Iterable[str] = (),
) -> Context:
    """Everything that could be had. Raises `UsageError` for a site file that cannot be used, or has no cluster."""
    from tidehub.kubernetes.session import kubernetes_of
    from tidehub.site.reading.load import load

    loaded = load(site_file, overrides=settings, environ=environ)
    fix = f"write one (`{program.command('explain', 'kubernetes')}` says what belongs there)"
    kubernetes_of(loaded.site, site_file, fix=fix)
    for warning in loaded.warnings:
        say(str(warning))
    troubles: dict[str, TidehubError] = {}
    # Both take a second, mostly of importing: side by side.
    with ThreadPoolExecutor(1) as pool:
        connecting = pool.submit(_connected, kubeconfig, context, troubles)
        session = _session(site_file, settings, charts, troubles, offline=offline, environ=environ)
        cluster = connecting.result()
    rendered = _rendered(session, cluster, troubles) if session is not None else None
    return Context(
        site=loaded.site if rendered is None else rendered.platform.site,
        network=network or Network(),
        look=Look(cluster) if cluster is not None else None,
        rendered=rendered,
        troubles=troubles,
        site_file=site_file,
        environ=environ,
        adopt=frozenset(adopt),
    )


def _connected(
    kubeconfig: Path | None, context: str | None, troubles: dict[str, TidehubError]
) -> Cluster | None:
    from tidehub.kubernetes.cluster.connection import connect

    try:
        return connect(str(kubeconfig) if kubeconfig else None, context, seconds=_SECONDS)
    except TidehubError as error:
        troubles["connection"] = error
        return None


def _session(
    site_file: Path,
    settings: Settings,
    charts: Path | None,
    troubles: dict[str, TidehubError],
    *,
    offline: bool,
    environ: Mapping[str, str],
) -> Session | None:
    """What is rendered with. Secrets are an item of their own: what they are does not matter to the others."""
    from tidehub.helm.problems import HelmMissing
    from tidehub.kubernetes.session import open_session

    try:
        return open_session(
            site_file,
            settings,
            charts=charts,
            connect=False,
            offline=offline,
            stand_ins=True,
            environ=environ,
            say=lambda line: None,
        )
    except HelmMissing as error:
        troubles["helm"] = error
    except TidehubError as error:
        troubles["charts"] = error
    return None


def _rendered(
    session: Session, cluster: Cluster | None, troubles: dict[str, TidehubError]
) -> Rendered | None:
    """The objects; what a cluster would refuse of them is a trouble beside them."""
    from tidehub.kubernetes.rendering.check import check, refuse

    try:
        rendered = replace(session, cluster=cluster).render(checked=False)
    except TidehubError as error:
        troubles["rendering"] = error
        return None
    try:
        refuse(check(rendered, served=cluster.api_versions() if cluster is not None else None))
    except TidehubError as error:
        troubles["rendering"] = error
    return rendered
