"""The command lines of a test cluster's components, and what its API server writes down."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster_programs import Programs

SERVICES = "10.96.0.0/16"
HUB_FOLDER = "/srv/jupyterhub"
"""Where the hub's pod keeps its database."""


@dataclass(frozen=True)
class Files:
    """Where the components find what they share."""

    directory: Path
    """Certificates, kubeconfigs and configuration by their names."""
    audit_log: Path
    hub_volume: Path


def commands(programs: Programs, files: Files, ports: Sequence[int]) -> dict[str, list[str | Path]]:
    """By name, in the order of their start; `ports` are etcd's two, the API server's and the kubelets'."""
    etcd, peer, api, kubelet = ports
    place = files.directory
    return {
        "etcd": etcd_command(programs, place, etcd, peer),
        "kube-apiserver": api_server_command(programs, files, etcd, api),
        "kube-controller-manager": [
            programs.kube_controller_manager,
            f"--kubeconfig={place / 'kube-controller-manager.kubeconfig'}",
            f"--root-ca-file={place / 'ca.crt'}",
            f"--service-account-private-key-file={place / 'tokens.key'}",
            "--use-service-account-credentials=true",
            # A frozen API server must not look like dead nodes, whose pods are then evicted.
            "--node-monitor-grace-period=1h",
            *CONTROLLER,
        ],
        "kube-scheduler": [
            programs.kube_scheduler,
            f"--kubeconfig={place / 'kube-scheduler.kubeconfig'}",
            *CONTROLLER,
        ],
        "kwok": [
            *_with_hub_folder(files.hub_volume),
            programs.kwok,
            f"--kubeconfig={place / 'kwok.kubeconfig'}",
            f"--config={place / 'kwok.yaml'}",
            "--manage-all-nodes=true",
            "--cidr=10.244.0.1/16",
            "--node-ip=127.0.0.1",
            f"--node-port={kubelet}",
            f"--server-address=127.0.0.1:{kubelet}",
            f"--tls-cert-file={place / 'kubelet.crt'}",
            f"--tls-private-key-file={place / 'kubelet.key'}",
            "--node-lease-duration-seconds=40",
            "--v=WARN",
        ],
    }


CONTROLLER = ("--leader-elect=false", "--secure-port=0", "--kube-api-qps=200", "--kube-api-burst=400")


def etcd_command(programs: Programs, place: Path, client: int, peer: int) -> list[str | Path]:
    """A member alone, with its data in `place`/etcd; two loopback ports."""
    return [
        programs.etcd,
        f"--data-dir={place / 'etcd'}",
        f"--listen-client-urls=http://127.0.0.1:{client}",
        f"--advertise-client-urls=http://127.0.0.1:{client}",
        f"--listen-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
        f"--initial-cluster=default=http://127.0.0.1:{peer}",
        "--unsafe-no-fsync",  # nothing here outlives the machine
        "--log-level=warn",
    ]


def api_server_command(
    programs: Programs, files: Files, etcd: int, port: int, address: str = "127.0.0.1"
) -> list[str | Path]:
    """An API server at `address`, over the etcd of a loopback port."""
    place = files.directory
    # No endpoint may be a loopback address, so a server there has none.
    unnamed = ["--endpoint-reconciler-type=none"] if address == "127.0.0.1" else []
    return [
        programs.kube_apiserver,
        f"--etcd-servers=http://127.0.0.1:{etcd}",
        f"--bind-address={address}",
        f"--advertise-address={address}",
        *unnamed,
        f"--secure-port={port}",
        f"--service-cluster-ip-range={SERVICES}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--client-ca-file={place / 'ca.crt'}",
        f"--tls-cert-file={place / 'server.crt'}",
        f"--tls-private-key-file={place / 'server.key'}",
        f"--kubelet-certificate-authority={place / 'ca.crt'}",
        f"--kubelet-client-certificate={place / 'kubelet-client.crt'}",
        f"--kubelet-client-key={place / 'kubelet-client.key'}",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={place / 'tokens.crt'}",
        f"--service-account-signing-key-file={place / 'tokens.key'}",
        f"--audit-policy-file={place / 'audit-policy.json'}",
        f"--audit-log-path={files.audit_log}",
        "--audit-log-mode=blocking-strict",  # what was answered is in the log already
        "--audit-log-maxsize=0",
        "--profiling=false",
        "--shutdown-delay-duration=0s",
    ]


def _with_hub_folder(volume: Path) -> list[str | Path]:
    """Before kwok: where bubblewrap works, commands in pods find `volume` as the hub's own folder."""
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        return []
    whole = [bwrap, "--die-with-parent", "--dev-bind", "/", "/", "--tmpfs", "/srv"]
    if subprocess.run([*whole, "true"], capture_output=True).returncode:
        return []
    return [*whole, "--bind", volume, HUB_FOLDER, "--"]


AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [
        {
            "level": "None",
            "users": [
                "system:kube-controller-manager",
                "system:kube-scheduler",
                "system:kwok",
                "system:apiserver",
            ],
        },
        {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},
        {"level": "None", "nonResourceURLs": ["/readyz*", "/livez*", "/healthz*"]},
        {"level": "Metadata", "verbs": ["get", "list", "watch"]},
        {"level": "RequestResponse"},
    ],
}
"""Reads with metadata, all else with the bodies; what the cluster does by itself is left out."""
