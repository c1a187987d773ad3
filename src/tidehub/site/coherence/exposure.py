"""The exposure, against itself: which of its keys need or exclude each other. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tidehub.site.destinations.exposure import CLASS, is_https
from tidehub.site.model import Site
from tidehub.site.model.deployment import Exposure
from tidehub.site.problems import KeyPath, Problem, warning

_AT: KeyPath = ("kubernetes", "exposure")
_MAIL = re.compile(r"[^@\s:/]+@[^@\s:/]+\.[^@\s:/]+")


def check_exposure(site: Site) -> list[Problem]:
    """Contradictions in `kubernetes.exposure`."""
    if site.kubernetes is None:
        return []
    exposed = site.kubernetes.exposure
    return [*_gateway(site, exposed), *_certificate(site, exposed), *_unused(exposed), *_twice(exposed)]


def _gateway(site: Site, exposed: Exposure) -> Iterator[Problem]:
    if exposed.kind != "gateway-api":
        if exposed.gateway is not None:
            fix = "write kind: gateway-api, or remove it"
            yield Problem(f"a Gateway serves no site of kind {exposed.kind}", (*_AT, "gateway"), fix=fix)
        return
    if exposed.gateway is None and exposed.class_name is None:
        yield Problem(
            "no Gateway is named that serves the site, nor a class to make one of",
            (*_AT, "kind"),
            expected="gateway: {name: ..., namespace: ..., listener: https}, or class: ... for a Gateway of its own",
            fix="see what there is with: kubectl get gateways -A; kubectl get gatewayclasses",
        )
    elif exposed.gateway is not None and exposed.class_name is not None:
        fix = "remove the class: the Gateway that is named has its own"
        yield Problem("a Gateway is named, and a class to make another one of", (*_AT, "class"), fix=fix)
    gateway = exposed.gateway
    if gateway is not None and gateway.redirect_listener and not is_https(site):
        what = "users are sent on to https, and the site's address is http"
        yield Problem(what, (*_AT, "gateway", "redirect_listener"), fix="remove it, or correct site.url")
    elif gateway is not None and gateway.redirect_listener and not gateway.listener:
        yield Problem(
            "without a listener of its own the site's route is also at the one that sends users on to https",
            (*_AT, "gateway", "redirect_listener"),
            fix="name the https listener with gateway.listener",
        )
    elif gateway is not None and gateway.redirect_listener == gateway.listener and gateway.listener:
        what = "the listener sends users on to itself"
        yield Problem(
            what, (*_AT, "gateway", "redirect_listener"), fix="name the http listener, or remove it"
        )


def _certificate(site: Site, exposed: Exposure) -> Iterator[Problem]:
    if exposed.kind != "load-balancer" or not is_https(site) or exposed.tls_secret:
        return
    if not site.site.contact or not _MAIL.fullmatch(site.site.contact.removeprefix("mailto:")):
        yield Problem(
            "Let's Encrypt, which signs the certificate behind a load balancer, wants an e-mail address",
            ("site", "contact"),
            expected="an address such as admins@example.org",
            fix="write it, or name a Secret with kubernetes.exposure.tls_secret",
        )


def _unused(exposed: Exposure) -> Iterator[Problem]:
    given = exposed.gateway is not None
    if exposed.issuer and (exposed.kind == "load-balancer" or given):
        whose = "who keeps the Gateway" if given else "the chart itself, from Let's Encrypt"
        yield warning(f"the issuer is not asked: the certificate is got by {whose}", (*_AT, "issuer"))
    if exposed.tls_secret and given:
        yield warning("the Gateway that is named has its own certificate", (*_AT, "tls_secret"))
    if exposed.address and (exposed.kind == "ingress" or given):
        whose = "the Gateway" if given else "the Ingress controller"
        yield warning(f"the address is that of {whose}, and cannot be asked for", (*_AT, "address"))
    if exposed.class_name and exposed.kind == "load-balancer":
        yield warning("a load balancer has no class", (*_AT, "class"))


def _twice(exposed: Exposure) -> Iterator[Problem]:
    for name in exposed.annotations:
        key = {CLASS: "class", "cert-manager.io/cluster-issuer": "issuer"}.get(name)
        if key is not None and exposed.kind == "ingress":
            fix = f"write kubernetes.exposure.{key}"
            yield Problem(f"{name} has a key of its own", (*_AT, "annotations", name), fix=fix)
