"""Preflight against a real API server: the exposure and its certificate. Each test makes one defect."""

from __future__ import annotations

import base64
import datetime
from typing import Any

from cluster_certificates import private_pem
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from preflight_fixtures import provider, ready, ready_cluster, registry  # noqa: F401
from preflight_site import ADDRESS, HOST, INGRESS, ReadySite, elsewhere, made, unique

_GATEWAY_API = "gateway.networking.k8s.io/v1"
_INGRESS_API = "networking.k8s.io/v1"
LATER = 3600.0


def test_an_ingress_class_that_is_not_there(ready: ReadySite) -> None:  # noqa: F811
    ready.values["kubernetes"]["exposure"]["class"] = "no-such-class"
    troubles = ready.troubles()
    assert set(troubles) == {"ingress-class", "ingress-address"}
    assert troubles["ingress-class"].state == "problem"
    assert "the IngressClass no-such-class was not found" in troubles["ingress-class"].what
    assert f"there is {INGRESS}" in troubles["ingress-class"].evidence


def test_no_ingress_class_named_and_none_by_default(ready: ReadySite) -> None:  # noqa: F811
    del ready.values["kubernetes"]["exposure"]["class"]
    ready.only("ingress-class", "problem", "names no IngressClass, and none is the default one")


def test_an_old_chart_names_the_class_in_an_annotation(ready: ReadySite) -> None:  # noqa: F811
    ready.values["kubernetes"]["exposure"]["class"] = "by-annotation"
    del ready.object("Ingress")["spec"]["ingressClassName"]
    found = ready.troubles()["ingress-class"]
    assert (found.state, "names it in an annotation only" in found.what) == ("warning", True)


def test_a_controller_that_gives_no_addresses(ready: ReadySite) -> None:  # noqa: F811
    name, space = unique("silent"), unique("silent")
    ready.create(
        made(_INGRESS_API, "IngressClass", name, spec={"controller": "example.org/silent"}),
        made("v1", "Namespace", space),
    )
    waiting = elsewhere(space)
    waiting["spec"]["ingressClassName"] = name
    ready.create(waiting)
    ready.values["kubernetes"]["exposure"]["class"] = name
    ready.only(
        "ingress-address", "problem", f"no Ingress of the class {name} has an address", f"{space}/other"
    )


def test_a_controller_whose_load_balancer_waits(ready: ReadySite) -> None:  # noqa: F811
    name = unique("waiting")
    ready.create(
        made(_INGRESS_API, "IngressClass", name, spec={"controller": "example.org/waiting"}),
        _balancer("controller"),
    )
    ready.values["kubernetes"]["exposure"]["class"] = name
    ready.network.ahead = LATER
    found = ready.troubles()["ingress-address"]
    assert found.state == "problem"
    assert f"load balancer {ready.namespace}/controller has no address" in found.what


def test_a_service_with_external_ips_waits_for_nothing(ready: ReadySite) -> None:  # noqa: F811
    """Clusters without a load balancer: the addresses are stated, and the controller publishes none."""
    name = unique("stated")
    stated = _balancer("controller")
    stated["spec"]["externalIPs"] = [ADDRESS]
    silent = elsewhere(ready.namespace)
    silent["spec"]["ingressClassName"] = name
    ready.create(
        made(_INGRESS_API, "IngressClass", name, spec={"controller": "example.org/stated"}), stated, silent
    )
    ready.values["kubernetes"]["exposure"]["class"] = ready.object("Ingress")["spec"]["ingressClassName"] = (
        name
    )
    ready.network.ahead = LATER
    assert ready.troubles() == {}
    (told,) = [one for one in ready.findings() if one.item == "ingress-address"]
    assert told.what == f"web traffic comes in at {ADDRESS}"
    _by_load_balancer(ready)
    assert ready.troubles() == {}


def test_a_host_that_another_ingress_has(ready: ReadySite) -> None:  # noqa: F811
    space = unique("rival")
    rival = elsewhere(space)
    rival["spec"]["rules"][0]["host"] = HOST
    ready.create(made("v1", "Namespace", space), rival)
    ready.only("ingress-host", "problem", f"another Ingress has {HOST}/", f"{space}/other")


def test_a_name_that_does_not_exist(ready: ReadySite) -> None:  # noqa: F811
    ready.network._names.clear()
    ready.only("dns", "problem", f"the name {HOST} does not exist")


def test_a_name_that_points_elsewhere(ready: ReadySite) -> None:  # noqa: F811
    ready.network._names[HOST] = ("198.51.100.7",)
    ready.only("dns", "problem", "198.51.100.7", f"the exposure has {ADDRESS}", "point there")


def test_no_cert_manager(ready: ReadySite) -> None:  # noqa: F811
    context = ready.context()
    assert context.look is not None
    gone = {key: value for key, value in context.look.plurals().items() if key[1] != "ClusterIssuer"}
    context.look.plurals = lambda: gone  # type: ignore[method-assign]
    ready.only("issuer", "problem", "the cluster has no cert-manager", look=context.look)


def test_an_issuer_that_is_not_there(ready: ReadySite) -> None:  # noqa: F811
    ready.values["kubernetes"]["exposure"]["issuer"] = "letsencrypt"
    ready.only(
        "issuer", "problem", "the ClusterIssuer letsencrypt was not found", "there is preflight-issuer"
    )


def test_an_issuer_that_is_not_ready(ready: ReadySite) -> None:  # noqa: F811
    name = unique("issuer")
    condition = {"type": "Ready", "status": "False", "message": "Failed to register ACME account"}
    ready.create(
        made("cert-manager.io/v1", "ClusterIssuer", name, spec={}, status={"conditions": [condition]}),
    )
    ready.values["kubernetes"]["exposure"]["issuer"] = name
    ready.only("issuer", "problem", f"{name} is not ready", "Failed to register ACME account")


def test_no_certificate_and_nobody_to_make_one(ready: ReadySite) -> None:  # noqa: F811
    _own_certificate(ready)
    ready.only(
        "tls-secret", "problem", "the Secret site-tls was not found", "kubectl create secret tls site-tls"
    )


def test_a_certificate_for_another_name(ready: ReadySite) -> None:  # noqa: F811
    _own_certificate(ready, _certificate("www.example.org"))
    ready.only("tls-certificate", "problem", f"is not for {HOST}", "it is for www.example.org")


def test_a_certificate_that_has_expired(ready: ReadySite) -> None:  # noqa: F811
    _own_certificate(ready, _certificate(HOST, days=-1))
    ready.only("tls-certificate", "problem", "expired on")


def test_a_certificate_that_expires_soon(ready: ReadySite) -> None:  # noqa: F811
    _own_certificate(ready, _certificate("*.example.org", days=5))
    ready.only("tls-certificate", "warning", "expires on")


def test_a_certificate_with_another_key(ready: ReadySite) -> None:  # noqa: F811
    data = _certificate(HOST) | {"tls.key": _certificate(HOST)["tls.key"]}
    _own_certificate(ready, data)
    ready.only("tls-secret", "problem", "do not belong together")


def test_a_good_certificate(ready: ReadySite) -> None:  # noqa: F811
    _own_certificate(ready, _certificate(HOST))
    assert ready.troubles() == {}


def test_a_secret_without_a_key(ready: ReadySite) -> None:  # noqa: F811
    ready.values["kubernetes"]["exposure"] |= {"tls_secret": "site-tls"}
    del ready.values["kubernetes"]["exposure"]["issuer"]
    ready.create(made("v1", "Secret", "site-tls", data={"tls.crt": _certificate(HOST)["tls.crt"]}))
    ready.only("tls-secret", "problem", "has no tls.key")


def test_load_balancers_that_get_no_address(ready: ReadySite) -> None:  # noqa: F811
    _by_load_balancer(ready)
    ready.create(_balancer("waiting"))
    ready.network.ahead = LATER
    served = [
        one for one in ready.api.list("Service") if (one["status"].get("loadBalancer") or {}).get("ingress")
    ]
    assert served == []
    ready.only("load-balancer", "problem", "no load balancer of this cluster has an address")


def test_load_balancers_that_get_one(ready: ReadySite) -> None:  # noqa: F811
    _by_load_balancer(ready)
    balancer = _balancer("served")
    balancer["metadata"]["annotations"] = {}
    ready.create(balancer)
    ready.api.wait(
        "it has an address",
        lambda: "ingress" in str((ready.api.get("Service", "served", ready.namespace) or {}).get("status")),
    )
    assert ready.troubles() == {}


def test_a_gateway_that_is_not_there(ready: ReadySite) -> None:  # noqa: F811
    _by_gateway(ready, make=False)
    ready.only("gateway", "problem", "the Gateway shared", "was not found", "kubernetes.exposure.gateway")


def test_a_gateway_that_works(ready: ReadySite) -> None:  # noqa: F811
    _by_gateway(ready)
    assert ready.troubles() == {}


def test_a_gateway_that_is_not_programmed(ready: ReadySite) -> None:  # noqa: F811
    condition = {"type": "Programmed", "status": "False", "message": "no resources left"}
    _by_gateway(ready, conditions=[condition])
    ready.only("gateway-programmed", "problem", "is not programmed", "no resources left")


def test_a_gateway_without_an_address(ready: ReadySite) -> None:  # noqa: F811
    _by_gateway(ready, addresses=[])
    ready.only("gateway-address", "problem", "has no address")


def test_a_gateway_without_the_listener(ready: ReadySite) -> None:  # noqa: F811
    _by_gateway(ready, name="web")
    ready.only("gateway-listener", "problem", "has no listener https", "it has web")


def test_a_gateway_for_other_hosts(ready: ReadySite) -> None:  # noqa: F811
    _by_gateway(ready, hostname="*.example.com")
    ready.only("gateway-host", "problem", f"takes the host {HOST}", "*.example.com")


def test_a_gateway_without_tls(ready: ReadySite) -> None:  # noqa: F811
    _by_gateway(ready, protocol="HTTP")
    ready.only("gateway-protocol", "problem", "the site's address is https")


def test_a_gateway_that_lets_no_route_of_the_namespace_in(ready: ReadySite) -> None:  # noqa: F811
    _by_gateway(ready, allowed={"from": "Selector", "selector": {"matchLabels": {"web": "yes"}}})
    ready.only(
        "gateway-routes", "problem", f"lets no HTTPRoute of the namespace {ready.namespace} in", "web=yes"
    )


def test_a_gateway_that_lets_labelled_namespaces_in(ready: ReadySite) -> None:  # noqa: F811
    _by_gateway(ready, allowed={"from": "Selector", "selector": {"matchLabels": {"web": "yes"}}})
    ready.api.patch("Namespace", ready.namespace, {"metadata": {"labels": {"web": "yes"}}})
    assert ready.troubles() == {}


def test_a_gateway_class_that_nobody_takes_up(ready: ReadySite) -> None:  # noqa: F811
    name = unique("class")
    ready.create(made(_GATEWAY_API, "GatewayClass", name, spec={"controllerName": "example.org/gone"}))
    ready.values["kubernetes"]["exposure"] = {"kind": "gateway-api", "class": name, "tls_secret": "site-tls"}
    ready.create(made("v1", "Secret", "site-tls", data=_certificate(HOST)))
    ready.only(
        "gateway-class", "problem", f"no controller accepts the GatewayClass {name}", "example.org/gone"
    )


def test_no_gateway_api(ready: ReadySite) -> None:  # noqa: F811
    _by_gateway(ready, make=False)
    context = ready.context()
    assert context.look is not None
    gone = {key: value for key, value in context.look.plurals().items() if key[1] != "HTTPRoute"}
    context.look.plurals = lambda: gone  # type: ignore[method-assign]
    ready.only("gateway-api", "problem", "the cluster has no Gateway API", look=context.look)


def _by_load_balancer(ready: ReadySite) -> None:  # noqa: F811
    ready.values["kubernetes"]["exposure"] = {"kind": "load-balancer"}
    ready.values["site"]["contact"] = "ops@example.org"


def _by_gateway(
    ready: ReadySite,  # noqa: F811
    *,
    make: bool = True,
    name: str = "https",
    hostname: str = "*.example.org",
    protocol: str = "HTTPS",
    allowed: dict[str, Any] | None = None,
    conditions: list[dict[str, str]] | None = None,
    addresses: list[dict[str, str]] | None = None,
) -> None:
    """The site by a Gateway of others, in a namespace of theirs."""
    space = unique("gateways")
    gateway = {"name": "shared", "namespace": space, "listener": "https"}
    ready.values["kubernetes"]["exposure"] = {"kind": "gateway-api", "gateway": gateway}
    if not make:
        return
    ready.create(made("v1", "Namespace", space))
    listener = {
        "name": name,
        "hostname": hostname,
        "protocol": protocol,
        "port": 443,
        "allowedRoutes": {"namespaces": allowed or {"from": "All"}},
    }
    status = {
        "conditions": conditions or [{"type": "Programmed", "status": "True"}],
        "addresses": [{"type": "IPAddress", "value": ADDRESS}] if addresses is None else addresses,
    }
    ready.create(
        made(
            _GATEWAY_API,
            "Gateway",
            "shared",
            meta={"namespace": space},
            spec={"gatewayClassName": "others", "listeners": [listener]},
            status=status,
        )
    )


def _balancer(name: str) -> dict[str, Any]:
    """A load balancer that the simulated provider leaves waiting."""
    return made(
        "v1",
        "Service",
        name,
        meta={"annotations": {"tidehub.test/no-address": "yes"}},
        spec={"type": "LoadBalancer", "ports": [{"port": 443}], "selector": {"app": "web"}},
    )


def _own_certificate(ready: ReadySite, data: dict[str, str] | None = None) -> None:  # noqa: F811
    """The site with a certificate of its own, where one is given."""
    exposure = ready.values["kubernetes"]["exposure"]
    del exposure["issuer"]
    exposure["tls_secret"] = "site-tls"
    if data is not None:
        ready.create(made("v1", "Secret", "site-tls", type="kubernetes.io/tls", data=data))


def _certificate(name: str, days: int = 90) -> dict[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(ends - datetime.timedelta(days=100))
        .not_valid_after(ends)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    parts = {"tls.crt": signed.public_bytes(serialization.Encoding.PEM), "tls.key": private_pem(key)}
    return {name: base64.b64encode(data).decode() for name, data in parts.items()}
