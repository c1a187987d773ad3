"""The address of the exposure: of an Ingress, a Gateway or a load balancer."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from tidehub.kubernetes.objects import Object
from tidehub.kubernetes.preflight.model import Context
from tidehub.site.destinations import exposure as exposure_values

GATEWAY_API = "gateway.networking.k8s.io/v1"
PROXY = "proxy-public"


def kind_of(context: Context) -> str:
    """`ingress`, `gateway-api` or `load-balancer`."""
    return exposure_values.exposure_of(context.site).kind


def service_addresses(service: Object | None) -> list[str]:
    """Addresses at which a Service is reached from outside: its load balancer's, and those that its spec states."""
    found = load_balancer_addresses((service or {}).get("status"))
    return found or [str(one) for one in ((service or {}).get("spec") or {}).get("externalIPs") or []]


def load_balancer_addresses(status: Mapping[str, Any] | None) -> list[str]:
    """IP addresses and names in `status.loadBalancer`."""
    entries = ((status or {}).get("loadBalancer") or {}).get("ingress") or []
    return [
        str(entry.get("ip") or entry.get("hostname"))
        for entry in entries
        if entry.get("ip") or entry.get("hostname")
    ]


def exposure(context: Context) -> list[str]:
    """Addresses (IP or name) that lead to the platform, as far as the cluster says; empty where it does not."""
    look, kind = context.there, kind_of(context)
    if kind == "gateway-api":
        gateway = our_gateway(context)
        entries = ((gateway or {}).get("status") or {}).get("addresses") or []
        return [str(entry["value"]) for entry in entries if entry.get("value")]
    if kind == "load-balancer":
        service = look.one("v1", "Service", PROXY, context.namespace)
        found = service_addresses(service)
        asked = exposure_values.exposure_of(context.site).address
        return found or ([asked] if asked else [])
    name = ingress_class_name(context)
    own, same = [], []
    for ingress in look.all("networking.k8s.io/v1", "Ingress"):
        there = load_balancer_addresses(ingress.get("status"))
        if ingress["metadata"].get("namespace") == context.namespace:
            own += there
        elif class_of(ingress) == name:
            same += there
    return list(dict.fromkeys(own or same or _controllers(context)))


def ingress_class_name(context: Context) -> str | None:
    """The class that the site names, else the cluster's default one."""
    stated = exposure_values.exposure_of(context.site).class_name
    if stated:
        return stated
    for one in context.there.all("networking.k8s.io/v1", "IngressClass"):
        if is_default_class(one):
            return str(one["metadata"]["name"])
    return None


def is_default_class(one: Object) -> bool:
    """Whether Ingresses without a class are of this one."""
    annotations = one["metadata"].get("annotations") or {}
    return bool(annotations.get("ingressclass.kubernetes.io/is-default-class") == "true")


def class_of(ingress: Object) -> str | None:
    """By its field, else by the annotation of old."""
    stated = (ingress.get("spec") or {}).get("ingressClassName")
    return stated or (ingress["metadata"].get("annotations") or {}).get(exposure_values.CLASS)


def our_gateway(context: Context) -> Object | None:
    """The Gateway that serves the site, where it is there."""
    given = exposure_values.exposure_of(context.site).gateway
    name = given.name if given else "jupyterhub"
    where = (given.namespace if given else None) or context.namespace
    return context.there.one(GATEWAY_API, "Gateway", name, where)


def controller_services(context: Context) -> list[Object]:
    """Services that bring web traffic from outside to something that is not a platform of ours."""
    return [
        one
        for one in context.there.all("v1", "Service")
        if ((one.get("spec") or {}).get("type") == "LoadBalancer" or service_addresses(one))
        and one["metadata"]["name"] != PROXY
        and {80, 443} & {port.get("port") for port in one["spec"].get("ports") or []}
    ]


def is_ip(text: str) -> bool:
    """Whether it is an address and no name."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_private(addresses: Iterable[str]) -> bool:
    """Whether all are addresses that only this network knows."""
    return all(is_ip(one) and ipaddress.ip_address(one).is_private for one in addresses)


def _controllers(context: Context) -> list[str]:
    found = [one for service in controller_services(context) for one in service_addresses(service)]
    return found if len(set(found)) == 1 else []
