"""Exposure by the Gateway API.

What a Gateway promises is in its status: https://gateway-api.sigs.k8s.io/reference/spec/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidehub.kubernetes.objects import Object
from tidehub.kubernetes.preflight import addresses
from tidehub.kubernetes.preflight.model import Context, Finding, Skip
from tidehub.kubernetes.preflight.selecting import selects
from tidehub.site.destinations import exposure as exposure_values

_CRDS = "have the Gateway API's CRDs installed (gateway-api.sigs.k8s.io), with a controller"


def gateway(context: Context) -> list[Finding]:
    """Whether the Gateway API is there, and the Gateway or class that serves the site takes it."""
    if addresses.kind_of(context) != "gateway-api":
        raise Skip
    look = context.there
    if not look.serves(addresses.GATEWAY_API, "HTTPRoute"):
        older = [version for version, kind in look.plurals() if kind == "HTTPRoute"]
        what = (
            f"the Gateway API is there as {older[0]} only, and {addresses.GATEWAY_API} is needed"
            if older
            else "the cluster has no Gateway API"
        )
        return [Finding("gateway-api", "problem", what, _CRDS)]
    if exposure_values.exposure_of(context.site).gateway is None:
        return _class(context)
    return _given(context)


def _class(context: Context) -> list[Finding]:
    """A Gateway of our own will be made: its class must be taken up by a controller."""
    name = exposure_values.exposure_of(context.site).class_name
    classes = {
        str(one["metadata"]["name"]): one for one in context.there.all(addresses.GATEWAY_API, "GatewayClass")
    }
    names = tuple(f"there is {one}" for one in sorted(classes)) or ("the cluster has no GatewayClass",)
    if name not in classes:
        fix = "write one of those as kubernetes.exposure.class, or have a gateway controller installed"
        return [Finding("gateway-class", "problem", f"the GatewayClass {name} was not found", fix, names)]
    accepted = _condition(classes[name].get("status"), "Accepted")
    controller = str((classes[name].get("spec") or {}).get("controllerName"))
    if accepted.get("status") != "True":
        return [
            Finding(
                "gateway-class",
                "problem",
                f"no controller accepts the GatewayClass {name}",
                "have the gateway controller checked",
                (f"controller {controller}", *_message(accepted)),
            )
        ]
    return [Finding("gateway-class", "ok", f"the GatewayClass {name} is served by {controller}")]


def _given(context: Context) -> list[Finding]:
    """A Gateway of others: it must work, and let the site's route in."""
    given = exposure_values.exposure_of(context.site).gateway
    assert given is not None
    where = given.namespace or context.namespace
    called = f"the Gateway {given.name} in namespace {where}"
    found = addresses.our_gateway(context)
    if found is None:
        there = [
            f"there is {one['metadata']['namespace']}/{one['metadata']['name']}"
            for one in context.there.all(addresses.GATEWAY_API, "Gateway")
        ]
        fix = "write its name and namespace below kubernetes.exposure.gateway, or have it made"
        return [Finding("gateway", "problem", f"{called} was not found", fix, tuple(there))]
    findings = [
        one
        for one in (
            _programmed(found, called),
            _address(found, called),
            _listener(context, found, called, given.listener),
            _redirect(found, called, given.redirect_listener),
        )
        if one is not None
    ]
    return findings or [Finding("gateway", "ok", f"{called} works and lets the site's route in")]


def _programmed(found: Object, called: str) -> Finding | None:
    state = _condition(found.get("status"), "Programmed") or _condition(found.get("status"), "Ready")
    if state.get("status") == "True":
        return None
    return Finding(
        "gateway-programmed",
        "problem",
        f"{called} is not programmed: its controller has not put it to work",
        "have the gateway controller checked",
        _message(state) or ("no controller has reported a status for it",),
    )


def _address(found: Object, called: str) -> Finding | None:
    if (found.get("status") or {}).get("addresses"):
        return None
    return Finding(
        "gateway-address",
        "problem",
        f"{called} has no address",
        "have the load balancer behind it checked: the Gateway is not reachable without one",
    )


def _listener(context: Context, found: Object, called: str, name: str | None) -> Finding | None:
    listeners: list[dict[str, Any]] = (found.get("spec") or {}).get("listeners") or []
    has = tuple(
        f"it has {one['name']}: {one.get('hostname', '*')}, {one.get('protocol')}" for one in listeners
    )
    chosen = [one for one in listeners if name is None or one["name"] == name]
    if not chosen:
        return Finding(
            "gateway-listener", "problem", f"{called} has no listener {name}", "write one that it has", has
        )
    host = exposure_values.host_of(context.site) or ""
    matching = [one for one in chosen if _matches(str(one.get("hostname") or ""), host)]
    if not matching:
        return Finding(
            "gateway-host",
            "problem",
            f"no listener of {called} takes the host {host}",
            "have a listener for it added, or use a host of one that is there",
            has,
        )
    https = exposure_values.is_https(context.site)
    if https and not any(one.get("protocol") in ("HTTPS", "TLS") for one in matching):
        return Finding(
            "gateway-protocol",
            "problem",
            f"the site's address is https, and no listener of {called} for {host} is",
            "have a listener with a certificate added",
            has,
        )
    if not any(_allows(context, one, str(found["metadata"]["namespace"])) for one in matching):
        return Finding(
            "gateway-routes",
            "problem",
            f"{called} lets no HTTPRoute of the namespace {context.namespace} in",
            "have allowedRoutes of its listener widened, for example by a label on this namespace",
            tuple(f"{one['name']}: {_routes(one)}" for one in matching),
        )
    return _resolved(found, called, [str(one["name"]) for one in matching])


def _resolved(found: Object, called: str, names: list[str]) -> Finding | None:
    """Whether the listener's certificate is there, by its own word."""
    for status in (found.get("status") or {}).get("listeners") or []:
        refs = _condition(status, "ResolvedRefs")
        if status.get("name") in names and refs.get("status") == "False":
            return Finding(
                "gateway-certificate",
                "problem",
                f"the listener {status['name']} of {called} lacks what it refers to",
                "have its certificate put in place",
                _message(refs),
            )
    return None


def _redirect(found: Object, called: str, name: str | None) -> Finding | None:
    listeners = (found.get("spec") or {}).get("listeners") or []
    if name is None or any(one["name"] == name for one in listeners):
        return None
    return Finding(
        "gateway-redirect",
        "problem",
        f"{called} has no listener {name} to send users on from",
        "write one that it has as kubernetes.exposure.gateway.redirect_listener, or none",
    )


def _matches(pattern: str, host: str) -> bool:
    if not pattern:
        return True
    if pattern.startswith("*."):
        return host.lower().endswith(pattern[1:].lower())
    return pattern.lower() == host.lower()


def _allows(context: Context, listener: Mapping[str, Any], home: str) -> bool:
    allowed = listener.get("allowedRoutes") or {}
    kinds = allowed.get("kinds") or []
    if kinds and not any(kind.get("kind") == "HTTPRoute" for kind in kinds):
        return False
    spaces = allowed.get("namespaces") or {}
    match spaces.get("from", "Same"):
        case "All":
            return True
        case "Same":
            return home == context.namespace
        case "Selector":
            space = context.there.one("v1", "Namespace", context.namespace)
            labels = ((space or {}).get("metadata") or {}).get("labels") or {}
            labels = {"kubernetes.io/metadata.name": context.namespace, **labels}
            return selects(spaces.get("selector"), labels)
    return False


def _routes(listener: Mapping[str, Any]) -> str:
    spaces = (listener.get("allowedRoutes") or {}).get("namespaces") or {}
    from_ = str(spaces.get("from", "Same"))
    if from_ != "Selector":
        return f"routes of namespaces: {from_}"
    labels = (spaces.get("selector") or {}).get("matchLabels") or {}
    wanted = ", ".join(f"{key}={value}" for key, value in labels.items())
    return f"routes of namespaces with {wanted or 'certain labels'}"


def _condition(status: Mapping[str, Any] | None, kind: str) -> Mapping[str, Any]:
    return next((one for one in (status or {}).get("conditions") or [] if one.get("type") == kind), {})


def _message(condition: Mapping[str, Any]) -> tuple[str, ...]:
    text = condition.get("message") or condition.get("reason")
    return (str(text),) if text else ()
