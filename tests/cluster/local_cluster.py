"""A Kubernetes API server of our own for tests, with controllers, a scheduler and simulated nodes.

etcd and kube-apiserver (TLS, RBAC, NodeRestriction, an audit log) listen on free loopback ports; all processes die with
the one that started them. Nothing runs in the pods: `simulated_nodes` says what they pretend, `exec` runs the command
on this machine.
"""

from __future__ import annotations

import base64
import json
import shutil
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cluster_programs
import simulated_nodes
import urllib3
from cluster_api import Api, Object, Refused
from cluster_certificates import Authority, Pair, signing_pair
from cluster_processes import Process, free_ports
from cluster_programs import Programs
from cluster_storage import SimulatedStorage

SERVICES = "10.96.0.0/16"
HUB_FOLDER = "/srv/jupyterhub"
"""Where the hub's pod keeps its database, and what `hub_volume` is for `exec`."""
_START = 60.0


class LocalCluster:
    """One cluster in `directory`, which must be empty; a context manager."""

    given = False

    def __init__(
        self,
        directory: Path,
        programs: Programs,
        *,
        nodes: Mapping[str, Mapping[str, str]] = simulated_nodes.DEFAULT_NODES,
    ) -> None:
        self.directory = directory
        self._programs = programs
        self._nodes = nodes
        self._authority = Authority("test cluster")
        self._ports = free_ports(4)
        self.audit_log = directory / "audit.log"
        self.pod_log = directory / "pods.log"
        self.hub_volume = directory / "hub-volume"
        self.url = f"https://127.0.0.1:{self._ports[2]}"
        self.kubeconfig = directory / "admin.kubeconfig"
        self._processes: dict[str, Process] = {}
        self._storage: SimulatedStorage | None = None
        self._api: Api | None = None

    @property
    def api(self) -> Api:
        """The administrator's client."""
        if self._api is None:
            self._api = Api(self.kubeconfig)
        return self._api

    @property
    def versions(self) -> dict[str, str]:
        """Of `kubernetes` (as the server says), `helm3`, `helm4`, `etcd` and `kwok`."""
        return cluster_programs.versions() | {"kubernetes": self.api.call("GET", "/version")["gitVersion"]}

    def __enter__(self) -> LocalCluster:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything; returns when a pod can be scheduled and gets its service account."""
        self.hub_volume.mkdir()
        self.pod_log.write_text("")
        self.write_pod_log("this pod is simulated")
        self._write_credentials()
        self._define_processes()
        for name in ("etcd", "kube-apiserver"):
            self._processes[name].start()
        self._wait_until_ready()
        for name in ("kube-controller-manager", "kube-scheduler", "kwok"):
            self._processes[name].start()
        for node in simulated_nodes.nodes(self._nodes):
            self.api.create(node)
        self._storage = SimulatedStorage(self.api)
        self._storage.start()
        self._wait("nodes are ready", self._nodes_ready)
        self._wait(
            "service accounts are made", lambda: self.api.get("ServiceAccount", "default", "default") is not None
        )

    def stop(self) -> None:
        """End everything at once."""
        if self._storage is not None:
            self._storage.stop()
        for process in reversed(self._processes.values()):
            process.kill()

    # -- how the API server can fail

    def freeze(self) -> None:
        """The API server hangs: it accepts connections and answers nothing."""
        self._processes["kube-apiserver"].send(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on where it was."""
        self._processes["kube-apiserver"].send(signal.SIGCONT)
        self._wait_until_ready()

    def kill_api(self) -> None:
        """The API server vanishes: connections are refused."""
        self._processes["kube-apiserver"].kill()

    def start_api(self) -> None:
        """It returns, with all that was stored."""
        if not self._processes["kube-apiserver"].alive:
            self._processes["kube-apiserver"].start()
        self._wait_until_ready()

    # -- who did what

    def audit_events(self, since: float = 0.0) -> list[Object]:
        """Requests that were answered after `since` (seconds since the epoch), oldest first.

        Reads carry metadata, writes the bodies too; the cluster's own components are left out.
        """
        found = []
        with self.audit_log.open(encoding="utf-8") as lines:
            for line in lines:
                if not line.endswith("\n"):
                    break  # being written
                event = json.loads(line)
                if event["stage"] == "ResponseComplete" and _seconds(event["stageTimestamp"]) >= since:
                    found.append(event)
        return found

    def writes(self, since: float = 0.0) -> list[Object]:
        """Those of `audit_events` that changed something, or tried to: no reads, no dry runs, no access reviews."""
        return [event for event in self.audit_events(since) if _changes(event)]

    # -- access

    def kubeconfig_for(self, user: str, groups: Sequence[str] = ()) -> Path:
        """A kubeconfig with a client certificate for `user`, who may do nothing until bound to a role."""
        path = self.directory / f"{user.replace('/', '_').replace(':', '_')}.kubeconfig"
        self._write_kubeconfig(path, self._authority.issue(user, groups))
        return path

    # -- objects

    def apply(self, objects: str | Mapping[str, Any] | Iterable[Mapping[str, Any]], namespace: str = "") -> None:
        """Server-side apply, forced, as the administrator."""
        self.api.apply(objects, namespace)

    def storage_class(
        self, name: str, binds: bool = True, *, expands: bool = True, waits: bool = False, default: bool = False
    ) -> None:
        """A storage class whose claims become Bound (`binds`), can grow, wait for a pod, and is the default one."""
        assert self._storage is not None
        self.api.apply(self._storage.definition(name, binds, expands, waits, default))

    def write_pod_log(self, text: str) -> None:
        """Append lines to the log that every container of every pod shows."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S.000000000Z", time.gmtime())
        with self.pod_log.open("a", encoding="utf-8") as log:
            log.writelines(f"{stamp} stdout F {line}\n" for line in text.splitlines())

    def log_tails(self) -> str:
        """The ends of all components' logs, for the report of a failed test."""
        return "\n".join(process.tail() for process in self._processes.values())

    # -- parts

    def _wait(self, what: str, read: Any) -> None:
        def tried() -> Any:
            for process in self._processes.values():
                if not process.alive:
                    raise RuntimeError(f"{process.name} ended at once\n{process.tail()}")
            try:
                return read()
            except (Refused, urllib3.exceptions.HTTPError):
                return None

        try:
            Api.wait(self.api, what, tried, patience=_START)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.log_tails()}") from error

    def _wait_until_ready(self) -> None:
        until = time.monotonic() + _START
        while True:
            if not self._processes["kube-apiserver"].alive:
                raise RuntimeError(f"kube-apiserver ended\n{self._processes['kube-apiserver'].tail()}")
            try:
                if self.api.call("GET", "/readyz", timeout=2.0) == "ok":
                    return
            except (Refused, urllib3.exceptions.HTTPError):
                pass
            if time.monotonic() > until:
                raise TimeoutError(f"the API server is not ready\n{self.log_tails()}")
            time.sleep(0.1)

    def _nodes_ready(self) -> bool:
        ready = [
            node["metadata"]["name"]
            for node in self.api.list("Node")
            if not node["spec"].get("taints")
            and any(
                one["type"] == "Ready" and one["status"] == "True" for one in node["status"].get("conditions", [])
            )
        ]
        return len(ready) == len(self._nodes)

    def _write_credentials(self) -> None:
        issue, directory = self._authority.issue, self.directory
        (directory / "ca.crt").write_bytes(self._authority.certificate)
        names = ("localhost", "127.0.0.1", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "10.96.0.1")
        issue("kube-apiserver", hosts=names).write(directory, "server")
        issue("kube-apiserver-kubelet-client", ["system:masters"]).write(directory, "kubelet-client")
        issue("kubelet", hosts=("localhost", "127.0.0.1")).write(directory, "kubelet")
        signing_pair().write(directory, "tokens")
        self._write_kubeconfig(self.kubeconfig, issue("kubernetes-admin", ["system:masters"]))
        # The components as administrators of their own names: what they do stays out of `audit_events` by user.
        for name in ("system:kube-controller-manager", "system:kube-scheduler"):
            self._write_kubeconfig(directory / f"{name.partition(':')[2]}.kubeconfig", issue(name))
        self._write_kubeconfig(directory / "kwok.kubeconfig", issue("system:kwok", ["system:masters"]))
        (directory / "audit-policy.json").write_text(json.dumps(_AUDIT_POLICY))
        (directory / "kwok.yaml").write_text(simulated_nodes.configuration(self.pod_log))

    def _write_kubeconfig(self, path: Path, pair: Pair) -> None:
        def text(data: bytes) -> str:
            return base64.b64encode(data).decode()

        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "clusters": [
                {
                    "name": "test",
                    "cluster": {
                        "server": self.url,
                        "certificate-authority-data": text(self._authority.certificate),
                    },
                }
            ],
            "users": [
                {
                    "name": "test",
                    "user": {
                        "client-certificate-data": text(pair.certificate),
                        "client-key-data": text(pair.key),
                    },
                }
            ],
        }
        path.touch(mode=0o600)
        path.write_text(json.dumps(config))

    def _define_processes(self) -> None:
        etcd, peer, api, kubelet = self._ports
        place, programs = self.directory, self._programs
        commands: dict[str, list[str | Path]] = {
            "etcd": [
                programs.etcd,
                f"--data-dir={place / 'etcd'}",
                f"--listen-client-urls=http://127.0.0.1:{etcd}",
                f"--advertise-client-urls=http://127.0.0.1:{etcd}",
                f"--listen-peer-urls=http://127.0.0.1:{peer}",
                f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
                f"--initial-cluster=default=http://127.0.0.1:{peer}",
                "--unsafe-no-fsync",  # nothing here outlives the machine
                "--log-level=warn",
            ],
            "kube-apiserver": [
                programs.kube_apiserver,
                f"--etcd-servers=http://127.0.0.1:{etcd}",
                "--bind-address=127.0.0.1",
                "--advertise-address=127.0.0.1",
                "--endpoint-reconciler-type=none",  # no endpoint may be a loopback address
                f"--secure-port={api}",
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
                f"--audit-log-path={self.audit_log}",
                "--audit-log-mode=blocking-strict",
                "--audit-log-maxsize=0",
                "--profiling=false",
                "--shutdown-delay-duration=0s",
            ],
            "kube-controller-manager": [
                programs.kube_controller_manager,
                f"--kubeconfig={place / 'kube-controller-manager.kubeconfig'}",
                f"--root-ca-file={place / 'ca.crt'}",
                f"--service-account-private-key-file={place / 'tokens.key'}",
                "--use-service-account-credentials=true",
                "--leader-elect=false",
                "--secure-port=0",
                # A frozen API server must not look like dead nodes, whose pods are then evicted.
                "--node-monitor-grace-period=1h",
                "--kube-api-qps=200",
                "--kube-api-burst=400",
            ],
            "kube-scheduler": [
                programs.kube_scheduler,
                f"--kubeconfig={place / 'kube-scheduler.kubeconfig'}",
                "--leader-elect=false",
                "--secure-port=0",
                "--kube-api-qps=200",
                "--kube-api-burst=400",
            ],
            "kwok": [
                *self._hub_folder(),
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
            ],
        }
        self._processes = {name: Process(name, command, place) for name, command in commands.items()}

    def _hub_folder(self) -> list[str | Path]:
        """Before kwok: where bubblewrap works, commands in pods find `hub_volume` as the hub's own folder."""
        bwrap = shutil.which("bwrap")
        if bwrap is None:
            return []
        return [bwrap, "--die-with-parent", "--dev-bind", "/", "/", "--tmpfs", "/srv"] + [
            *("--bind", self.hub_volume, HUB_FOLDER, "--")
        ]


_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [
        {
            "level": "None",
            "users": ["system:kube-controller-manager", "system:kube-scheduler", "system:kwok", "system:apiserver"],
        },
        {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},
        {"level": "None", "nonResourceURLs": ["/readyz*", "/livez*", "/healthz*"]},
        {"level": "Metadata", "verbs": ["get", "list", "watch"]},
        {"level": "RequestResponse"},
    ],
}
_READS = frozenset({"get", "list", "watch"})
_REVIEWS = frozenset({"authorization.k8s.io", "authentication.k8s.io"})


def _changes(event: Object) -> bool:
    if event["verb"] in _READS or event.get("objectRef", {}).get("apiGroup") in _REVIEWS:
        return False
    return "dryRun=All" not in event["requestURI"]


def _seconds(stamp: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()
