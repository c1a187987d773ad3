from __future__ import annotations

import base64
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tidehub.kubernetes.cluster import kubeconfig, plugin
from tidehub.kubernetes.cluster.connection import connect
from tidehub.kubernetes.cluster.port import ClusterProblem

SERVER = "https://cluster.example.org:6443"


def _document(**changes: Any) -> dict[str, Any]:
    return {
        "current-context": "main",
        "contexts": [
            {"name": "main", "context": {"cluster": "c", "user": "u", "namespace": "home"}},
            {"name": "other", "context": {"cluster": "c", "user": "u"}},
        ],
        "clusters": [{"name": "c", "cluster": {"server": SERVER}}],
        "users": [{"name": "u", "user": {"token": "a-token"}}],
    } | changes


def _write(folder: Path, document: Any, name: str = "config") -> Path:
    path = folder / name
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def _wrong(folder: Path, document: Any, context: str | None = None) -> str:
    with pytest.raises(ClusterProblem) as raised:
        kubeconfig.choose([_write(folder, document)], context)
    return str(raised.value)


def _user(**user: Any) -> dict[str, Any]:
    return _document(users=[{"name": "u", "user": user}])


def _cluster(**cluster: Any) -> dict[str, Any]:
    return _document(clusters=[{"name": "c", "cluster": {"server": SERVER, **cluster}}])


def test_the_current_context_is_taken(tmp_path: Path) -> None:
    chosen = kubeconfig.choose([_write(tmp_path, _document())], None)
    assert (chosen.context, chosen.cluster["server"], chosen.namespace) == ("main", SERVER, "home")
    assert chosen.login() == "token"
    assert kubeconfig.choose([_write(tmp_path, _document())], "other").context == "other"


def test_of_several_files_the_first_word_counts(tmp_path: Path) -> None:
    first = _write(tmp_path, {"contexts": _document()["contexts"]}, "first")
    (tmp_path / "deep").mkdir()
    clusters = [{"name": "c", "cluster": {"server": SERVER, "certificate-authority": "ca.crt"}}]
    second = _write(tmp_path / "deep", _document(clusters=clusters, **{"current-context": "other"}), "second")
    (tmp_path / "deep" / "ca.crt").write_text("x")
    third = _write(
        tmp_path, _document(clusters=[{"name": "c", "cluster": {"server": "https://late"}}]), "third"
    )
    chosen = kubeconfig.choose([first, second, third], None)
    assert (chosen.context, chosen.cluster["server"]) == ("other", SERVER)
    assert chosen.cluster["certificate-authority"] == str(tmp_path / "deep" / "ca.crt")


def test_a_user_of_another_file_runs_its_plugin_there(tmp_path: Path) -> None:
    (tmp_path / "users").mkdir()
    first = _write(tmp_path, _document(users=[]), "first")
    second = _write(tmp_path / "users", {"users": _document()["users"]}, "second")
    assert kubeconfig.choose([first, second], None).folder == tmp_path / "users"


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("", "the kubeconfig is empty"),
        ("a: [", "the kubeconfig is not YAML"),
        ("- a\n", "the kubeconfig is empty"),
        (_document(**{"current-context": ""}), "no current context\n  expected: one of its contexts: main, other"),
        (_document(contexts=[]), "no context 'main'\n  expected: one of: (there are none)"),
        (_document(clusters=[]), "names cluster 'c', which the kubeconfig does not have"),
        (_document(users=[]), "names user 'u', which the kubeconfig does not have"),
        (_document(users=[{"user": {}}]), "an entry of users has no name"),
        (_cluster(server="cluster.example.org"), "has no server address"),
        (_cluster(**{"certificate-authority": "gone.crt"}), "names a file that does not exist"),
        (_cluster(**{"certificate-authority-data": "%%%"}), "not a PEM certificate"),
        (_user(tokenFile="gone"), "tokenFile of context 'main' names a file that does not exist"),
        (_user(**{"client-certificate-data": base64.b64encode(b"x").decode()}), "is not a PEM certificate"),
        (_user(**{"auth-provider": {"name": "gcp"}}), "Kubernetes clients gave up in 1.26"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_file(tmp_path: Path, document: Any, words: str) -> None:
    said = _wrong(tmp_path, document)
    assert words in said
    assert str(tmp_path / "config") in said


def test_a_broken_file_shows_no_secret(tmp_path: Path) -> None:
    said = _wrong(tmp_path, 'users:\n- user: {token: "very-secret\n')
    assert "very-secret" not in said


def test_a_file_that_is_named_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ClusterProblem, match="does not exist"):
        kubeconfig.search(str(tmp_path / "gone"))
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/a:{tmp_path}/b")
    with pytest.raises(ClusterProblem, match="KUBECONFIG names no file that exists"):
        kubeconfig.search(None)
    _write(tmp_path, _document(), "b")
    assert kubeconfig.search(None) == [tmp_path / "b"]


def test_no_kubeconfig_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ClusterProblem, match="no kubeconfig was found") as raised:
        connect()
    assert "service account" in str(raised.value)


def test_a_certificate_may_come_in_several_lines(tmp_path: Path) -> None:
    text = base64.encodebytes(_pem()).decode()
    chosen = kubeconfig.choose([_write(tmp_path, _user(**{"client-certificate-data": text}))], None)
    assert chosen.login() == "certificate"


# -- plugins


def _plugin(folder: Path, script: str, **settings: Any) -> kubeconfig.Chosen:
    program = folder / "login.sh"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)
    settings = {"apiVersion": "client.authentication.k8s.io/v1", "command": "./login.sh"} | settings
    return kubeconfig.choose([_write(folder, _user(exec=settings))], None)


def _refusal(chosen: kubeconfig.Chosen, seconds: float = 10) -> ClusterProblem:
    with pytest.raises(ClusterProblem) as raised:
        plugin.run_plugin(chosen, seconds=seconds)
    return raised.value


def test_a_plugin_is_given_its_arguments_and_variables(tmp_path: Path) -> None:
    answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}
    script = f"""printf '{json.dumps(answer)[:-1]}, "status": {{"token": "%s-%s"}}}}' "$1" "$REALM" """
    chosen = _plugin(tmp_path, script, args=["first"], env=[{"name": "REALM", "value": "egi"}])
    assert plugin.run_plugin(chosen, seconds=10).token == "first-egi"


def test_a_plugin_that_does_not_end_is_killed_with_its_children(tmp_path: Path) -> None:
    started = time.monotonic()
    problem = _refusal(_plugin(tmp_path, f"sleep 60 & echo $! > {tmp_path}/child; wait"), seconds=1)
    assert time.monotonic() - started < 5
    assert problem.reason == "timeout"
    assert "gave no credentials within 1 s" in str(problem)
    child = int((tmp_path / "child").read_text())
    until = time.monotonic() + 5
    while _runs(child) and time.monotonic() < until:
        time.sleep(0.02)
    assert not _runs(child)


def test_what_a_plugin_says_is_shown_without_tokens(tmp_path: Path) -> None:
    token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbm5hIn0.c2lnbmF0dXJl"
    said = str(_refusal(_plugin(tmp_path, f"echo 'session expired, token {token}' >&2; exit 3")))
    assert "failed with exit code 3: session expired, token (left out)" in said
    assert token not in said


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("no JSON at all: secret", "what it printed is not an ExecCredential"),
        ('{"apiVersion": "client.authentication.k8s.io/v1"}', "what it printed is not an ExecCredential"),
        ('{"apiVersion": "client.authentication.k8s.io/v1beta1", "status": {"token": "t"}}', "it speaks"),
        ('{"apiVersion": "client.authentication.k8s.io/v1", "status": {}}', "neither a token nor"),
        (
            '{"apiVersion": "client.authentication.k8s.io/v1", "status": {"clientCertificateData": "x"}}',
            "neither",
        ),
    ],
)
def test_what_a_plugin_prints_must_be_a_credential(tmp_path: Path, output: str, words: str) -> None:
    said = str(_refusal(_plugin(tmp_path, f"echo '{output}'")))
    assert words in said
    assert "secret" not in said


def test_a_plugin_that_is_not_installed(tmp_path: Path) -> None:
    chosen = _plugin(tmp_path, "", command="kubectl-no-such-login", installHint="get it from our shop")
    said = str(_refusal(chosen))
    assert "the program is not installed" in said
    assert "get it from our shop" in said


def test_a_plugin_of_an_old_protocol(tmp_path: Path) -> None:
    said = str(_refusal(_plugin(tmp_path, "", apiVersion="client.authentication.k8s.io/v1alpha1")))
    assert "client.authentication.k8s.io/v1, client.authentication.k8s.io/v1beta1" in said


def test_a_plugin_that_needs_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        said = str(_refusal(_plugin(tmp_path, "", interactiveMode="Always")))
    assert "it asks for a terminal, and there is none" in said


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _pem() -> bytes:
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
