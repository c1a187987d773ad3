"""What the keys of `kubernetes.exposure` become: values of the jupyterhub chart, and objects beside it. Pure.

An Ingress is the chart's own, so that it survives every upgrade. HTTPRoutes are tidehub's (`kubernetes/exposure.py`):
the chart has one since 4.3, without the base path, timeouts, or the redirect to https.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from tidehub.site import charts
from tidehub.site.charts import hub_chart
from tidehub.site.destinations.destination import Destination, Rule, cluster, helm
from tidehub.site.model import Site
from tidehub.site.model.deployment import Exposure
from tidehub.site.problems import KeyPath

HUB = "jupyterhub"
ISSUER = "cert-manager.io/cluster-issuer"
CLASS = "kubernetes.io/ingress.class"
UPLOAD = "64m"
"""Largest request. JupyterLab sends files in pieces of 1 MiB, as text a third larger, and notebooks as a whole."""
PATIENCE_SECONDS = 3600
"""Until an idle connection is closed: a kernel's websocket may be silent for long."""

NGINX: dict[str, str] = {
    "nginx.ingress.kubernetes.io/proxy-body-size": UPLOAD,
    "nginx.ingress.kubernetes.io/proxy-read-timeout": str(PATIENCE_SECONDS),
    "nginx.ingress.kubernetes.io/proxy-send-timeout": str(PATIENCE_SECONDS),
    "nginx.org/client-max-body-size": UPLOAD,
    "nginx.org/proxy-read-timeout": f"{PATIENCE_SECONDS}s",
    "nginx.org/proxy-send-timeout": f"{PATIENCE_SECONDS}s",
    "nginx.org/websocket-services": "proxy-public",
}
"""Annotations of the two controllers of that name: the community's (retired in 2026, and in use) and F5's. Their
defaults are 1 MiB and 60 seconds, and F5's passes websockets only where told to."""


def exposure_of(site: Site) -> Exposure:
    """How the site is exposed; the default where it says nothing of Kubernetes."""
    return site.kubernetes.exposure if site.kubernetes else Exposure()


def host_of(site: Site) -> str | None:
    """The host in the site's address."""
    return urlsplit(site.site.url).hostname if site.site.url else None


def is_https(site: Site) -> bool:
    """Whether users come by https."""
    return bool(site.site.url) and str(site.site.url).startswith("https:")


def certificate_secret(site: Site) -> str | None:
    """The Secret with the site's certificate at an Ingress or a Gateway; by default it is named like the host."""
    host = host_of(site)
    return (exposure_of(site).tls_secret or host) if host and is_https(site) else None


def url_values(site: Site, value: str | None, path: KeyPath) -> Iterable[Destination]:
    """What `site.url` becomes in the exposure."""
    host = host_of(site)
    if host is None:
        return
    kind = exposure_of(site).kind
    if kind == "ingress":
        yield helm(HUB, "ingress", "hosts", value=[host])
        yield from _ingress_tls(site)
    elif kind == "gateway-api":
        yield cluster("HTTPRoute jupyterhub: spec.hostnames", [host])
        yield cluster(
            "HTTPRoute jupyterhub: spec.rules[0].matches[0].path.value", site.base_path.rstrip("/") or "/"
        )
    elif is_https(site):
        yield helm(HUB, "proxy", "https", "enabled", value=True)
        yield helm(HUB, "proxy", "https", "hosts", value=[host])
        kind_of_certificate = "secret" if exposure_of(site).tls_secret else "letsencrypt"
        yield helm(HUB, "proxy", "https", "type", value=kind_of_certificate)


def contact_values(site: Site, value: str | None, path: KeyPath) -> Iterable[Destination]:
    """What `site.contact` becomes in the exposure: whom Let's Encrypt writes to."""
    exposed = exposure_of(site)
    if value and exposed.kind == "load-balancer" and is_https(site) and not exposed.tls_secret:
        yield helm(HUB, "proxy", "https", "letsencrypt", "contactEmail", value=value.removeprefix("mailto:"))


def _kind(site: Site, value: str, path: KeyPath) -> Iterable[Destination]:
    yield helm(HUB, "ingress", "enabled", value=value == "ingress")
    service = "LoadBalancer" if value == "load-balancer" else "ClusterIP"
    yield helm(HUB, "proxy", "service", "type", value=service)
    if value == "gateway-api":
        note = "the chart's own route has neither base path nor timeouts"
        yield cluster("HTTPRoute jupyterhub", "made", note)


def _class(site: Site, value: str | None, path: KeyPath) -> Iterable[Destination]:
    exposed = exposure_of(site)
    if value is not None and exposed.kind == "gateway-api":
        yield cluster("Gateway jupyterhub: spec.gatewayClassName", value)
    if value is None or exposed.kind != "ingress":
        return
    chart = hub_chart(site)
    if chart and chart < charts.INGRESS_CLASS_FIELD:
        yield _annotation(CLASS, value, "this chart refuses ingress.ingressClassName")
    else:
        yield helm(HUB, "ingress", "ingressClassName", value=value)
    if "nginx" in value:
        for name, setting in NGINX.items():
            if name not in exposed.annotations:
                yield _annotation(name, setting)


def _issuer(site: Site, value: str | None, path: KeyPath) -> Iterable[Destination]:
    exposed = exposure_of(site)
    if value is not None and exposed.kind == "ingress":
        yield _annotation(ISSUER, value)
    elif value is not None and exposed.kind == "gateway-api" and exposed.gateway is None:
        yield cluster(f"Gateway jupyterhub: metadata.annotations.{ISSUER}", value)


def _tls_secret(site: Site, value: str | None, path: KeyPath) -> Iterable[Destination]:
    exposed = exposure_of(site)
    if value is None or not is_https(site):
        return
    if exposed.kind == "ingress":
        yield from _ingress_tls(site)
    elif exposed.kind == "load-balancer":
        yield helm(HUB, "proxy", "https", "secret", "name", value=value)
    elif exposed.gateway is None:
        yield cluster("Gateway jupyterhub: spec.listeners[https].tls.certificateRefs[0].name", value)


def _address(site: Site, value: str | None, path: KeyPath) -> Iterable[Destination]:
    exposed = exposure_of(site)
    if value is not None and exposed.kind == "load-balancer":
        yield helm(HUB, "proxy", "service", "loadBalancerIP", value=value)
    elif value is not None and exposed.kind == "gateway-api" and exposed.gateway is None:
        yield cluster("Gateway jupyterhub: spec.addresses[0].value", value)


def _annotations(site: Site, value: dict[str, str], path: KeyPath) -> Iterable[Destination]:
    kind = exposure_of(site).kind
    for name, setting in value.items():
        if kind == "ingress":
            yield _annotation(name, setting)
        elif kind == "load-balancer":
            yield helm(HUB, "proxy", "service", "annotations", name, value=setting)
        else:
            made = "Gateway" if exposure_of(site).gateway is None else "HTTPRoute"
            yield cluster(f"{made} jupyterhub: metadata.annotations.{name}", setting)


def _parent(field: str) -> Rule:
    def rule(site: Site, value: str | None, path: KeyPath) -> Iterable[Destination]:
        if value is not None and exposure_of(site).kind == "gateway-api":
            yield cluster(f"HTTPRoute jupyterhub: spec.parentRefs[0].{field}", value)

    return rule


def _redirect(site: Site, value: str | None, path: KeyPath) -> Iterable[Destination]:
    if value is not None and exposure_of(site).kind == "gateway-api" and is_https(site):
        yield cluster("HTTPRoute jupyterhub-redirect: spec.parentRefs[0].sectionName", value)


def _ingress_tls(site: Site) -> Iterable[Destination]:
    secret = certificate_secret(site)
    if secret is not None:
        yield helm(HUB, "ingress", "tls", value=[{"hosts": [host_of(site)], "secretName": secret}])


def _annotation(name: str, value: Any, note: str = "") -> Destination:
    return helm(HUB, "ingress", "annotations", name, value=value, note=note)


RULES: dict[str, Rule] = {
    "kubernetes.exposure.kind": _kind,
    "kubernetes.exposure.class": _class,
    "kubernetes.exposure.issuer": _issuer,
    "kubernetes.exposure.tls_secret": _tls_secret,
    "kubernetes.exposure.address": _address,
    "kubernetes.exposure.annotations": _annotations,
    "kubernetes.exposure.gateway.name": _parent("name"),
    "kubernetes.exposure.gateway.namespace": _parent("namespace"),
    "kubernetes.exposure.gateway.listener": _parent("sectionName"),
    "kubernetes.exposure.gateway.redirect_listener": _redirect,
}
