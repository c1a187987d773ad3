"""Credentials from the program that a kubeconfig names under `exec`, with a deadline.

Protocol: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
The official client's ExecProvider waits forever and its loader goes on without credentials when the plugin fails.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tidehub.errors import Place
from tidehub.kubernetes.cluster.kubeconfig import Chosen
from tidehub.kubernetes.cluster.port import ClusterProblem

VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
"""Versions of the protocol that clients speak today; v1alpha1 left with Kubernetes 1.24."""
_TOKEN = re.compile(r"[A-Za-z0-9_.~+/=-]{32,}")
"""What may be a credential in a plugin's complaint."""
_EXTENSION = "client.authentication.k8s.io/exec"


@dataclass(frozen=True)
class Credential:
    """What a plugin gave."""

    token: str | None = field(default=None, repr=False)
    certificate: str | None = field(default=None, repr=False)
    key: str | None = field(default=None, repr=False)
    expires: datetime | None = None

    def stale(self, now: datetime) -> bool:
        """Whether it is time for another one."""
        return self.expires is not None and self.expires <= now


def run_plugin(chosen: Chosen, *, seconds: float) -> Credential:
    """Run the plugin of a context and read what it gives. Raises `ClusterProblem`; its output is never shown."""
    settings = chosen.user["exec"] or {}
    command, version = str(settings.get("command") or ""), str(settings.get("apiVersion") or "")
    if not command or version not in VERSIONS:
        raise _failed(
            chosen,
            command or "?",
            f"exec speaks {version or 'no version'}" if command else "exec names no command",
            expected=f"command, and apiVersion one of {', '.join(VERSIONS)}",
            fix="have the kubeconfig written anew by the provider's current command line",
        )
    interactive = str(settings.get("interactiveMode") or "IfAvailable")
    terminal = interactive != "Never" and sys.stdin is not None and sys.stdin.isatty()
    if interactive == "Always" and not terminal:
        raise _failed(
            chosen, command, "it asks for a terminal, and there is none", fix="run it where you can type"
        )
    program = _found(command, chosen.folder)
    if program is None:
        hint = str(settings.get("installHint") or "").strip()
        raise _failed(chosen, command, "the program is not installed", fix=hint or f"install {command}")
    argv = [program, *map(str, settings.get("args") or [])]
    environment = _environment(settings, version, chosen, terminal)
    text = _output(argv, environment, chosen, command, seconds, terminal)
    return _understood(text, version, chosen, command)


def _found(command: str, folder: Path) -> str | None:
    if os.sep not in command:
        return shutil.which(command)
    path = folder / command
    return str(path) if path.is_file() and os.access(path, os.X_OK) else None


def _environment(settings: Mapping[str, Any], version: str, chosen: Chosen, terminal: bool) -> dict[str, str]:
    spec: dict[str, Any] = {"interactive": terminal}
    if settings.get("provideClusterInfo"):
        spec["cluster"] = _cluster_info(chosen.cluster)
    environment = dict(os.environ)
    for item in settings.get("env") or []:
        environment[str(item["name"])] = str(item["value"])
    environment["KUBERNETES_EXEC_INFO"] = json.dumps(
        {"apiVersion": version, "kind": "ExecCredential", "spec": spec}
    )
    return environment


def _cluster_info(cluster: Mapping[str, Any]) -> dict[str, Any]:
    info = {
        key: cluster[key]
        for key in (
            "server",
            "tls-server-name",
            "insecure-skip-tls-verify",
            "certificate-authority-data",
            "proxy-url",
        )
        if cluster.get(key)
    }
    path = cluster.get("certificate-authority")
    if path and "certificate-authority-data" not in info:
        import base64

        info["certificate-authority-data"] = base64.b64encode(Path(str(path)).read_bytes()).decode()
    for extension in cluster.get("extensions") or []:
        if extension.get("name") == _EXTENSION:
            info["config"] = extension.get("extension")
    return info


def _output(
    argv: list[str], environment: dict[str, str], chosen: Chosen, command: str, seconds: float, terminal: bool
) -> str:
    try:
        process = subprocess.Popen(
            argv,
            stdin=None if terminal else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            # At a terminal the plugin may talk to the operator there; else what it says is shown by us.
            stderr=None if terminal else subprocess.PIPE,
            env=environment,
            text=True,
            # A group of its own can be ended as a whole, but may not read from the terminal.
            start_new_session=not terminal,
        )
    except OSError as error:
        raise _failed(chosen, command, f"the program could not be started: {error.strerror}") from error
    try:
        stdout, stderr = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise _failed(
            chosen,
            command,
            f"it gave no credentials within {seconds:.0f} s",
            fix="run it by hand: it may wait for a login in a browser",
            reason="timeout",
        ) from error
    finally:
        _end(process, group=not terminal)
    if process.returncode != 0:
        said = _TOKEN.sub("(left out)", " ".join((stderr or "").split())[-300:])
        raise _failed(
            chosen,
            command,
            f"it failed with exit code {process.returncode}" + (f": {said}" if said else ""),
            fix="log in again with it",
        )
    return stdout


def _end(process: subprocess.Popen[str], *, group: bool) -> None:
    """A plugin that is still there is killed with what it has started; of one that ended, its helpers may live on."""
    if process.poll() is None:
        try:
            if group:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
        except ProcessLookupError:
            pass
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    process.wait()


def _understood(text: str, version: str, chosen: Chosen, command: str) -> Credential:
    try:
        answer = json.loads(text)
        status = answer["status"]
        spoken = answer["apiVersion"]
        expires = status.get("expirationTimestamp")
        credential = Credential(
            token=status.get("token"),
            certificate=status.get("clientCertificateData"),
            key=status.get("clientKeyData"),
            expires=_moment(expires) if expires else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        # Not the answer itself: it may hold a token.
        raise _failed(chosen, command, "what it printed is not an ExecCredential with a status") from error
    if spoken != version:
        raise _failed(chosen, command, f"it speaks {spoken}, the kubeconfig says {version}")
    if not credential.token and not (credential.certificate and credential.key):
        raise _failed(chosen, command, "it gave neither a token nor a client certificate with its key")
    return credential


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _failed(
    chosen: Chosen,
    command: str,
    what: str,
    *,
    expected: str | None = None,
    fix: str | None = None,
    reason: Any = "unauthorized",
) -> ClusterProblem:
    return ClusterProblem(
        f"the login program {Path(command).name} of context {chosen.context!r}: {what}",
        reason=reason,
        where=Place(chosen.source),
        expected=expected,
        fix=fix,
    )
