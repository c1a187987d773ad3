"""The configuration files and command lines of a node's programs. Paths are as the node has them: below /run/node."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from cluster_components import CONTROLLER, Files, api_server_command, etcd_command
from cluster_programs import Programs
from image_store import DISABLED
from node_programs import NodePrograms

INSIDE = Path("/run/node")
PKI = INSIDE / "pki"
NODE = "node1"
ADDRESS = "198.51.100.10"
"""The node's. Public by its number (a range for documentation), as network policies treat private ones otherwise."""
PROVIDER_ADDRESS = "198.51.100.20"
"""The identity provider's: outside the cluster, as far as pods can tell."""
DNS = "10.96.0.10"
PODS = "10.244.0.0/24"
_PORTS = (2379, 2380, 6443)
SOCKET = "/run/containerd/containerd.sock"
_TRUSTED = ("/etc/ssl/certs/ca-certificates.crt", "/usr/lib/ssl/cert.pem")
"""Where programs of Debian look for authorities: the bundle, and OpenSSL's own default."""


def files(cgroup: str, hosts: Mapping[str, str]) -> dict[str, str]:
    """What to write below the node's directory before it starts, by relative path. `hosts`: address by name."""
    lines = [
        "127.0.0.1 localhost",
        f"{ADDRESS} {NODE}",
        *(f"{address} {name}" for name, address in hosts.items()),
    ]
    return {
        "etc/hosts": "".join(f"{line}\n" for line in lines),
        "etc/resolv.conf": f"nameserver {DNS}\noptions timeout:2\n",
        "etc/resolv-upstream.conf": "nameserver 127.0.0.1\n",
        "containerd.toml": _CONTAINERD,
        "cni/10-bridge.conflist": json.dumps(_NETWORK),
        "kubelet.yaml": json.dumps(_kubelet(cgroup)),
        "kube-proxy.yaml": json.dumps(_KUBE_PROXY),
    }


def commands(programs: Programs, node: NodePrograms) -> dict[str, list[str | Path]]:
    """By name."""
    shared = Files(PKI, INSIDE / "log" / "audit.log", INSIDE)
    etcd, peer, api = _PORTS
    return {
        "containerd": ["containerd", "--config", INSIDE / "containerd.toml"],
        "etcd": etcd_command(programs, INSIDE, etcd, peer),
        "kube-apiserver": api_server_command(programs, shared, etcd, api, ADDRESS),
        "kube-controller-manager": [
            programs.kube_controller_manager,
            f"--kubeconfig={PKI / 'kube-controller-manager.kubeconfig'}",
            f"--root-ca-file={PKI / 'ca.crt'}",
            f"--service-account-private-key-file={PKI / 'tokens.key'}",
            "--use-service-account-credentials=true",
            "--node-monitor-grace-period=1h",
            *CONTROLLER,
        ],
        "kube-scheduler": [
            programs.kube_scheduler,
            f"--kubeconfig={PKI / 'kube-scheduler.kubeconfig'}",
            *CONTROLLER,
        ],
        "kube-proxy": [node.kube_proxy, f"--config={INSIDE / 'kube-proxy.yaml'}"],
        "kubelet": [
            node.kubelet,
            f"--config={INSIDE / 'kubelet.yaml'}",
            f"--kubeconfig={PKI / 'kubelet.kubeconfig'}",
            f"--hostname-override={NODE}",
            f"--node-ip={ADDRESS}",
            f"--root-dir={INSIDE / 'kubelet'}",
        ],
    }


CLIENTS = {
    "admin": ("kubernetes-admin", ["system:masters"]),
    "kube-controller-manager": ("system:kube-controller-manager", []),
    "kube-scheduler": ("system:kube-scheduler", []),
    "kube-proxy": ("system:kube-proxy", []),
    "kubelet": (f"system:node:{NODE}", ["system:nodes"]),
}
"""Name of a kubeconfig; its user and groups."""
SERVER_NAMES = (
    *("localhost", "127.0.0.1", "kubernetes", "kubernetes.default", "kubernetes.default.svc"),
    *("kubernetes.default.svc.cluster.local", "10.96.0.1", ADDRESS),
)
URL = f"https://{ADDRESS}:{_PORTS[2]}"


def with_trust(spec: dict[str, object]) -> dict[str, object]:
    """The runtime specification of every container, with the node's own authorities in place of the image's.

    So the images need not know the authority of the site's certificate, which is a new one at each start.
    """
    mounts = [
        {
            "destination": place,
            "type": "bind",
            "source": str(INSIDE / "trusted.crt"),
            "options": ["rbind", "ro"],
        }
        for place in _TRUSTED
    ]
    given = spec["mounts"]
    assert isinstance(given, list)
    return {**spec, "mounts": [*given, *mounts]}


_CONTAINERD = f"""version = 2
root = "{INSIDE / "containerd"}"
state = "/run/containerd/state"
disabled_plugins = {json.dumps(DISABLED)}
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.k8s.io/pause:3.10.1"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{INSIDE / "cni"}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    base_runtime_spec = "{INSIDE / "container.json"}"
"""
_NETWORK = {
    "cniVersion": "1.0.0",
    "name": "pods",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "ipMasq": False,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": PODS}]],
                "routes": [{"dst": "0.0.0.0/0"}],
                "dataDir": str(INSIDE / "cni-addresses"),
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}
_KUBE_PROXY = {
    "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
    "kind": "KubeProxyConfiguration",
    "clientConnection": {"kubeconfig": str(PKI / "kube-proxy.kubeconfig")},
    "mode": "iptables",
    "clusterCIDR": PODS,
    "hostnameOverride": NODE,
    "oomScoreAdj": 0,
    "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    "nodePortAddresses": [f"{ADDRESS}/32"],
}


def _kubelet(cgroup: str) -> dict[str, object]:
    """For control groups of version 1, below `cgroup`, which exists."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(PKI / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "address": ADDRESS,
        "tlsCertFile": str(PKI / "kubelet.crt"),
        "tlsPrivateKeyFile": str(PKI / "kubelet.key"),
        "clusterDNS": [DNS],
        "clusterDomain": "cluster.local",
        "resolvConf": str(INSIDE / "etc" / "resolv-upstream.conf"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroup}",
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "enforceNodeAllocatable": ["pods"],
        "podLogsDir": str(INSIDE / "pod-logs"),
        "volumePluginDir": str(INSIDE / "volume-plugins"),
        "readOnlyPort": 0,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "2%", "imagefs.available": "2%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "maxPods": 60,
        "serializeImagePulls": False,
        "nodeStatusUpdateFrequency": "10s",
    }
