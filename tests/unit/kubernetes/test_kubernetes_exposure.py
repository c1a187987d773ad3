"""The exposure: what the charts are told, and the Gateway and routes of tidehub's own."""

from __future__ import annotations

from typing import Any

import pytest

from tidehub.kubernetes import exposure
from tidehub.kubernetes.objects import Object
from tidehub.site.destinations.catalogue import helm_fragments
from tidehub.site.destinations.exposure import NGINX
from tidehub.site.model import Site
from tidehub.site.presets import text_of
from tidehub.site.reading.load import load_text

HOST = "protocoast.vm.fedcloud.eu"


def site(preset: str = "protocoast", *, base: str = "", **exposed: Any) -> Site:
    overrides: list[tuple[str, Any]] = [("kubernetes.exposure", exposed)] if exposed else []
    overrides.append(("site.contact", "admins@example.org"))
    if base:
        overrides.append(("site.url", f"https://{HOST}{base}"))
    return load_text(text_of(preset), preset, overrides=overrides).site


def by_name(made: list[Object]) -> dict[tuple[str, str], Object]:
    return {(obj["kind"], obj["metadata"]["name"]): obj for obj in made}


def test_an_ingress_is_the_charts_and_survives_upgrades() -> None:
    assert exposure.objects(site()) == []
    values = exposure.hub_values(site())
    assert values["ingress"] == {
        "enabled": True,
        "ingressClassName": "nginx",
        "annotations": {"cert-manager.io/cluster-issuer": "letsencrypt-prod", **NGINX},
        "hosts": [HOST],
        "tls": [{"hosts": [HOST], "secretName": HOST}],
    }
    assert values["proxy"]["service"]["type"] == "ClusterIP"


def test_old_charts_take_the_class_by_annotation_only() -> None:
    old = [("kubernetes.model", "daskhub"), ("kubernetes.charts", {"daskhub": "2022.6.0"})]
    ingress = exposure.hub_values(load_text(text_of("egi-pangeo"), "x", overrides=old).site)["ingress"]
    assert "ingressClassName" not in ingress
    assert ingress["annotations"]["kubernetes.io/ingress.class"] == "nginx"


@pytest.mark.parametrize("preset", ["protocoast", "egi-pangeo"])
@pytest.mark.parametrize("kind", ["ingress", "gateway-api", "load-balancer"])
def test_the_values_are_those_of_explain(preset: str, kind: str) -> None:
    given = site(
        preset, kind=kind, **({} if kind == "load-balancer" else {"class": "x"}), annotations={"a": "b"}
    )
    fragments = helm_fragments(given)
    whole = fragments.get("daskhub", fragments)["jupyterhub"]

    def contained(part: Any, inside: Any) -> bool:
        if isinstance(part, dict):
            return all(contained(value, inside[key]) for key, value in part.items())
        return bool(part == inside)

    assert contained(exposure.hub_values(given), whole)


def test_annotations_replace_what_tidehub_would_say() -> None:
    name = "nginx.ingress.kubernetes.io/proxy-body-size"
    ingress = exposure.hub_values(site(kind="ingress", **{"class": "nginx"}, annotations={name: "1g"}))[
        "ingress"
    ]
    assert ingress["annotations"][name] == "1g"
    assert ingress["annotations"]["nginx.ingress.kubernetes.io/proxy-read-timeout"] == "3600"


def test_other_controllers_get_none_of_nginx() -> None:
    ingress = exposure.hub_values(site(kind="ingress", **{"class": "traefik"}))["ingress"]
    assert ingress["ingressClassName"] == "traefik"
    assert "annotations" not in ingress


def test_a_certificate_of_ones_own() -> None:
    ingress = exposure.hub_values(site(kind="ingress", tls_secret="wildcard"))["ingress"]
    assert ingress["tls"] == [{"hosts": [HOST], "secretName": "wildcard"}]


def test_a_load_balancer_gets_its_certificate_itself() -> None:
    values = exposure.hub_values(site(kind="load-balancer", address="192.0.2.7", annotations={"a": "b"}))
    assert values["ingress"] == {"enabled": False}
    assert values["proxy"]["service"] == {
        "type": "LoadBalancer",
        "loadBalancerIP": "192.0.2.7",
        "annotations": {"a": "b"},
    }
    assert values["proxy"]["https"] == {
        "enabled": True,
        "hosts": [HOST],
        "type": "letsencrypt",
        "letsencrypt": {"contactEmail": "admins@example.org"},
    }


def test_a_load_balancer_with_a_certificate_of_ones_own() -> None:
    https = exposure.hub_values(site(kind="load-balancer", tls_secret="mine"))["proxy"]["https"]
    assert https == {"enabled": True, "hosts": [HOST], "type": "secret", "secret": {"name": "mine"}}


def test_a_gateway_made_for_the_site() -> None:
    given = site(kind="gateway-api", issuer="letsencrypt-prod", address="192.0.2.7", **{"class": "envoy"})
    made = by_name(exposure.objects(given))
    assert set(made) == {
        ("Gateway", "jupyterhub"),
        ("HTTPRoute", "jupyterhub"),
        ("HTTPRoute", "jupyterhub-redirect"),
    }
    gateway = made["Gateway", "jupyterhub"]
    assert gateway["metadata"]["annotations"] == {"cert-manager.io/cluster-issuer": "letsencrypt-prod"}
    assert gateway["spec"]["gatewayClassName"] == "envoy"
    assert gateway["spec"]["addresses"] == [{"type": "IPAddress", "value": "192.0.2.7"}]
    listeners = {listener["name"]: listener for listener in gateway["spec"]["listeners"]}
    assert (listeners["http"]["port"], listeners["http"]["protocol"]) == (80, "HTTP")
    assert (listeners["https"]["port"], listeners["https"]["protocol"]) == (443, "HTTPS")
    assert listeners["https"]["tls"]["certificateRefs"] == [{"kind": "Secret", "name": HOST}]
    assert made["HTTPRoute", "jupyterhub"]["spec"]["parentRefs"][0]["sectionName"] == "https"
    assert made["HTTPRoute", "jupyterhub-redirect"]["spec"]["parentRefs"][0]["sectionName"] == "http"


def test_a_gateway_that_others_keep() -> None:
    gateway = {"name": "public", "namespace": "gateways", "listener": "tls", "redirect_listener": "plain"}
    given = site(kind="gateway-api", gateway=gateway, annotations={"a": "b"})
    made = by_name(exposure.objects(given))
    assert set(made) == {("HTTPRoute", "jupyterhub"), ("HTTPRoute", "jupyterhub-redirect")}
    route = made["HTTPRoute", "jupyterhub"]
    parent = {
        "group": "gateway.networking.k8s.io",
        "kind": "Gateway",
        "name": "public",
        "namespace": "gateways",
    }
    assert route["spec"]["parentRefs"] == [{**parent, "sectionName": "tls"}]
    assert route["spec"]["hostnames"] == [HOST]
    assert route["metadata"]["annotations"] == {"a": "b"}
    redirect = made["HTTPRoute", "jupyterhub-redirect"]["spec"]
    assert redirect["parentRefs"] == [{**parent, "sectionName": "plain"}]
    assert redirect["rules"][0]["filters"] == [
        {"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "statusCode": 301}}
    ]


def test_without_a_listener_for_it_nobody_is_redirected() -> None:
    made = exposure.objects(site(kind="gateway-api", gateway={"name": "public"}))
    assert [obj["metadata"]["name"] for obj in made] == ["jupyterhub"]
    assert "sectionName" not in made[0]["spec"]["parentRefs"][0]


@pytest.mark.parametrize(("base", "prefix"), [("", "/"), ("/", "/"), ("/jupyterhub/", "/jupyterhub")])
def test_the_route_has_the_base_path_and_waits(base: str, prefix: str) -> None:
    made = exposure.objects(site(base=base, kind="gateway-api", gateway={"name": "public"}))
    rule = made[0]["spec"]["rules"][0]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": prefix}}]
    assert rule["backendRefs"] == [{"name": "proxy-public", "port": 80}]
    assert rule["timeouts"] == {"request": "3600s"}


def test_an_older_gateway_api() -> None:
    given = site(kind="gateway-api", gateway={"name": "public"})
    (route,) = exposure.objects(given, served=["gateway.networking.k8s.io/v1beta1/HTTPRoute"])
    assert route["apiVersion"] == "gateway.networking.k8s.io/v1beta1"
    assert "timeouts" not in route["spec"]["rules"][0]
    (route,) = exposure.objects(given, served=["gateway.networking.k8s.io/v1/HTTPRoute"])
    assert route["apiVersion"] == "gateway.networking.k8s.io/v1"


def test_the_charts_own_route_stays_off() -> None:
    values = exposure.hub_values(site(kind="gateway-api", gateway={"name": "public"}))
    assert "httpRoute" not in values
    assert values["ingress"] == {"enabled": False}
    assert values["proxy"]["service"]["type"] == "ClusterIP"
