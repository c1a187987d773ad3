"""A Kubernetes API server of our own for tests, with controllers, a scheduler and simulated nodes.

etcd and kube-apiserver (TLS, RBAC, NodeRestriction, an audit log) listen on free loopback ports; all processes die with
the one that started them. Nothing runs in the pods: `simulated_nodes` says what they pretend; `exec` runs the
command on this machine, where bubblewrap works with `hub_volume` as /srv/jupyterhub.
"""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import cluster_programs
import simulated_nodes
import urllib3
from cluster_api import Api, Object, Refused
from cluster_certificates import Authority, Pair, kubeconfig, signing_pair
from cluster_components import AUDIT_POLICY, Files, commands
from cluster_processes import Process, free_ports
from cluster_programs import Programs
from simulated_provider import SimulatedProvider

_START = 180.0


class LocalCluster:
    """One cluster in `directory`, which must be empty; a context manager."""

    given = False
    nodes_are_simulated = True

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
        self._provider: SimulatedProvider | None = None
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
        files = Files(self.directory, self.audit_log, self.hub_volume)
        for name, command in commands(self._programs, files, self._ports).items():
            self._processes[name] = Process(name, command, self.directory)
        for name in ("etcd", "kube-apiserver"):
            self._processes[name].start()
        self._wait_until_ready()
        for name in ("kube-controller-manager", "kube-scheduler", "kwok"):
            self._processes[name].start()
        for node in simulated_nodes.nodes(self._nodes):
            self.api.create(node)
        self._provider = SimulatedProvider(self.api)
        self._provider.start()
        self._wait("nodes are ready", self._nodes_ready)
        self._wait(
            "service accounts are made",
            lambda: self.api.get("ServiceAccount", "default", "default") is not None,
        )

    def stop(self) -> None:
        """End everything at once."""
        if self._provider is not None:
            self._provider.stop()
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
                # A line without its end is being written; one without a stamp is not an event. Parsing costs more.
                stamp = _STAMP.search(line)
                if line.endswith("\n") and stamp and _seconds(stamp[1]) >= since:
                    event = json.loads(line)
                    if event["stage"] == "ResponseComplete":
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

    def apply(
        self, objects: str | Mapping[str, Any] | Iterable[Mapping[str, Any]], namespace: str = ""
    ) -> None:
        """Server-side apply, forced, as the administrator."""
        self.api.apply(objects, namespace)

    def storage_class(
        self,
        name: str,
        binds: bool = True,
        *,
        expands: bool = True,
        waits: bool = False,
        default: bool = False,
    ) -> None:
        """A storage class whose claims become Bound (`binds`), can grow, wait for a pod, and is the default one."""
        assert self._provider is not None
        self.api.apply(self._provider.definition(name, binds, expands, waits, default))

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
                one["type"] == "Ready" and one["status"] == "True"
                for one in node["status"].get("conditions", [])
            )
        ]
        return len(ready) == len(self._nodes)

    def _write_credentials(self) -> None:
        issue, directory = self._authority.issue, self.directory
        (directory / "ca.crt").write_bytes(self._authority.certificate)
        names = (
            "localhost",
            "127.0.0.1",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "10.96.0.1",
        )
        issue("kube-apiserver", hosts=names).write(directory, "server")
        issue("kube-apiserver-kubelet-client", ["system:masters"]).write(directory, "kubelet-client")
        issue("kubelet", hosts=("localhost", "127.0.0.1")).write(directory, "kubelet")
        signing_pair().write(directory, "tokens")
        self._write_kubeconfig(self.kubeconfig, issue("kubernetes-admin", ["system:masters"]))
        # The components as administrators of their own names: what they do stays out of `audit_events` by user.
        for name in ("system:kube-controller-manager", "system:kube-scheduler"):
            self._write_kubeconfig(directory / f"{name.partition(':')[2]}.kubeconfig", issue(name))
        self._write_kubeconfig(directory / "kwok.kubeconfig", issue("system:kwok", ["system:masters"]))
        (directory / "audit-policy.json").write_text(json.dumps(AUDIT_POLICY))
        (directory / "kwok.yaml").write_text(simulated_nodes.configuration(self.pod_log))

    def _write_kubeconfig(self, path: Path, pair: Pair) -> None:
        config = kubeconfig(self.url, self._authority.certificate, pair)
        path.touch(mode=0o600)
        path.write_text(json.dumps(config))


_STAMP = re.compile(r'"stageTimestamp":"([^"]+)"')
_READS = frozenset({"get", "list", "watch"})
_REVIEWS = frozenset({"authorization.k8s.io", "authentication.k8s.io"})


def _changes(event: Object) -> bool:
    if event["verb"] in _READS or event.get("objectRef", {}).get("apiGroup") in _REVIEWS:
        return False
    return "dryRun=All" not in event["requestURI"]


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()
