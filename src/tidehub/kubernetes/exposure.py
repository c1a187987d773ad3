"""The exposure: values of the jupyterhub chart, and the Gateway and routes that tidehub makes itself. Pure.

Fields are those of gateway.networking.k8s.io/v1 (Gateway API 1.2, where a route's timeouts became part of the standard
channel; with older CRDs `objects` leaves them out).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tidehub.kubernetes.objects import Object
from tidehub.site.destinations import exposure as exposure_values
from tidehub.site.destinations.catalogue import leaves, value_at
from tidehub.site.destinations.exposure import ISSUER, PATIENCE_SECONDS, certificate_secret, host_of, is_https
from tidehub.site.model import Site

API = "gateway.networking.k8s.io/v1"
GATEWAY, ROUTE, REDIRECT = "jupyterhub", "jupyterhub", "jupyterhub-redirect"
"""Names of our objects. The chart's own route, which we leave off, would be named like ours."""
PROXY, PROXY_PORT = "proxy-public", 80
_HTTP, _HTTPS = "http", "https"
_RULES = exposure_values.RULES | {
    "site.url": exposure_values.url_values,
    "site.contact": exposure_values.contact_values,
}
_LABELS = {"app.kubernetes.io/managed-by": "tidehub", "app.kubernetes.io/component": "exposure"}


def hub_values(site: Site) -> dict[str, Any]:
    """Values of the jupyterhub chart for the exposure; the same as in `helm_fragments`, which holds them too.

    In the chart's own shape also for the model `daskhub`.
    """
    values: dict[str, Any] = {}
    for path in leaves(site):
        rule = _RULES.get(".".join(map(str, path)))
        for one in rule(site, value_at(site, path), path) if rule else ():
            if one.where == "helm":
                inner = values
                for part in one.path[:-1]:
                    inner = inner.setdefault(str(part), {})
                inner[str(one.path[-1])] = one.value
    return values


def objects(site: Site, *, served: Iterable[str] | None = None) -> list[Object]:
    """The Gateway and HTTPRoutes of a site with the Gateway API; otherwise the chart makes the exposure.

    `served` are API versions of the cluster as in `Cluster.api_versions`; without them, today's.
    """
    exposed = exposure_values.exposure_of(site)
    if exposed.kind != "gateway-api":
        return []
    known = None if served is None else set(served)
    api = API if known is None or f"{API}/HTTPRoute" in known or API in known else f"{API}beta1"
    made = [] if exposed.gateway else [_gateway(site, api)]
    made.append(_route(site, api, timeouts=api == API))
    redirect = _redirect(site, api)
    return made + ([redirect] if redirect else [])


def _gateway(site: Site, api: str) -> Object:
    exposed, host = exposure_values.exposure_of(site), host_of(site)
    annotations = dict(exposed.annotations)
    if exposed.issuer and is_https(site):
        annotations[ISSUER] = exposed.issuer
    same = {"allowedRoutes": {"namespaces": {"from": "Same"}}} | ({"hostname": host} if host else {})
    listeners: list[dict[str, Any]] = [{"name": _HTTP, "protocol": "HTTP", "port": 80, **same}]
    secret = certificate_secret(site)
    if secret is not None:
        tls = {"mode": "Terminate", "certificateRefs": [{"kind": "Secret", "name": secret}]}
        listeners.append({"name": _HTTPS, "protocol": "HTTPS", "port": 443, "tls": tls, **same})
    spec: dict[str, Any] = {"gatewayClassName": exposed.class_name, "listeners": listeners}
    if exposed.address:
        spec["addresses"] = [{"type": "IPAddress", "value": exposed.address}]
    return _object(api, "Gateway", GATEWAY, spec, annotations)


def _route(site: Site, api: str, *, timeouts: bool) -> Object:
    exposed = exposure_values.exposure_of(site)
    rule: dict[str, Any] = {
        "matches": [{"path": {"type": "PathPrefix", "value": _prefix(site)}}],
        "backendRefs": [{"name": PROXY, "port": PROXY_PORT}],
    }
    if timeouts:
        # What serves the route may end requests after 15 seconds otherwise (Envoy): a large download takes longer.
        rule["timeouts"] = {"request": f"{PATIENCE_SECONDS}s"}
    listener = exposed.gateway.listener if exposed.gateway else (_HTTPS if is_https(site) else _HTTP)
    spec = {"parentRefs": [_parent(site, listener)], **_hostnames(site), "rules": [rule]}
    return _object(api, "HTTPRoute", ROUTE, spec, exposed.annotations if exposed.gateway else {})


def _redirect(site: Site, api: str) -> Object | None:
    exposed = exposure_values.exposure_of(site)
    listener = exposed.gateway.redirect_listener if exposed.gateway else _HTTP
    if listener is None or not is_https(site):
        return None
    to = {"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "statusCode": 301}}
    rule = {"matches": [{"path": {"type": "PathPrefix", "value": _prefix(site)}}], "filters": [to]}
    spec = {"parentRefs": [_parent(site, listener)], **_hostnames(site), "rules": [rule]}
    return _object(api, "HTTPRoute", REDIRECT, spec, {})


def _prefix(site: Site) -> str:
    """Base path as the Gateway API matches it: by whole parts, so that `/hub` is also `/hub/`."""
    return site.base_path.rstrip("/") or "/"


def _parent(site: Site, listener: str | None) -> dict[str, Any]:
    given = exposure_values.exposure_of(site).gateway
    parent = {
        "group": "gateway.networking.k8s.io",
        "kind": "Gateway",
        "name": given.name if given else GATEWAY,
    }
    if given and given.namespace:
        parent["namespace"] = given.namespace
    return parent | ({"sectionName": listener} if listener else {})


def _hostnames(site: Site) -> dict[str, Any]:
    host = host_of(site)
    return {"hostnames": [host]} if host else {}


def _object(
    api: str, kind: str, name: str, spec: Mapping[str, Any], annotations: Mapping[str, str]
) -> Object:
    metadata: dict[str, Any] = {"name": name, "labels": dict(_LABELS)}
    if annotations:
        metadata["annotations"] = dict(annotations)
    return {"apiVersion": api, "kind": kind, "metadata": metadata, "spec": dict(spec)}
