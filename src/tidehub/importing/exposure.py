"""Where users find the platform: host, base path, TLS, ingress class."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from tidehub.importing.charts import Recognised
from tidehub.importing.draft import Draft, is_line
from tidehub.importing.fates import ChartValues, leaves
from tidehub.importing.login import callback_path
from tidehub.site.problems import KeyPath

_CLASS = "kubernetes.io/ingress.class"
_ISSUERS = ("cert-manager.io/cluster-issuer", "certmanager.k8s.io/cluster-issuer")
_HOST = re.compile(r"(?i:[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)(\.(?i:[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?))*")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_OWN_ROUTE = "tidehub's own HTTPRoute has it, with the base path, timeouts and the way to https beside it"
_BY_HAND = "the Ingress written by hand: tidehub makes one that leads to the hub; other Ingresses stay yours"


def import_exposure(found: Recognised, draft: Draft) -> None:
    """Set `site.url` and `kubernetes.exposure`."""
    hub = found.jupyterhub
    kind = "ingress" if found.ingress.data else _kind(hub)
    draft.put("kubernetes.exposure.kind", kind)
    _ingress(hub, draft, issued=bool(_issuer(hub, ("ingress", "annotations"))))
    _by_hand(found.ingress, draft)
    if hub.mapping("httpRoute"):
        _http_route(hub, draft)
    _service(hub, kind)
    _url(found, draft)


def _kind(hub: ChartValues) -> str:
    if hub.get("httpRoute", "enabled") is True:
        return "gateway-api"
    if hub.get("ingress", "enabled") is not True and (
        hub.get("proxy", "https", "enabled") is True or hub.get("proxy", "service", "type") == "LoadBalancer"
    ):
        return "load-balancer"
    return "ingress"


def _ingress(hub: ChartValues, draft: Draft, *, issued: bool) -> None:
    enabled: KeyPath = ("ingress", "enabled")
    if hub.get(*enabled) is True:
        hub.understood(enabled, "kubernetes.exposure.kind")
    elif hub.has(*enabled):
        hub.dropped(enabled, "no Ingress of the chart's own; kubernetes.exposure says what is there instead")
    _class(hub, ("ingress", "ingressClassName"), ("ingress", "annotations"), draft)
    path: KeyPath = ("ingress", "pathType")
    if hub.get(*path) == "Prefix":
        hub.dropped(path, "the chart's own default")
    hosts = hub.get("ingress", "hosts")
    if isinstance(hosts, list) and len(hosts) == 1 and _is_host(hosts[0]):
        hub.understood(("ingress", "hosts"), "site.url")
    elif isinstance(hosts, list) and hosts:
        hub.passed(("ingress", "hosts"), "site.url takes the first; the others are kept here")
    _tls(hub, ("ingress", "tls"), hosts, issued)


def _tls(hub: ChartValues, path: KeyPath, hosts: Any, issued: bool) -> None:
    tls = hub.get(*path)
    if not isinstance(tls, list) or not tls:
        return
    plain = all(isinstance(item, dict) and set(item) <= {"hosts", "secretName"} for item in tls)
    if issued and plain and len(tls) == 1 and tls[0].get("hosts", hosts) == hosts:
        hub.translated(
            path,
            "kubernetes.exposure.issuer",
            "tidehub names the certificate's Secret itself; cert-manager signs it anew",
        )
    else:
        hub.passed(path, "no cert-manager issuer makes this certificate, so its Secret is kept as it is")


def _class(values: ChartValues, field: KeyPath, annotations: KeyPath, draft: Draft) -> None:
    key = "kubernetes.exposure.class"
    named, noted = values.get(*field), values.get(*annotations, _CLASS)
    if isinstance(named, str) and _NAME.fullmatch(named):
        draft.put(key, named, values.place(field))
        values.understood(field, key)
    if isinstance(noted, str) and _NAME.fullmatch(noted):
        if draft.get(key) in (None, noted):
            draft.put(key, noted, values.place((*annotations, _CLASS)))
            remark = f"the annotation {_CLASS} is the old way to say it; the chart's version decides which is written"
            values.translated((*annotations, _CLASS), key, remark)
        else:
            values.passed((*annotations, _CLASS), f"another class than {draft.get(key)}: only one counts")
    issuer = _issuer(values, annotations)
    if issuer is not None:
        draft.put("kubernetes.exposure.issuer", values.get(*issuer), values.place(issuer))
        values.understood(issuer, "kubernetes.exposure.issuer")
    path: KeyPath = (*annotations, "kubernetes.io/tls-acme")
    if values.get(*path) in (True, "true") and issuer is not None:
        values.dropped(path, "the issuer says it already")


def _issuer(values: ChartValues, annotations: KeyPath) -> KeyPath | None:
    for name in _ISSUERS:
        value = values.get(*annotations, name)
        if isinstance(value, str) and _NAME.fullmatch(value):
            return (*annotations, name)
    return None


def _by_hand(ingress: ChartValues, draft: Draft) -> None:
    """An Ingress object beside the chart, as administrators write it where the chart's own lacks host and TLS."""
    if not ingress.data:
        return
    _class(ingress, ("spec", "ingressClassName"), ("metadata",), draft)
    namespace = ingress.get("metadata", "namespace")
    if isinstance(namespace, str) and _NAME.fullmatch(namespace):
        draft.put("kubernetes.namespace", namespace, ingress.place(("metadata", "namespace")))
        ingress.understood(("metadata", "namespace"), "kubernetes.namespace")
    for index, rule in enumerate(ingress.get("spec", "rules") or []):
        if isinstance(rule, dict) and _is_host(rule.get("host")):
            ingress.understood(("spec", "rules", index, "host"), "site.url")
    if ingress.get("spec", "tls"):
        ingress.translated(("spec", "tls"), "kubernetes.exposure.issuer", "tidehub names the Secret itself")
    if ingress.has("status"):
        ingress.dropped(("status",), "Kubernetes writes this itself and ignores it here")
    if ingress.has("metadata", "annotations"):
        ingress.dropped(("metadata", "annotations"), "kubectl and Helm write this themselves")
    for leaf in leaves(ingress.data):
        ingress.dropped(leaf, _BY_HAND)


def _http_route(hub: ChartValues, draft: Draft) -> None:
    if hub.get("httpRoute", "enabled") is not True:
        hub.dropped(("httpRoute",), "no route of the chart's own, and none is made")
        return
    hub.translated(("httpRoute", "enabled"), "kubernetes.exposure.kind", _OWN_ROUTE)
    hosts = hub.get("httpRoute", "hostnames")
    if isinstance(hosts, list) and len(hosts) == 1 and _is_host(hosts[0]):
        hub.translated(("httpRoute", "hostnames"), "site.url", _OWN_ROUTE)
    for name, key in (("name", "name"), ("namespace", "namespace"), ("sectionName", "listener")):
        path: KeyPath = ("httpRoute", "gateway", name)
        value = hub.get(*path)
        if isinstance(value, str) and _NAME.fullmatch(value):
            draft.put(f"kubernetes.exposure.gateway.{key}", value, hub.place(path))
            hub.translated(path, f"kubernetes.exposure.gateway.{key}", _OWN_ROUTE)
    if draft.get("kubernetes.exposure.gateway.name") is None:
        why = "the values name no Gateway, and this is the chart's own word for one: write the name of yours"
        draft.choose("kubernetes.exposure.gateway.name", "your-gateway", why)
    key = "kubernetes.exposure.annotations"
    notes = {
        name: value
        for name, value in hub.mapping("httpRoute", "annotations").items()
        if isinstance(value, str)
    }
    if notes:
        draft.put(key, notes)
    for name in notes:
        hub.translated(("httpRoute", "annotations", name), key, _OWN_ROUTE)
    for leaf in leaves(hub.mapping("httpRoute")):
        reason = "tidehub makes the route itself: one host, that of site.url, at the Gateway that is named"
        hub.dropped(("httpRoute", *leaf), reason)


def _service(hub: ChartValues, kind: str) -> None:
    path: KeyPath = ("proxy", "service", "type")
    service = hub.get(*path)
    if service == "ClusterIP" and kind != "load-balancer":
        hub.dropped(path, "tidehub does this itself behind an Ingress or a Gateway")
    elif service == "LoadBalancer" and kind == "load-balancer":
        hub.understood(path, "kubernetes.exposure.kind")
    https = hub.mapping("proxy", "https")
    hosts = https.get("hosts")
    if https.get("enabled") is True and isinstance(hosts, list) and len(hosts) == 1 and _is_host(hosts[0]):
        hub.understood(("proxy", "https", "hosts"), "site.url")


def _url(found: Recognised, draft: Draft) -> None:
    hub = found.jupyterhub
    base = _base(hub)
    host = _host(found)
    callback = hub.text("hub", "config", "GenericOAuthenticator", "oauth_callback_url")
    for section in hub.mapping("hub", "config"):
        callback = callback or hub.text("hub", "config", section, "oauth_callback_url")
    parts = urlsplit(callback) if callback and callback_path(callback) is not None else None
    if host is None and parts is not None:
        host = parts.netloc
    if base is None:
        base = callback_path(callback) if parts is not None and callback else None
        base = "/" if base is None else base
    if host is None:
        return
    secure = parts is None or parts.scheme == "https" or parts.netloc != host
    draft.put("site.url", f"{'https' if secure else 'http'}://{host}{base if base != '/' else ''}")


def _base(hub: ChartValues) -> str | None:
    path: KeyPath = ("hub", "baseUrl")
    base = hub.text(*path)
    if base is None or not re.fullmatch(r"/?([A-Za-z0-9._~-]+/?)*", base):
        return None
    plain = f"/{base.strip('/')}/" if base.strip("/") else "/"
    hub.understood(path, "site.url")
    return plain


def _host(found: Recognised) -> str | None:
    hub = found.jupyterhub
    lists: list[Any] = [hub.get("ingress", "hosts"), hub.get("httpRoute", "hostnames")]
    if hub.get("proxy", "https", "enabled") is True:
        lists.append(hub.get("proxy", "https", "hosts"))
    rules = found.ingress.get("spec", "rules")
    lists.append([rule.get("host") for rule in rules or [] if isinstance(rule, dict)] if rules else None)
    for hosts in lists:
        if isinstance(hosts, list) and hosts and _is_host(hosts[0]):
            return str(hosts[0]).strip()
    return None


def _is_host(value: Any) -> bool:
    return is_line(value) and len(value) < 254 and _HOST.fullmatch(value.strip()) is not None
