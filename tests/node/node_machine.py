"""A Kubernetes node with real containers, in network, mount and PID namespaces of its own.

While it runs, the thread that started it is in the node's network, and so are its later threads and processes: they
reach pods, services and the API server as the node does. Everything ends with the test run, however that ends:
`node_keeper.py`.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cluster_programs
import image_store
import node_components
import urllib3
from cluster_api import Api, Refused
from cluster_certificates import Authority, kubeconfig, signing_pair
from cluster_components import AUDIT_POLICY
from cluster_processes import Process
from node_components import ADDRESS, INSIDE, NODE
from node_policy_keeper import PolicyKeeper
from node_software import NodeSoftware
from node_storage import NodeStorage

HERE = Path(__file__).resolve().parent
CORES = 8
"""That the kubelet counts, so that requests of whole cores fit; the kernel keeps limits to those there are."""
_CLONE_NEWNET = 0x40000000
_START = 120.0


class Node:
    """One node in `directory`, which is removed at its end; a context manager. `hosts`: addresses of public names."""

    def __init__(self, directory: Path, software: NodeSoftware, hosts: Mapping[str, str]) -> None:
        programs = cluster_programs.find()
        assert programs is not None, f"{cluster_programs.PREPARE} comes first"
        self.directory = directory
        self.software = software
        self.hosts = dict(hosts)
        self.helm = programs.helm(4)
        self.authority = Authority("test node")
        self.kubeconfig = directory / "pki" / "admin.kubeconfig"
        self.trusted = directory / "trusted.crt"
        self.cgroup = f"tidehub-node-{os.getpid()}-{id(self):x}"
        self._commands = node_components.commands(programs, software.programs)
        self._processes: dict[str, Process] = {}
        self._keeper: subprocess.Popen[bytes] | None = None
        self._first = 0
        self._outside = -1
        self._api: Api | None = None
        self._storage: NodeStorage | None = None
        self._policies: PolicyKeeper | None = None

    @property
    def api(self) -> Api:
        """The administrator's client."""
        if self._api is None:
            self._api = Api(self.kubeconfig)
        return self._api

    def __enter__(self) -> Node:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything; returns when the node is ready, its names are resolved and it takes requests."""
        self._write_files()
        self._hold_namespaces()
        self._enter_network()
        self._write_container_spec()
        for name in ("containerd", "etcd", "kube-apiserver"):
            self.start_program(name)
        self._wait("the API server is ready", lambda: self.api.call("GET", "/readyz", timeout=2.0) == "ok")
        for name in ("kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet"):
            self.start_program(name)
        self._storage = NodeStorage(self.api, ADDRESS, self.directory / "volumes", INSIDE / "volumes", NODE)
        self._storage.start()
        self._policies = PolicyKeeper(self.api)
        self._policies.start()
        self._wait("the service account exists", lambda: self.api.get("ServiceAccount", "default", "default"))
        for name in ("coredns", "ingress"):
            self.api.apply(self._manifest(name))
        self._wait("the node is ready", self._node_is_ready)
        for name, namespace in (("coredns", "kube-system"), ("ingress-nginx-controller", "ingress-nginx")):
            self._wait(f"{name} is ready", lambda name=name, namespace=namespace: self._runs(name, namespace))
        # By a service's address, which kube-proxy takes a moment to learn.
        asked = ["getent", "hosts", "kubernetes.default.svc.cluster.local"]
        self._wait("names are resolved", lambda: not self.run(asked, capture_output=True).returncode)

    def stop(self) -> None:
        """End everything at once, and leave the node's network."""
        for part in (self._policies, self._storage):
            if part is not None:
                part.stop()
        if self._keeper is not None:
            assert self._keeper.stdin is not None
            self._keeper.stdin.close()
            self._keeper.wait(timeout=60)
            self._keeper = None
        for process in self._processes.values():
            process.kill()
        if self._outside >= 0:
            _set_network(self._outside)
            os.close(self._outside)
            self._outside = -1

    def start_program(self, name: str) -> None:
        """Start one of the node's programs, once more after `kill_program`."""
        if name not in self._processes:
            inside = ["nsenter", f"--target={self._first}", "--mount", "--pid", "--net", "--"]
            command = [*inside, *self._commands[name]]
            self._processes[name] = Process(name, command, self.directory / "log")
        self._processes[name].start()

    def kill_program(self, name: str) -> None:
        """End one of the node's programs at once; containers go on without any."""
        self._processes[name].kill()

    def run(
        self, command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, **more: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of the machine that finds names as the node does."""
        bound = (
            'mount --bind "$0/hosts" /etc/hosts; mount --bind "$0/resolv.conf" /etc/resolv.conf; exec "$@"'
        )
        whole = ["unshare", "--mount", "sh", "-euc", bound, self.directory / "etc", *command]
        settings = {"KUBECONFIG": str(self.kubeconfig), "SSL_CERT_FILE": str(self.trusted)}
        return subprocess.run(whole, env={**os.environ, **settings, **(env or {})}, text=True, **more)

    def kubectl(self, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """`kubectl` as the administrator."""
        return self.run([self.software.programs.kubectl, *words], capture_output=True, **more)

    def log_tails(self) -> str:
        """The ends of all programs' logs, for the report of a failed test."""
        return "\n".join(process.tail() for process in self._processes.values())

    # -- parts

    def _write_files(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        for name in ("log", "pki", "containerd", "kubelet", "pod-logs"):
            (self.directory / name).mkdir()
        for path, text in node_components.files(self.cgroup, self.hosts).items():
            target = self.directory / path
            target.parent.mkdir(exist_ok=True)
            target.write_text(text)
        self._write_cores()
        self._write_credentials()
        root = self.software.store / "root"
        for database in image_store.DATABASES:
            target = self.directory / "containerd" / database
            target.parent.mkdir(parents=True)
            shutil.copyfile(root / database, target)

    def _write_cores(self) -> None:
        """NUMA nodes for the kubelet to count, each with the same real cores: it writes their numbers into cpusets."""
        real = os.cpu_count() or 1
        meminfo = Path("/sys/devices/system/node/node0/meminfo").read_text()
        for number in range(max(1, CORES // real)):
            place = self.directory / "nodes" / f"node{number}"
            (place / "hugepages").mkdir(parents=True)
            (place / "meminfo").write_text(meminfo)
            (place / "distance").write_text("10")
            for core in range(real):
                topology = place / f"cpu{core}" / "topology"
                topology.mkdir(parents=True)
                (topology / "core_id").write_text(str(core))
                (topology / "physical_package_id").write_text("0")

    def _write_credentials(self) -> None:
        pki, issue = self.directory / "pki", self.authority.issue
        (pki / "ca.crt").write_bytes(self.authority.certificate)
        issue("kube-apiserver", hosts=node_components.SERVER_NAMES).write(pki, "server")
        issue("kube-apiserver-kubelet-client", ["system:masters"]).write(pki, "kubelet-client")
        issue("kubelet", hosts=(NODE, ADDRESS)).write(pki, "kubelet")
        signing_pair().write(pki, "tokens")
        (pki / "audit-policy.json").write_text(json.dumps(AUDIT_POLICY))
        for name, (user, groups) in node_components.CLIENTS.items():
            path = pki / f"{name}.kubeconfig"
            path.touch(mode=0o600)
            path.write_text(
                json.dumps(kubeconfig(node_components.URL, self.authority.certificate, issue(user, groups)))
            )
        common = Path("/etc/ssl/certs/ca-certificates.crt").read_bytes()
        self.trusted.write_bytes(common + self.authority.certificate)

    def _hold_namespaces(self) -> None:
        root = self.software.store / "root"
        snapshots = image_store.SNAPSHOTS / "snapshots"
        mounts = [image_store.CONTENT / "blobs"]
        mounts += [snapshots / path.name for path in (root / snapshots).iterdir() if path.name.isdigit()]
        script = (HERE / "node_inside.sh").read_text()
        filled = {
            "@ADDRESSES@": " ".join([ADDRESS, node_components.PROVIDER_ADDRESS]),
            "@MOUNTS@": " ".join(map(str, mounts)),
            "@STORE@": str(root),
        }
        for name, value in filled.items():
            script = script.replace(name, value)
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", HERE / "node_keeper.py", self.directory, self.cgroup, script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._keeper.stdout is not None
        said = self._keeper.stdout.readline().strip()
        if not said:
            raise RuntimeError(f"the node's namespaces: {(self.directory / 'init.log').read_text()}")
        self._first = int(said)

    def _enter_network(self) -> None:
        self._outside = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY)
        inside = os.open(f"/proc/{self._first}/ns/net", os.O_RDONLY)
        try:
            _set_network(inside)
        finally:
            os.close(inside)

    def _write_container_spec(self) -> None:
        said = subprocess.run(["ctr", "oci", "spec"], capture_output=True, check=True).stdout
        (self.directory / "container.json").write_text(
            json.dumps(node_components.with_trust(json.loads(said)))
        )

    def _manifest(self, name: str) -> str:
        hosts = "\n            ".join(f"{address} {host}" for host, address in self.hosts.items())
        text = (HERE / "manifests" / f"{name}.yaml").read_text()
        return text.replace("@HOSTS@", hosts).replace("@ADDRESS@", ADDRESS)

    def _wait(self, what: str, read: Any) -> None:
        until = time.monotonic() + _START
        while True:
            for process in self._processes.values():
                if not process.alive:
                    raise RuntimeError(f"{process.name} ended at once\n{process.tail()}")
            try:
                if read():
                    return
            except (Refused, urllib3.exceptions.HTTPError):
                pass
            if time.monotonic() > until:
                raise TimeoutError(f"not within {_START:.0f} s: {what}\n{self.log_tails()}")
            time.sleep(0.1)

    def _node_is_ready(self) -> bool:
        node = self.api.get("Node", NODE)
        conditions = (node or {}).get("status", {}).get("conditions", [])
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    def _runs(self, name: str, namespace: str) -> bool:
        found = self.api.get("Deployment", name, namespace, version="apps/v1")
        return found is not None and found.get("status", {}).get("readyReplicas", 0) > 0


def _set_network(descriptor: int) -> None:
    """Move the calling thread into a network namespace (setns(2); Python 3.11 has no call for it)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
