"""The node itself: a pod runs, its volume holds, policies are kept, and nothing is left when the test run is killed."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from cluster_api import Object
from node_keeper import CONTROLLERS
from node_machine import Node
from node_storage import CLASS

IMAGE = "quay.io/jupyterhub/k8s-network-tools:4.4.0"


def pod(name: str, script: str, **spec: Any) -> Object:
    container: Object = {
        "name": "main",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "command": ["sh", "-euc", script],
    }
    container |= {"volumeMounts": spec.pop("volumeMounts", [])}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
        "spec": {
            "containers": [container],
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            **spec,
        },
    }


def ended(node: Node, name: str) -> str:
    """Waits for the end of a pod; what it said."""

    def over() -> str:
        found = node.api.get("Pod", name, "default")
        assert found is not None
        phase = found["status"]["phase"]
        return phase if phase in ("Succeeded", "Failed") else ""

    phase = node.api.wait(f"pod {name} ends", over)
    said = node.kubectl("logs", name).stdout
    assert phase == "Succeeded", said
    return said


def address(node: Node, name: str) -> str:
    """Waits until a pod runs; its address."""
    found = node.api.wait(
        f"pod {name} runs",
        lambda: (one := node.api.get("Pod", name, "default")) and one["status"]["phase"] == "Running" and one,
    )
    return str(found["status"]["podIP"])


def test_a_pod_reaches_the_api_by_the_name_of_its_service(node: Node) -> None:
    script = "curl -sS --cacert /var/run/secrets/kubernetes.io/serviceaccount/ca.crt https://kubernetes.default/readyz"
    node.api.create(pod("asks", script))
    assert ended(node, "asks") == "ok"


def test_a_volume_keeps_what_a_pod_wrote_and_goes_with_its_claim(node: Node) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "kept", "namespace": "default"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": CLASS,
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    node.api.create(claim)
    mounted = {
        "volumes": [{"name": "kept", "persistentVolumeClaim": {"claimName": "kept"}}],
        "volumeMounts": [{"name": "kept", "mountPath": "/kept"}],
        "securityContext": {"runAsUser": 1000, "fsGroup": 100},
    }
    node.api.create(pod("writes", "echo here > /kept/file", **mounted))
    ended(node, "writes")
    node.api.delete("Pod", "writes", "default")
    node.api.create(pod("reads", "cat /kept/file; stat -c %g /kept", **mounted))
    assert ended(node, "reads").split() == ["here", "100"]
    (volume,) = (node.directory / "volumes").iterdir()
    node.api.delete("Pod", "reads", "default")
    node.api.delete("PersistentVolumeClaim", "kept", "default")
    node.api.wait("the volume is gone", lambda: not volume.exists())


def test_a_policy_lets_through_what_it_names_and_nothing_else(node: Node) -> None:
    node.api.create(
        pod("serves", "mkdir /tmp/s; cd /tmp/s; echo hello > index.html; exec python3 -m http.server 8000")
    )
    served = address(node, "serves")
    waits = "until curl -sS --max-time 2 http://{0}:8000 | grep hello; do sleep 0.2; done"
    node.api.create(pod("open", waits.format(served)))
    ended(node, "open")
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "serves", "namespace": "default"},
        "spec": {
            "podSelector": {"matchLabels": {"app": "serves"}},
            "ingress": [
                {"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}], "ports": [{"port": 8000}]}
            ],
        },
    }
    node.api.create(policy)
    closed = "while curl -sS --max-time 2 http://{0}:8000; do sleep 0.1; done"
    node.api.create(pod("stranger", closed.format(served)))
    ended(node, "stranger")
    node.api.create(pod("friend", waits.format(served)))
    ended(node, "friend")


def test_an_image_that_is_nowhere_is_said(node: Node) -> None:
    node.api.create(
        {**pod("wrong", "true"), "spec": {"containers": [{"name": "main", "image": "nowhere.test/x:1"}]}}
    )

    def reason() -> str:
        found = node.api.get("Pod", "wrong", "default") or {}
        states = found.get("status", {}).get("containerStatuses", [])
        return str(states[0]["state"].get("waiting", {}).get("reason", "")) if states else ""

    node.api.wait("the pull fails", lambda: reason() in ("ErrImagePull", "ImagePullBackOff"))


_OTHER_RUN = """
import sys, time
from pathlib import Path
sys.path[:0] = {paths}
import node_software
from node_machine import Node
node = Node(Path({directory!r}), node_software.find(), {{}})
node.start()
print(node.cgroup, node._first, flush=True)
time.sleep(600)
"""


def test_nothing_is_left_of_a_run_that_was_killed(node: Node, tmp_path: Path) -> None:
    """A second node beside the first, whose test run ends by SIGKILL while pods run."""
    directory = tmp_path / "other"
    paths = [path for path in sys.path if path]
    run = subprocess.Popen(
        [sys.executable, "-c", _OTHER_RUN.format(paths=paths, directory=str(directory))],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert run.stdout is not None
    cgroup, first = run.stdout.readline().split()
    groups = [place / cgroup for place in CONTROLLERS.iterdir() if (place / cgroup).is_dir()]
    assert any(path.read_text() for group in groups for path in group.rglob("cgroup.procs")), (
        "pods run in them"
    )
    inside = os.pidfd_open(int(first))
    run.send_signal(signal.SIGKILL)
    run.wait()
    until = time.monotonic() + 30
    while directory.exists() or any(group.exists() for group in groups):
        assert time.monotonic() < until, "something is left"
        time.sleep(0.05)
    gone, _, _ = select.select([inside], [], [], 30)
    assert gone, "the first process of its namespaces lives"
    os.close(inside)
    assert str(directory) not in Path("/proc/self/mountinfo").read_text()
    assert node.kubectl("get", "--raw", "/readyz").stdout == "ok", "the first goes on"
