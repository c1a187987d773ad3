"""Kubeconfigs, plugins and service accounts that lead to a real API server, and those that do not."""

# ruff: noqa: F811
from __future__ import annotations

import base64
import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cluster_certificates import private_pem
from connection_fixtures import connected, problem_of, server  # noqa: F401
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from local_cluster import LocalCluster

from tidehub.kubernetes.cluster.connection import Connection, connect

Object = dict[str, Any]
Change = Callable[[Object], Any]


def test_a_wrong_context_lists_those_there_are(server: LocalCluster) -> None:
    problem = problem_of(lambda: connect(str(server.kubeconfig), "production"))
    assert "no context 'production'" in str(problem)
    assert "one of: test" in str(problem)


def test_a_missing_ca(server: LocalCluster, tmp_path: Path) -> None:
    path = _kubeconfig(server, tmp_path, cluster=lambda one: one.pop("certificate-authority-data"))
    problem = problem_of(lambda: connect(path, seconds=5))
    assert problem.reason == "unreachable"
    assert "signed by an authority that the kubeconfig does not trust" in str(problem)


def test_an_insecure_kubeconfig_works_and_is_told(server: LocalCluster, tmp_path: Path) -> None:
    def insecure(one: Object) -> None:
        del one["certificate-authority-data"]
        one["insecure-skip-tls-verify"] = True

    found = connect(_kubeconfig(server, tmp_path, cluster=insecure), seconds=5)
    assert "insecure-skip-tls-verify" in found.warnings[0]


def test_a_certificate_for_another_name(server: LocalCluster, tmp_path: Path) -> None:
    path = _kubeconfig(
        server, tmp_path, cluster=lambda one: one.update({"tls-server-name": "elsewhere.example.org"})
    )
    assert "is for another name" in str(problem_of(lambda: connect(path, seconds=5)))


def test_an_expired_client_certificate(server: LocalCluster, tmp_path: Path) -> None:
    pair = _expired()
    path = _kubeconfig(server, tmp_path, user=lambda one: one.update(pair))
    problem = problem_of(lambda: connect(path, seconds=5))
    assert problem.reason == "unauthorized"
    assert "client certificate of context 'test' expired on" in str(problem)


def test_no_credentials(server: LocalCluster, tmp_path: Path) -> None:
    found = connect(_kubeconfig(server, tmp_path, user=lambda one: one.clear()), seconds=5)
    problem = problem_of(lambda: found.find("v1", "Node"))
    assert problem.reason == "unauthorized"
    assert "names no user with credentials" in str(problem)


def test_a_token_that_is_not_valid_is_never_shown(server: LocalCluster, tmp_path: Path) -> None:
    path = _kubeconfig(server, tmp_path, user=_only_token("secret-of-mine"))
    problem = problem_of(lambda: connect(path, seconds=5))
    assert problem.reason == "unauthorized"
    assert "does not accept these credentials" in str(problem)
    assert "secret-of-mine" not in str(problem)


def test_a_token_file_is_read_again(server: LocalCluster, tmp_path: Path, namespace: str) -> None:
    file = tmp_path / "token"
    file.write_text(_token(server, namespace))
    user: Change = lambda one: (one.clear(), one.update({"tokenFile": "token"}))  # noqa: E731
    found = connect(_kubeconfig(server, tmp_path, user=user), seconds=5)
    assert _who(found) == f"system:serviceaccount:{namespace}:default"
    file.write_text("no token")
    assert problem_of(lambda: _who(found)).reason == "unauthorized"


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_an_exec_plugin_gives_a_token(
    server: LocalCluster, tmp_path: Path, namespace: str, version: str
) -> None:
    plugin = _plugin(tmp_path, version, {"token": _token(server, namespace)})
    found = connect(_kubeconfig(server, tmp_path, user=plugin), seconds=10)
    assert _who(found) == f"system:serviceaccount:{namespace}:default"
    info = json.loads((tmp_path / "info").read_text())
    assert info["apiVersion"] == f"client.authentication.k8s.io/{version}"
    assert info["spec"]["cluster"]["server"] == server.url
    assert info["spec"]["interactive"] is False


def test_an_exec_plugin_gives_a_certificate(server: LocalCluster, tmp_path: Path) -> None:
    user = json.loads(server.kubeconfig_for("connection-cert").read_text())["users"][0]["user"]
    pem = {
        "clientCertificateData": base64.b64decode(user["client-certificate-data"]).decode(),
        "clientKeyData": base64.b64decode(user["client-key-data"]).decode(),
    }
    found = connect(_kubeconfig(server, tmp_path, user=_plugin(tmp_path, "v1", pem)), seconds=10)
    assert _who(found) == "connection-cert"


def test_an_exec_plugin_is_asked_again_when_its_token_has_ended(
    server: LocalCluster, tmp_path: Path, namespace: str
) -> None:
    credential = {"token": _token(server, namespace)}
    plugin = _plugin(tmp_path, "v1", credential)
    found = connect(_kubeconfig(server, tmp_path, user=plugin), seconds=10)
    assert _who(found)
    # The server revokes tokens of accounts that are gone; a new account has new ones.
    server.api.delete("ServiceAccount", "default", namespace)
    server.api.wait("a new account is made", lambda: server.api.get("ServiceAccount", "default", namespace))
    _plugin(tmp_path, "v1", {"token": _token(server, namespace)})
    server.api.wait("the old token is refused", lambda: _who(found) and _runs(tmp_path) > 1)
    assert _who(found) == f"system:serviceaccount:{namespace}:default"


def test_an_exec_plugin_whose_credential_expires_is_asked_in_time(
    server: LocalCluster, tmp_path: Path, namespace: str
) -> None:
    soon = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=5)).strftime(
        "%Y-%m-%dT%H:%M:%SZ"
    )
    plugin = _plugin(tmp_path, "v1", {"token": _token(server, namespace), "expirationTimestamp": soon})
    found = connect(_kubeconfig(server, tmp_path, user=plugin), seconds=10)
    before = _runs(tmp_path)
    _who(found)
    assert _runs(tmp_path) > before


def test_one_may_act_as_somebody_else(server: LocalCluster, tmp_path: Path) -> None:
    found = connect(_kubeconfig(server, tmp_path, user=lambda one: one.update({"as": "anna"})), seconds=5)
    assert _who(found) == "anna"


def test_in_a_pod_the_service_account_is_used(
    server: LocalCluster, tmp_path: Path, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kubernetes.config import incluster_config

    (tmp_path / "token").write_text(_token(server, namespace))
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(server.directory / "ca.crt"))
    host, port = server.url.removeprefix("https://").split(":")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    found = connect(seconds=5)
    assert _who(found) == f"system:serviceaccount:{namespace}:default"
    assert found.kubeconfig is None


def _who(found: Connection) -> str:
    """The user that the server takes this connection for."""
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview", "metadata": {"name": ""}}
    return str(found.create(review)["status"]["userInfo"]["username"])


def _kubeconfig(
    server: LocalCluster, folder: Path, *, cluster: Change | None = None, user: Change | None = None
) -> str:
    """The administrator's, changed."""
    document = json.loads(server.kubeconfig.read_text())
    if cluster is not None:
        cluster(document["clusters"][0]["cluster"])
    if user is not None:
        user(document["users"][0]["user"])
    path = folder / "kubeconfig"
    path.write_text(json.dumps(document))
    return str(path)


def _token(server: LocalCluster, namespace: str) -> str:
    """Of the namespace's default account."""
    server.api.wait("the account is made", lambda: server.api.get("ServiceAccount", "default", namespace))
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/default/token"
    return str(server.api.call("POST", path, body)["status"]["token"])


def _only_token(token: str) -> Change:
    return lambda one: (one.clear(), one.update({"token": token}))


def _plugin(folder: Path, version: str, status: Object) -> Change:
    """A login program that gives `status`, notes what it was told, and counts its runs."""
    api_version = f"client.authentication.k8s.io/{version}"
    credential = {"apiVersion": api_version, "kind": "ExecCredential", "status": status}
    (folder / "credential").write_text(json.dumps(credential))
    program = folder / "login.sh"
    program.write_text(
        f'#!/bin/sh\nprintf "%s" "$KUBERNETES_EXEC_INFO" > {folder}/info\necho run >> {folder}/runs\n'
        f"cat {folder}/credential\n"
    )
    program.chmod(0o700)
    settings = {"apiVersion": api_version, "command": "./login.sh", "provideClusterInfo": True}
    settings["interactiveMode"] = "Never"
    return lambda one: (one.clear(), one.update({"exec": settings}))


def _runs(folder: Path) -> int:
    return len((folder / "runs").read_text().splitlines())


def _expired() -> dict[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "anna")])
    ended = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(ended - datetime.timedelta(days=1))
        .not_valid_after(ended)
        .sign(key, hashes.SHA256())
    )
    parts = {
        "client-certificate-data": signed.public_bytes(serialization.Encoding.PEM),
        "client-key-data": private_pem(key),
    }
    return {key: base64.b64encode(data).decode() for key, data in parts.items()}
