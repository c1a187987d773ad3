"""`kubernetes.exposure`: which of its keys need or exclude each other, and what `explain` says of them."""

from __future__ import annotations

from typing import Any

import pytest

from tidehub.site.destinations.catalogue import destinations
from tidehub.site.presets import text_of
from tidehub.site.problems import SiteError
from tidehub.site.reading.load import load_text

GATEWAY = {"name": "public", "listener": "https"}


def load(exposed: dict[str, Any], **values: Any) -> Any:
    overrides = [("kubernetes.exposure", exposed)]
    overrides += [(key.replace("__", "."), value) for key, value in values.items()]
    return load_text(text_of("protocoast"), "protocoast", overrides=overrides)


def errors(exposed: dict[str, Any], **values: Any) -> str:
    with pytest.raises(SiteError) as caught:
        load(exposed, **values)
    return str(caught.value)


@pytest.mark.parametrize(
    ("exposed", "said"),
    [
        ({"kind": "gateway-api"}, "no Gateway is named"),
        ({"kind": "gateway-api", "class": "envoy", "gateway": GATEWAY}, "a class to make another"),
        ({"kind": "ingress", "gateway": GATEWAY}, "serves no site of kind ingress"),
        ({"kind": "load-balancer", "gateway": GATEWAY}, "serves no site of kind load-balancer"),
        ({"kind": "gateway-api", "gateway": {**GATEWAY, "redirect_listener": "https"}}, "to itself"),
        ({"kind": "gateway-api", "gateway": {"name": "a", "redirect_listener": "http"}}, "also at the one"),
        ({"kind": "gateway-api", "gateway": {}}, "name"),
        ({"kind": "load-balancer"}, "e-mail"),
        ({"kind": "load-balancer", "address": "hub.example.org"}, "is not an IP address"),
        ({"kind": "ingress", "annotations": {"kubernetes.io/ingress.class": "x"}}, "exposure.class"),
        ({"kind": "ingress", "annotations": {"cert-manager.io/cluster-issuer": "x"}}, "exposure.issuer"),
        ({"kind": "ingress", "annotations": {"a b": "x"}}, "annotations"),
        ({"kind": "ingress", "tls_secret": "Mine"}, "tls_secret"),
    ],
)
def test_contradictions(exposed: dict[str, Any], said: str) -> None:
    assert said in errors(exposed)


def test_nobody_is_sent_on_from_http_to_http() -> None:
    exposed = {"kind": "gateway-api", "gateway": {**GATEWAY, "redirect_listener": "http"}}
    assert "the site's address is http" in errors(exposed, site__url="http://hub.example.org")


@pytest.mark.parametrize(
    ("exposed", "said"),
    [
        ({"kind": "load-balancer", "tls_secret": "a", "issuer": "x"}, "the issuer is not asked"),
        ({"kind": "gateway-api", "gateway": GATEWAY, "issuer": "x"}, "the issuer is not asked"),
        ({"kind": "gateway-api", "gateway": GATEWAY, "tls_secret": "x"}, "its own certificate"),
        ({"kind": "gateway-api", "gateway": GATEWAY, "address": "192.0.2.7"}, "cannot be asked for"),
        ({"kind": "ingress", "address": "192.0.2.7"}, "cannot be asked for"),
        ({"kind": "load-balancer", "tls_secret": "a", "class": "nginx"}, "has no class"),
    ],
)
def test_what_has_no_effect_is_told(exposed: dict[str, Any], said: str) -> None:
    assert any(said in str(one) for one in load(exposed).warnings)


@pytest.mark.parametrize(
    "exposed",
    [
        {"kind": "ingress", "class": "nginx", "issuer": "a", "annotations": {"a.example.org/b": "c"}},
        {"kind": "gateway-api", "class": "envoy", "issuer": "a", "tls_secret": "b", "address": "2001:db8::1"},
        {"kind": "gateway-api", "gateway": {**GATEWAY, "namespace": "x", "redirect_listener": "http"}},
        {"kind": "load-balancer", "tls_secret": "a", "address": "192.0.2.7"},
    ],
)
def test_what_goes_together(exposed: dict[str, Any]) -> None:
    assert not [one for one in load(exposed).warnings if one.path[:2] == ("kubernetes", "exposure")]


def test_lets_encrypt_has_an_address_to_write_to() -> None:
    site = load({"kind": "load-balancer"}, site__contact="mailto:admins@example.org").site
    found = [one for one in destinations(site, ("site", "contact")) if "letsencrypt" in one.key]
    assert [(one.key, one.value) for one in found] == [
        ("proxy.https.letsencrypt.contactEmail", "admins@example.org")
    ]


def test_explain_knows_the_objects_beside_the_charts() -> None:
    site = load({"kind": "gateway-api", "gateway": GATEWAY}).site
    found = destinations(site, ("kubernetes", "exposure", "gateway", "name"))
    assert [(one.where, one.key, one.value) for one in found] == [
        ("cluster", "HTTPRoute jupyterhub: spec.parentRefs[0].name", "public")
    ]
