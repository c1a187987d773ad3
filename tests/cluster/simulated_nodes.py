"""Nodes without machines: what kwok plays for the pods of a test cluster.

Pods become Ready, Jobs and Helm's bare hook pods complete, everything can be deleted. What a pod's images contain
decides otherwise:

    missing.invalid      the image cannot be pulled: ErrImagePull, then ImagePullBackOff, with a kubelet's events
    crash.invalid        the container ends again and again: CrashLoopBackOff
    unready.invalid      it runs and never becomes ready
    fails.invalid        a Job's pod ends with exit code 1
    endless.invalid      a Job's pod runs on
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Object = dict[str, Any]

DEFAULT_NODES: Mapping[str, Mapping[str, str]] = {
    "node-1": {"cpu": "8", "memory": "32Gi"},
    "node-2": {"cpu": "8", "memory": "32Gi"},
}
_MORE = {"pods": "110", "ephemeral-storage": "200Gi"}

_IMAGES = '[(.spec.containers[], ((.spec.initContainers // [])[])) | .image] | join(" ")'
_OF_JOB = '((.metadata.ownerReferences // []) | any(.kind == "Job"))'
_OF_HOOK = '((.metadata.annotations // {}) | has("helm.sh/hook"))'
_WAITING = "[(.status.containerStatuses // [])[] | .state.waiting.reason // empty] | first"

_CONTAINERS = """
containerStatuses:
{{ range .spec.containers }}
- image: {{ .image | Quote }}
  imageID: ""
  name: {{ .name | Quote }}
  %s
{{ end }}
"""
_CONDITIONS = """
conditions:
- {type: Initialized, status: "True", lastTransitionTime: {{ Now | Quote }}}
- {type: Ready, status: "%(ready)s", lastTransitionTime: {{ Now | Quote }}%(why)s}
- {type: ContainersReady, status: "%(ready)s", lastTransitionTime: {{ Now | Quote }}%(why)s}
"""
_ADDRESSES = """
hostIP: {{ NodeIPWith .spec.nodeName | Quote }}
{{ $shared := or .spec.hostNetwork false }}
podIP: {{ PodIPWith .spec.nodeName $shared .metadata.uid .metadata.name .metadata.namespace | Quote }}
startTime: {{ Now | Quote }}
"""
_INIT_CONTAINERS = """
initContainerStatuses:
{{ range .spec.initContainers }}
- image: {{ .image | Quote }}
  imageID: ""
  name: {{ .name | Quote }}
  ready: true
  restartCount: 0
  state: {terminated: {exitCode: 0, reason: Completed, startedAt: {{ Now | Quote }}, finishedAt: {{ Now | Quote }}}}
{{ end }}
"""


def configuration(log: Path) -> str:
    """kwok's configuration file: the stages above, `exec` as a local command, and `log` as every container's log."""
    documents = [*_pod_stages(), *_debugging(log)]
    return "\n---\n".join(json.dumps(document) for document in documents)


def nodes(capacities: Mapping[str, Mapping[str, str]]) -> list[Object]:
    """Node objects of these capacities (quantities as Kubernetes writes them), all allocatable."""
    return [_node(name, {**_MORE, **capacity}) for name, capacity in capacities.items()]


def _node(name: str, capacity: Mapping[str, str]) -> Object:
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "type": "kwok",
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "status": {"capacity": dict(capacity), "allocatable": dict(capacity)},
    }


def _pod_stages() -> list[Object]:
    running = _CONDITIONS % {"ready": "True", "why": ""} + _INIT_CONTAINERS + _ADDRESSES
    waiting = _CONDITIONS % {"ready": "False", "why": ", reason: ContainersNotReady"} + _ADDRESSES
    up = "state: {running: {startedAt: {{ Now | Quote }}}}"
    ended = (
        "ready: false\n  started: false\n  restartCount: 0\n  state: {terminated: {exitCode: %d, reason: %s, "
    )
    ended += "startedAt: {{ Now | Quote }}, finishedAt: {{ Now | Quote }}}}"
    exists, fresh = _jq(".metadata.deletionTimestamp == null"), _jq(".status.podIP == null")
    plain = _jq(f'({_IMAGES}) | test("(missing|crash|unready)[.]invalid") | not')
    at_work = _jq('.status.phase == "Running"')
    ends = _jq(f'({_OF_JOB} or {_OF_HOOK}) and (({_IMAGES}) | contains("endless.invalid") | not)')
    return [
        _stage(
            "pod-ready",
            [exists, fresh, plain],
            "phase: Running"
            + running
            + _CONTAINERS % f"ready: true\n  started: true\n  restartCount: 0\n  {up}",
        ),
        _stage(
            "pod-complete",
            [exists, at_work, ends, _image("fails.invalid", contained=False)],
            "phase: Succeeded\n"
            + _CONTAINERS
            % ("ready: false\n  started: false\n  restartCount: 0\n  " + ended % (0, "Completed")),
        ),
        _stage(
            "pod-fail",
            [exists, at_work, ends, _image("fails.invalid")],
            "phase: Failed\n" + _CONTAINERS % (ended % (1, "Error")),
        ),
        _stage(
            "pod-unready",
            [exists, fresh, _image("unready.invalid")],
            "phase: Running"
            + waiting
            + _CONTAINERS % f"ready: false\n  started: true\n  restartCount: 0\n  {up}",
            event=("Warning", "Unhealthy", "Readiness probe failed: connection refused"),
        ),
        _stage(
            "pod-crash",
            [exists, fresh, _image("crash.invalid")],
            "phase: Running"
            + waiting
            + _CONTAINERS
            % (
                "ready: false\n  started: false\n  restartCount: 3\n  lastState: {terminated: {exitCode: 1, "
                "reason: Error}}\n  state: {waiting: {reason: CrashLoopBackOff, message: "
                "back-off 40s restarting failed container}}"
            ),
            event=("Warning", "BackOff", "Back-off restarting failed container"),
        ),
        *_pull_stages(exists, waiting),
        _stage("pod-delete", [_jq(".metadata.deletionTimestamp != null")], delete=True),
    ]


def _pull_stages(exists: Object, waiting: str) -> list[Object]:
    """As a kubelet goes on about an image that is not there."""
    cannot = (
        "ready: false\n  started: false\n  restartCount: 0\n  state: {waiting: {reason: %s, message: %s}}"
    )
    missing = _image("missing.invalid")
    return [
        _stage(
            "pod-pull-fails",
            [exists, _jq(".status.podIP == null"), missing],
            "phase: Pending" + waiting + _CONTAINERS % (cannot % ("ErrImagePull", "no such host")),
            event=("Warning", "Failed", "Failed to pull image: no such host: missing.invalid"),
        ),
        _stage(
            "pod-pull-backs-off",
            [exists, missing, _jq(f'({_WAITING}) == "ErrImagePull"')],
            "phase: Pending\n" + _CONTAINERS % (cannot % ("ImagePullBackOff", "Back-off pulling image")),
            event=("Warning", "Failed", "Error: ImagePullBackOff"),
            delay=300,
        ),
    ]


def _stage(
    name: str,
    conditions: Sequence[Object],
    status: str = "",
    *,
    event: tuple[str, str, str] | None = None,
    delay: int = 0,
    delete: bool = False,
) -> Object:
    step: Object = {"delete": True, "finalizers": {"empty": True}} if delete else {"statusTemplate": status}
    if event:
        step["event"] = dict(zip(("type", "reason", "message"), event, strict=True))
    return {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Stage",
        "metadata": {"name": name},
        "spec": {
            "resourceRef": {"apiGroup": "v1", "kind": "Pod"},
            "selector": {"matchExpressions": list(conditions)},
            "delay": {"durationMilliseconds": delay},
            "next": step,
        },
    }


def _jq(condition: str) -> Object:
    """Holds where the expression is true."""
    return {"key": condition, "operator": "In", "values": ["true"]}


def _image(part: str, *, contained: bool = True) -> Object:
    return _jq(f'({_IMAGES}) | contains("{part}")' + ("" if contained else " | not"))


def _debugging(log: Path) -> list[Object]:
    def rule(kind: str, spec: Object) -> Object:
        return {
            "apiVersion": "kwok.x-k8s.io/v1alpha1",
            "kind": kind,
            "metadata": {"name": kind.lower()},
            "spec": spec,
        }

    return [
        rule("ClusterExec", {"execs": [{"local": {}}]}),
        rule("ClusterLogs", {"logs": [{"logsFile": str(log), "follow": False}]}),
    ]
