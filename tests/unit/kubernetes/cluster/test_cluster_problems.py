from __future__ import annotations

import json
import socket
import ssl
from typing import Any

import pytest

from tidehub.kubernetes.cluster.problems import Server, refused, unreachable

SERVER = Server("main", "https://cluster.example.org:6443", "token", "/home/anna/.kube/config")


def _status(message: str, causes: list[dict[str, str]] | None = None, reason: str = "") -> str:
    return json.dumps(
        {"kind": "Status", "message": message, "reason": reason, "details": {"causes": causes or []}}
    )


@pytest.mark.parametrize(
    ("status", "message", "reason"),
    [
        (403, 'pods "x" is forbidden: exceeded quota: q, requested: pods=1', "quota"),
        (403, 'pods "x" is forbidden: failed quota: q: must specify limits.cpu', "quota"),
        (403, "maximum memory usage per Container is 1Gi, but limit is 2Gi", "quota"),
        (403, 'pods is forbidden: User "anna" cannot create resource "pods"', "forbidden"),
        (403, 'nodes is forbidden: User "system:anonymous" cannot list resource "nodes"', "unauthorized"),
        (401, "Unauthorized", "unauthorized"),
        (404, 'pods "x" not found', "not-found"),
        (409, 'pods "x" already exists', "conflict"),
        (410, "too old", "expired"),
        (422, "is invalid", "invalid"),
        (400, "bad", "invalid"),
        (504, "timeout", "timeout"),
        (500, "etcd", "other"),
        (429, "slow down", "other"),
    ],
)
def test_reasons(status: int, message: str, reason: str) -> None:
    problem = refused(status, _status(message), "do it", SERVER)
    assert (problem.reason, problem.status) == (reason, status)


@pytest.mark.parametrize(
    ("message", "causes", "fix"),
    [
        ('pods "x" violates PodSecurity "restricted:latest": privileged', [], "pod-security labels"),
        ("is being terminated", [{"reason": "NamespaceTerminating"}], "wait until it is gone"),
        ('User "anna" cannot create resource "pods"', [], "tidehub preflight"),
        ("exceeded quota: q", [], "larger ResourceQuota"),
    ],
)
def test_what_to_do(message: str, causes: list[dict[str, str]], fix: str) -> None:
    assert fix in str(refused(403, _status(message, causes), "do it", SERVER))


def test_a_webhook_that_does_not_answer_is_named() -> None:
    text = 'failed calling webhook "guard.example.org": connection refused'
    said = str(refused(500, _status(text), "apply ConfigMap x", SERVER))
    assert text in said
    assert "an admission webhook of the cluster does not answer" in said


def test_many_causes_are_counted() -> None:
    causes = [{"field": f"spec.f{number}", "message": "Required value"} for number in range(12)]
    said = str(refused(422, _status("invalid", causes), "apply", SERVER))
    assert said.count("Required value") == 8
    assert "and 4 more" in said


def test_conflicts_are_grouped_by_manager() -> None:
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "helm" using apps/v1',
            "field": ".spec.replicas",
        },
        {"reason": "FieldManagerConflict", "message": 'conflict with "kubectl-edit"', "field": ".data.a"},
        {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "helm" using apps/v1',
            "field": ".spec.paused",
        },
    ]
    said = str(refused(409, _status("Apply failed with 3 conflicts", causes), "apply", SERVER))
    assert "helm (.spec.replicas, .spec.paused), kubectl-edit (.data.a)" in said


@pytest.mark.parametrize(
    ("error", "reason", "words"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "unreachable", "the connection was refused"),
        (ConnectionResetError(104, "Connection reset by peer"), "unreachable", "the connection was cut"),
        (socket.gaierror(-2, "Name or service not known"), "unreachable", "its name is not known"),
        (TimeoutError("timed out"), "timeout", "did not answer within 7 s"),
        (OSError("[SSL: WRONG_VERSION_NUMBER] wrong version number"), "unreachable", "does not speak TLS"),
        (OSError("tlsv13 alert certificate required"), "unreachable", "refused the client certificate"),
        (
            OSError("CERTIFICATE_VERIFY_FAILED: certificate has expired"),
            "unreachable",
            "certificate has expired",
        ),
        (OSError("CERTIFICATE_VERIFY_FAILED: Hostname mismatch"), "unreachable", "is for another name"),
        (OSError("CERTIFICATE_VERIFY_FAILED: self-signed"), "unreachable", "does not trust"),
    ],
)
def test_ways_not_to_get_there(error: OSError, reason: str, words: str) -> None:
    problem = unreachable(error, "ask", SERVER, 7)
    assert problem.reason == reason
    assert words in str(problem)


def test_the_cause_is_looked_for_inside() -> None:
    inner: Any = ssl.SSLCertVerificationError(1, "certificate verify failed")
    inner.verify_code = 10
    outer = OSError("request failed", inner)
    assert "the API server's certificate has expired" in str(unreachable(outer, "ask", SERVER, 7))


@pytest.mark.parametrize(
    ("login", "fix"),
    [
        ("exec", "log in again with the program"),
        ("token", "get a new token"),
        ("certificate", "get a new client certificate"),
        ("none", "names no user with credentials"),
        ("in-cluster", "service account"),
    ],
)
def test_what_to_do_about_credentials_depends_on_them(login: str, fix: str) -> None:
    assert fix in str(refused(401, "", "ask", Server("main", "https://x", login)))
