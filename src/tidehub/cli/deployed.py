"""The platform on a cluster as commands about it are given it: site file, kubeconfig, context."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tidehub.cli.site_options import DEFAULT_FILE, load_given

if TYPE_CHECKING:
    from tidehub.helm.engine import Helm
    from tidehub.kubernetes.cluster.port import Cluster
    from tidehub.site.model import Site


@dataclass(frozen=True)
class Deployed:
    """A site and the cluster that it is, or was, deployed on."""

    site_file: Path
    site: Site
    namespace: str
    cluster: Cluster
    helm: Helm


def open_deployed(site_file: Path | None, kubeconfig: Path | None, context: str | None) -> Deployed:
    """Reads the site and connects. Raises `UsageError` for a site without Kubernetes, `TidehubError` otherwise."""
    from tidehub.helm.program import find_helm
    from tidehub.kubernetes.session import connect_to, helm_for, kubernetes_of

    site = load_given(site_file).site
    path = site_file or DEFAULT_FILE
    kubernetes = kubernetes_of(site, path, fix="for the platform on this machine: --target machine")
    cluster = connect_to(kubeconfig, context)
    return Deployed(path, site, kubernetes.namespace, cluster, helm_for(find_helm(os.environ), cluster))


def known_secrets(site_file: Path) -> list[str]:
    """The site's secrets in clear, for hiding them in logs; none where they cannot be read here."""
    from tidehub.errors import TidehubError
    from tidehub.secrets.site_secrets import resolve

    try:
        resolved = resolve(site_file, os.environ)
    except TidehubError:
        return []
    return [value.reveal() for found in resolved.found.values() for value in found.values]
