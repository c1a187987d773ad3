"""Certificates: the issuer that signs them, or the Secret that holds one."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime, timedelta

from tidehub.kubernetes.objects import Object
from tidehub.kubernetes.preflight.addresses import kind_of
from tidehub.kubernetes.preflight.model import Context, Finding, Skip
from tidehub.site.destinations import exposure as exposure_values

_CERT_MANAGER = "cert-manager.io/v1"
_SOON = timedelta(days=14)


def issuer(context: Context) -> Finding:
    """Whether the ClusterIssuer is there and ready."""
    exposed = exposure_values.exposure_of(context.site)
    name, look = exposed.issuer, context.there
    if name is None or exposed.gateway is not None or kind_of(context) == "load-balancer":
        raise Skip
    if not look.serves(_CERT_MANAGER, "ClusterIssuer"):
        return Finding(
            "issuer",
            "problem",
            f"the cluster has no cert-manager, so nothing makes the certificate of the issuer {name}",
            "have cert-manager installed, or put a certificate into a Secret (kubernetes.exposure.tls_secret)",
        )
    found = look.one(_CERT_MANAGER, "ClusterIssuer", name)
    if found is None:
        within = look.one(_CERT_MANAGER, "Issuer", name, context.namespace)
        others = tuple(
            f"there is {one['metadata']['name']}" for one in look.all(_CERT_MANAGER, "ClusterIssuer")
        ) or ("the cluster has no ClusterIssuer",)
        note = (
            f" (there is an Issuer of that name in {context.namespace}, which is asked by another annotation)"
        )
        return Finding(
            "issuer",
            "problem",
            f"the ClusterIssuer {name} was not found{note if within else ''}",
            "write one of those as kubernetes.exposure.issuer, or have it made",
            others,
        )
    conditions = (found.get("status") or {}).get("conditions") or []
    ready: Object = next((one for one in conditions if one.get("type") == "Ready"), {})
    if ready.get("status") != "True":
        return Finding(
            "issuer",
            "problem",
            f"the ClusterIssuer {name} is not ready",
            "have it checked (`kubectl describe clusterissuer`): it signs nothing until it is ready",
            (str(ready.get("message") or ready.get("reason") or "it has not said why"),),
        )
    return Finding("issuer", "ok", f"the ClusterIssuer {name} is ready")


def tls_secret(context: Context) -> list[Finding]:
    """The Secret with the site's certificate, where no issuer makes it."""
    exposed, kind = exposure_values.exposure_of(context.site), kind_of(context)
    host = exposure_values.host_of(context.site)
    name = exposure_values.certificate_secret(context.site)
    if name is None or host is None or exposed.gateway is not None:
        raise Skip
    if kind == "load-balancer" and not exposed.tls_secret:
        raise Skip
    found = context.there.one("v1", "Secret", name, context.namespace)
    if found is None:
        if exposed.issuer and kind != "load-balancer":
            return [
                Finding("tls-secret", "ok", f"cert-manager will put the certificate into the Secret {name}")
            ]
        return [
            Finding(
                "tls-secret",
                "problem",
                f"the Secret {name} was not found in {context.namespace}, and no issuer makes it",
                f"kubectl create secret tls {name} --namespace {context.namespace} --cert FILE --key FILE, "
                "or write kubernetes.exposure.issuer",
            )
        ]
    return [_certificate(found, name, host, context)]


def _certificate(found: Object, name: str, host: str, context: Context) -> Finding:
    data = found.get("data") or {}
    lacking = [key for key in ("tls.crt", "tls.key") if not data.get(key)]
    if lacking:
        return Finding(
            "tls-secret",
            "problem",
            f"the Secret {name} has no {' and no '.join(lacking)}",
            f"make it with kubectl create secret tls {name}",
            (f"type {found.get('type')}",),
        )
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(base64.b64decode(data["tls.crt"]))
    except (ValueError, binascii.Error):
        return Finding(
            "tls-secret",
            "problem",
            f"tls.crt in the Secret {name} is not a certificate",
            "put a PEM chain there",
        )
    trouble = _not_a_pair(certificate, data["tls.key"], name)
    if trouble is not None:
        return trouble
    names = _names(certificate)
    ends, now = certificate.not_valid_after_utc, datetime.fromtimestamp(context.network.now(), UTC)
    if not any(_covers(one, host) for one in names):
        return Finding(
            "tls-certificate",
            "problem",
            f"the certificate in the Secret {name} is not for {host}",
            "put one for this name there",
            (f"it is for {', '.join(names) or 'no name'}",),
        )
    if ends <= now:
        return Finding(
            "tls-certificate",
            "problem",
            f"the certificate in the Secret {name} expired on {ends:%Y-%m-%d}",
            "put a new one there",
        )
    if ends - now < _SOON and not exposure_values.exposure_of(context.site).issuer:
        return Finding(
            "tls-certificate",
            "warning",
            f"the certificate in the Secret {name} expires on {ends:%Y-%m-%d}",
            "renew it",
        )
    return Finding(
        "tls-secret", "ok", f"the Secret {name} has a certificate for {host} until {ends:%Y-%m-%d}"
    )


def _not_a_pair(certificate: object, key: str, name: str) -> Finding | None:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    try:
        private = load_pem_private_key(base64.b64decode(key), password=None)
        same = private.public_key().public_bytes(*form) == certificate.public_key().public_bytes(*form)  # type: ignore[attr-defined]
    except (ValueError, TypeError, binascii.Error):
        return Finding(
            "tls-secret",
            "problem",
            f"tls.key in the Secret {name} is not a key that can be read",
            "put it there as PEM",
        )
    if same:
        return None
    return Finding(
        "tls-secret",
        "problem",
        f"certificate and key in the Secret {name} do not belong together",
        "put a pair there",
    )


def _names(certificate: object) -> list[str]:
    from cryptography import x509

    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)  # type: ignore[attr-defined]
    except x509.ExtensionNotFound:
        return []
    return [str(name) for name in extension.value.get_values_for_type(x509.DNSName)]


def _covers(name: str, host: str) -> bool:
    if name.startswith("*."):
        return host.partition(".")[2].lower() == name[2:].lower()
    return name.lower() == host.lower()
