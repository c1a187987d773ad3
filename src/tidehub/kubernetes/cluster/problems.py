"""What went wrong with a call to the API server, in words: a refusal's Status, or the way there. No credential in any.

Refusals are read as the API conventions write them:
https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md#response-status-kind
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tidehub import program
from tidehub.kubernetes.cluster.port import ClusterProblem, Reason

_BY_STATUS: Mapping[int, Reason] = {
    400: "invalid", 401: "unauthorized", 403: "forbidden", 404: "not-found", 409: "conflict", 410: "expired",
    413: "invalid", 415: "invalid", 422: "invalid", 504: "timeout",
}  # fmt: skip
_QUOTA = re.compile(
    r"exceeded quota|failed quota|(?:maximum|minimum) \S+ (?:usage|limit)|max limit to request ratio"
)
_MANAGER = re.compile(r'conflict with "([^"]+)"')
_SHOWN = 8
"""Causes shown of one refusal; the rest is counted."""


@dataclass(frozen=True)
class Server:
    """Whom we talk to and as whom, for messages."""

    name: str
    address: str
    login: str = "none"
    """How the credentials log in: `exec`, `token`, `certificate`, `password`, `provider`, `in-cluster`, `none`."""
    source: str | None = None
    """The kubeconfig, for what to do."""
    warnings: tuple[str, ...] = field(default=())


def refused(status: int, body: str, doing: str, server: Server) -> ClusterProblem:
    """The problem of an answer outside 2xx. `doing` says what was asked, for example `create ConfigMap x`."""
    answer = _status_object(body)
    message = str(answer.get("message") or "").strip() or _plain(body) or f"HTTP {status}"
    details = answer.get("details") or {}
    causes = [cause for cause in details.get("causes") or [] if isinstance(cause, dict)]
    reason = _reason(status, str(answer.get("reason") or ""), message)
    if reason == "unauthorized" or (reason == "forbidden" and 'User "system:anonymous"' in message):
        return _unauthorized(status, doing, server)
    return ClusterProblem(
        f"{doing}: {_what(reason, status, message, causes)}",
        reason=reason,
        status=status,
        fix=_fix(reason, status, message, causes),
    )


def unreachable(error: BaseException, doing: str, server: Server, seconds: float) -> ClusterProblem:
    """The problem of a call without an answer. `seconds` is the deadline it had."""
    chain = list(_chain(error))
    text = " ".join(str(one) for one in chain)
    names = {type(one).__name__ for one in chain}
    certificate = _certificate_trouble(chain, text, server)
    if certificate is not None:
        return certificate
    if names & {"ReadTimeoutError", "ConnectTimeoutError", "TimeoutError", "timeout"} or "timed out" in text:
        return late(doing, server, seconds)
    return ClusterProblem(
        f"{doing}: the API server of {server.name} at {server.address} was not reached: {_network_words(text)}",
        reason="unreachable",
        expected="a running API server at the address that the kubeconfig names",
        fix="check the cluster, the VPN or tunnel to it, HTTPS_PROXY and NO_PROXY; then run the same command again",
    )


def late(doing: str, server: Server, seconds: float) -> ClusterProblem:
    """The server did not answer in time."""
    return ClusterProblem(
        f"{doing}: the API server of {server.name} at {server.address} did not answer within {seconds:.0f} s",
        reason="timeout",
        expected="an answer; the connection may have been accepted by something that is not the API server",
        fix="see whether the server is overloaded or a firewall swallows the traffic; then run the same command again",
    )


def not_served(api_version: str, kind: str, server: Server) -> ClusterProblem:
    """The server has no such kind."""
    return ClusterProblem(
        f"{server.name} does not serve {kind} of {api_version}",
        reason="not-found",
        status=404,
        expected="the kind, from Kubernetes itself or from a CustomResourceDefinition that is established",
        fix=f"`{program.command('preflight')}` says which CRDs are missing",
    )


def _status_object(body: str) -> Mapping[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _plain(body: str) -> str:
    """A refusal by something in between, for example a proxy's page: its first words."""
    text = re.sub(r"<[^>]*>", " ", body)
    return " ".join(text.split())[:200]


def _reason(status: int, named: str, message: str) -> Reason:
    if status == 403 and _QUOTA.search(message):
        return "quota"
    if named == "Expired":
        return "expired"
    return _BY_STATUS.get(status, "other")


def _what(reason: Reason, status: int, message: str, causes: list[dict[str, Any]]) -> str:
    if reason == "conflict" and any(cause.get("reason") == "FieldManagerConflict" for cause in causes):
        return f"fields belong to someone else: {_managed(causes)}"
    if reason == "invalid" and causes:
        return f"the server finds it invalid:{_listed(causes)}"
    if status >= 500:
        return f"the server failed (HTTP {status}): {message}"
    return message


def _listed(causes: list[dict[str, Any]]) -> str:
    lines = [f"\n    {cause.get('field') or '(object)'}: {cause.get('message')}" for cause in causes[:_SHOWN]]
    if len(causes) > _SHOWN:
        lines.append(f"\n    and {len(causes) - _SHOWN} more")
    return "".join(lines)


def _managed(causes: list[dict[str, Any]]) -> str:
    """`helm (.spec.replicas), kubectl-edit (.data)` of the causes of a conflict."""
    fields: dict[str, list[str]] = {}
    for cause in causes:
        named = _MANAGER.search(str(cause.get("message") or ""))
        fields.setdefault(named.group(1) if named else "unknown", []).append(str(cause.get("field") or "?"))
    shown = []
    for manager, paths in fields.items():
        more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
        shown.append(f"{manager} ({', '.join(paths[:_SHOWN])}{more})")
    return ", ".join(shown)


def _fix(reason: Reason, status: int, message: str, causes: list[dict[str, Any]]) -> str | None:
    if any(cause.get("reason") == "NamespaceTerminating" for cause in causes):
        return "the namespace is being deleted: wait until it is gone, or use another one"
    if "violates PodSecurity" in message:
        return "the namespace's pod security level forbids this pod: have its pod-security labels changed"
    if "failed calling webhook" in message:
        return "an admission webhook of the cluster does not answer: have it repaired or its configuration removed"
    fixes: Mapping[Reason, str] = {
        "quota": "ask for a larger ResourceQuota or LimitRange, or ask for less in the site file",
        "forbidden": f"`{program.command('preflight')}` lists the missing permissions, as a Role to ask for",
        "conflict": f"see who changed the object; `{program.command('plan')}` shows the difference",
    }
    if status == 409 and "already exists" in message:
        return None
    return fixes.get(reason) if status < 500 else None


def _unauthorized(status: int, doing: str, server: Server) -> ClusterProblem:
    fixes = {
        "exec": "log in again with the program that the kubeconfig names under `exec`",
        "token": "get a new token: the one in the kubeconfig is expired or revoked",
        "certificate": "get a new client certificate from the cluster's administrators",
        "password": "Kubernetes takes no passwords any more: get a kubeconfig with a token, certificate or exec plugin",
        "in-cluster": "see whether the pod's service account still exists",
        "none": "the kubeconfig's context names no user with credentials: get a complete kubeconfig",
    }
    return ClusterProblem(
        f"{doing}: the API server of {server.name} does not accept these credentials",
        reason="unauthorized",
        status=status,
        expected=f"valid credentials in {server.source}" if server.source else "valid credentials",
        fix=fixes.get(server.login, "log in again, or get a new kubeconfig"),
    )


def _certificate_trouble(chain: list[BaseException], text: str, server: Server) -> ClusterProblem | None:
    verification = next((one for one in chain if isinstance(one, ssl.SSLCertVerificationError)), None)
    if verification is not None or "CERTIFICATE_VERIFY_FAILED" in text:
        what, fix = _server_certificate(getattr(verification, "verify_code", 0), text)
        return _tls(f"{server.name}: {what}", fix)
    lowered = text.lower()
    if "alert" in lowered and "certificate" in lowered:
        return _tls(
            f"{server.name}: the API server refused the client certificate",
            "get a new client certificate from the cluster's administrators",
        )
    if any(
        mark in lowered
        for mark in ("wrong_version_number", "wrong version number", "unknown protocol", "record layer")
    ):
        return _tls(
            f"{server.address} does not speak TLS",
            "check the server's address and port in the kubeconfig: something else answers there",
        )
    return None


def _server_certificate(code: int, text: str) -> tuple[str, str]:
    # OpenSSL's verification codes: https://docs.openssl.org/3.0/man1/openssl-verification-options/ and x509_vfy.h.
    if code == 10 or "certificate has expired" in text:
        return "the API server's certificate has expired", "have it renewed, and check this machine's clock"
    if code == 9 or "not yet valid" in text:
        return "the API server's certificate is not valid yet", "check this machine's clock"
    if code in (62, 64) or "Hostname mismatch" in text or "IP address mismatch" in text:
        return (
            "the API server's certificate is for another name",
            "use the name that it is for as `server`, or set `tls-server-name` in the kubeconfig",
        )
    return (
        "the API server's certificate is signed by an authority that the kubeconfig does not trust",
        "put the cluster's CA into the kubeconfig (certificate-authority-data); its administrators have it",
    )


def _tls(what: str, fix: str) -> ClusterProblem:
    return ClusterProblem(
        what, reason="unreachable", expected="a TLS connection that both sides trust", fix=fix
    )


def _network_words(text: str) -> str:
    for mark, words in (
        ("Connection refused", "the connection was refused"),
        ("Name or service not known", "its name is not known"),
        ("No address associated", "its name has no address"),
        ("Temporary failure in name resolution", "its name could not be resolved"),
        ("nodename nor servname", "its name is not known"),
        ("No route to host", "no route leads to it"),
        ("Network is unreachable", "its network is not reachable"),
        ("Connection reset", "the connection was cut"),
        ("Connection aborted", "the connection was cut"),
        ("EOF occurred", "the connection was closed without an answer"),
        ("closed connection without response", "the connection was closed without an answer"),
        ("IncompleteRead", "the connection was cut in the middle of the answer"),
        ("proxy", "the proxy refused or was not reached"),
    ):
        if mark in text:
            return words
    return "the connection failed"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, what it was raised from, and what its arguments and `reason` hold."""
    pending: list[BaseException] = [error]
    seen: set[int] = set()
    while pending:
        one = pending.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        inner = (one.__cause__, one.__context__, getattr(one, "reason", None), *one.args)
        pending += [each for each in inner if isinstance(each, BaseException)]
