"""The hub's database inside the cluster: read and written by a Python program in a pod that holds its volume.

The hub's own pod where one runs. Where none does (it crashes, or the namespace is being restored), a pod of ours with
the hub's image, user and volume takes its place for a moment.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import time
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from tidehub.errors import TidehubError
from tidehub.kubernetes.cluster.port import Cluster, ClusterProblem, ExecResult
from tidehub.kubernetes.deploying.observed import condition
from tidehub.kubernetes.objects import Object

DIRECTORY, DATABASE = "/srv/jupyterhub", "jupyterhub.sqlite"
"""Where the jupyterhub chart mounts the hub's volume, and the file's name there (templates/hub, `hub.db`)."""
HELPER = "tidehub-database"
_SECONDS = 300.0
_POLL = 0.5
_TRIES = 3

_FAILED = "failed: "
_PROGRAM = """
import gzip, hashlib, os, sqlite3, sys, tempfile, time
def main(directory, name, *rest):
    # The hub's own container is there already; a pod's working directory says the same.
    if os.path.isdir(directory):
        os.chdir(directory)
BODY
try:
    main(*sys.argv[1:])
except Exception as error:
    # In words and with exit code 0: what a failing program says does not come through every kubelet.
    sys.stderr.write("failed: " + str(error))
"""

_READ = _PROGRAM.replace(
    "BODY",
    """
    if not os.path.exists(name):
        raise ValueError("there is no " + name)
    source = sqlite3.connect(name, timeout=30)
    with tempfile.TemporaryDirectory() as place:
        path = os.path.join(place, "copy")
        copy = sqlite3.connect(path)
        source.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")
        found = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
        copy.close()
        if found != "ok":
            raise ValueError("it is damaged: " + found)
        data = open(path, "rb").read()
    sys.stderr.write(hashlib.sha256(data).hexdigest())
    sys.stdout.buffer.write(gzip.compress(data, 3))
""",
)

_WRITE = _PROGRAM.replace(
    "BODY",
    """
    wanted, size = rest
    data = gzip.decompress(sys.stdin.buffer.read(int(size)))
    if hashlib.sha256(data).hexdigest() != wanted:
        raise ValueError("it did not arrive whole")
    with open(name + ".restoring", "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    if os.path.exists(name):
        if open(name, "rb").read() == data:
            os.unlink(name + ".restoring")
            return
        kept = name + ".before-" + time.strftime("%Y%m%dT%H%M%S")
        for end in ("", "-wal", "-shm", "-journal"):
            if os.path.exists(name + end):
                os.rename(name + end, kept + end)
        print(kept)
    os.rename(name + ".restoring", name)
""",
)


@dataclass(frozen=True)
class HubPod:
    """What a pod needs to hold the hub's volume as the hub does. Taken from the hub's Deployment."""

    image: str
    claim: str
    sub_path: str = ""
    pod_security: dict[str, Any] = field(default_factory=dict)
    container_security: dict[str, Any] = field(default_factory=dict)
    node_selector: dict[str, str] = field(default_factory=dict)
    tolerations: list[dict[str, Any]] = field(default_factory=list)
    pull_secrets: list[dict[str, str]] = field(default_factory=list)

    @classmethod
    def of(cls, deployment: Object) -> Self | None:
        """From the hub's Deployment; None where its database is on no volume."""
        spec = deployment["spec"]["template"]["spec"]
        hub = next((c for c in spec.get("containers", ()) if c.get("name") == "hub"), None)
        mounts = {
            m["name"]: m for m in (hub or {}).get("volumeMounts", ()) if m.get("mountPath") == DIRECTORY
        }
        for volume in spec.get("volumes", ()):
            claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
            if hub is not None and claim and volume["name"] in mounts:
                return cls(
                    image=str(hub["image"]),
                    claim=str(claim),
                    sub_path=str(mounts[volume["name"]].get("subPath") or ""),
                    pod_security=spec.get("securityContext") or {},
                    container_security=hub.get("securityContext") or {},
                    node_selector=spec.get("nodeSelector") or {},
                    tolerations=spec.get("tolerations") or [],
                    pull_secrets=spec.get("imagePullSecrets") or [],
                )
        return None

    def to_json(self) -> dict[str, Any]:
        """For a backup."""
        return asdict(self)

    def pod(self, namespace: str, node: str = "") -> Object:
        """A pod that holds the volume and does nothing, for an hour at most; on `node` where one is named."""
        mount: dict[str, Any] = {"name": "database", "mountPath": DIRECTORY}
        if self.sub_path:
            mount["subPath"] = self.sub_path
        container = {
            "name": "hub",
            "image": self.image,
            "command": ["python3", "-c", "import time; time.sleep(3600)"],
            "workingDir": DIRECTORY,
            "volumeMounts": [mount],
            "securityContext": self.container_security,
            # A namespace with a quota refuses pods that state nothing.
            "resources": {
                "requests": {"cpu": "10m", "memory": "64Mi"},
                "limits": {"cpu": "500m", "memory": "256Mi"},
            },
        }
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": HELPER,
                "namespace": namespace,
                "labels": {"app.kubernetes.io/name": HELPER, "app.kubernetes.io/managed-by": "tidehub"},
            },
            "spec": {
                "restartPolicy": "Never",
                "activeDeadlineSeconds": 3600,
                "terminationGracePeriodSeconds": 0,
                "automountServiceAccountToken": False,
                "securityContext": self.pod_security,
                "nodeSelector": self.node_selector,
                **({"affinity": _on(node)} if node else {}),
                "tolerations": self.tolerations,
                "imagePullSecrets": self.pull_secrets,
                "containers": [container],
                "volumes": [{"name": "database", "persistentVolumeClaim": {"claimName": self.claim}}],
            },
        }


def read_database(cluster: Cluster, namespace: str, hub: HubPod) -> bytes:
    """The hub's database as of one moment. Raises `TidehubError`."""
    argv = ["python3", "-c", _READ, DIRECTORY, DATABASE]
    with _pod_with_volume(cluster, namespace, hub) as pod:
        # A connection may break at its end without a word; reading again harms nobody.
        for _ in range(_TRIES):
            done = cluster.execute(pod, namespace, argv, container="hub", seconds=_SECONDS)
            _raise_if_failed(done, f"the hub's database cannot be read in pod {pod}")
            data = _whole(done)
            if data is not None:
                return data
    raise TidehubError(
        f"the copy of the hub's database did not arrive whole from pod {pod}, {_TRIES} times",
        fix="look at the connection to the cluster, then run the same command again",
    )


def _whole(done: ExecResult) -> bytes | None:
    """What was sent, if it is what the program says that it sent."""
    try:
        data = gzip.decompress(done.stdout)
    except (OSError, EOFError, zlib.error):
        return None
    said = done.stderr.decode(errors="replace")
    return data if hashlib.sha256(data).hexdigest() in said else None


def write_database(cluster: Cluster, namespace: str, hub: HubPod, data: bytes) -> str:
    """Puts `data` on the hub's volume while no hub runs. Returns the name under which an older one is kept."""
    packed = gzip.compress(data, 3, mtime=0)
    # The program counts its input: not every kubelet tells it that the input has ended.
    argv = ["python3", "-c", _WRITE, DIRECTORY, DATABASE, hashlib.sha256(data).hexdigest(), str(len(packed))]
    with _helper(cluster, namespace, hub) as pod:
        done = cluster.execute(pod, namespace, argv, container="hub", stdin=packed, seconds=_SECONDS)
    _raise_if_failed(done, f"the hub's database cannot be written in pod {pod}")
    return done.stdout.decode(errors="replace").strip()


def _raise_if_failed(done: ExecResult, what: str) -> None:
    said = done.stderr.decode(errors="replace").strip()
    if done.code or said.startswith(_FAILED):
        raise TidehubError(f"{what}: {said.removeprefix(_FAILED) or f'exit code {done.code}'}")


@contextlib.contextmanager
def _pod_with_volume(cluster: Cluster, namespace: str, hub: HubPod) -> Iterator[str]:
    for pod in cluster.find("v1", "Pod", namespace, labels="component=hub"):
        if _ready(pod):
            yield str(pod["metadata"]["name"])
            return
    with _helper(cluster, namespace, hub) as name:
        yield name


@contextlib.contextmanager
def _helper(cluster: Cluster, namespace: str, hub: HubPod) -> Iterator[str]:
    """Our own pod with the volume; it is gone afterwards, and one that an interrupted call left is taken over."""
    try:
        cluster.create(hub.pod(namespace, _node_of(cluster, namespace, hub.claim)), namespace)
    except ClusterProblem as problem:
        if problem.reason != "conflict":
            raise
    try:
        _await_running(cluster, namespace)
        yield HELPER
    finally:
        cluster.delete("v1", "Pod", HELPER, namespace)


def _node_of(cluster: Cluster, namespace: str, claim: str) -> str:
    """The node that has the volume, where a pod that is there uses it, be it one that crashes; else empty.

    A volume of one node cannot be attached to a second one: a pod elsewhere would wait for it (Multi-Attach).
    """
    for pod in cluster.find("v1", "Pod", namespace):
        spec = pod.get("spec") or {}
        volumes = [one.get("persistentVolumeClaim") or {} for one in spec.get("volumes") or ()]
        ended = (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded")
        if spec.get("nodeName") and not ended and any(one.get("claimName") == claim for one in volumes):
            return str(spec["nodeName"])
    return ""


def _on(node: str) -> Object:
    field = {"key": "metadata.name", "operator": "In", "values": [node]}
    terms = [{"matchFields": [field]}]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}


def _await_running(cluster: Cluster, namespace: str) -> None:
    until = time.monotonic() + _SECONDS
    why = "it was not scheduled"
    while time.monotonic() < until:
        pod = cluster.get("v1", "Pod", HELPER, namespace)
        if pod is None or (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded"):
            raise TidehubError(f"the pod {HELPER}, which holds the hub's volume, ended by itself")
        if _ready(pod):
            return
        why = _waiting_for(pod) or why
        time.sleep(_POLL)
    raise TidehubError(
        f"the pod {HELPER}, which holds the hub's volume, does not start: {why}",
        expected="a node with the image and the volume",
        fix=f"look at it: kubectl -n {namespace} describe pod {HELPER}",
    )


def _ready(pod: Object) -> bool:
    ready = (condition(pod, "Ready") or {}).get("status") == "True"
    return ready and "deletionTimestamp" not in pod["metadata"]


def _waiting_for(pod: Object) -> str:
    status = pod.get("status") or {}
    for container in status.get("containerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason"):
            return f"{waiting['reason']} {waiting.get('message', '')}".strip()
    for found in status.get("conditions") or ():
        if found.get("status") == "False" and found.get("message"):
            return str(found["message"])
    return ""
