"""What is ready, what only takes time, and what waiting cannot help."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from tidehub.kubernetes.deploying.observed import Observed
from tidehub.kubernetes.deploying.waiting import Failed, Progress, Wanted, judge, rolled_out, timed_out

NOW = datetime.datetime(2026, 11, 22, 10, 0, 0, tzinfo=datetime.UTC)
HUB = Wanted(deployments=("hub",))
Object = dict[str, Any]


def ago(seconds: float) -> str:
    return (NOW - datetime.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def deployment(ready: int = 0, *, replicas: int = 1, observed: int = 2, **status: Any) -> Object:
    counts = {
        "replicas": replicas,
        "updatedReplicas": replicas,
        "readyReplicas": ready,
        "availableReplicas": ready,
    }
    return {
        "kind": "Deployment",
        "metadata": {"name": "hub", "uid": "d", "generation": 2},
        "spec": {"replicas": replicas},
        "status": {"observedGeneration": observed, **counts, **status},
    }


def replica_set(name: str = "hub-1", revision: int = 1, **status: Any) -> Object:
    return {
        "kind": "ReplicaSet",
        "metadata": {
            "name": name,
            "uid": name,
            "annotations": {"deployment.kubernetes.io/revision": str(revision)},
            "ownerReferences": [{"kind": "Deployment", "name": "hub", "uid": "d"}],
        },
        "status": status,
    }


def pod(
    state: Object | None = None,
    *,
    owner: str = "hub-1",
    last: Object | None = None,
    restarts: int = 0,
    **more: Any,
) -> Object:
    container = {
        "name": "hub",
        "state": state or {},
        "lastState": last or {},
        "restartCount": restarts,
        "ready": False,
    }
    return {
        "kind": "Pod",
        "metadata": {
            "name": f"{owner}-x",
            "uid": f"{owner}-x",
            "creationTimestamp": ago(300),
            "ownerReferences": [{"kind": "ReplicaSet", "name": owner, "uid": owner}],
            **more.get("metadata", {}),
        },
        "spec": {"containers": [{"name": "hub", "image": "registry.example/hub:1"}], **more.get("spec", {})},
        "status": {"phase": "Pending", "containerStatuses": [container], **more.get("status", {})},
    }


def event(about: Object, reason: str, message: str, *, count: int = 1, seconds: float = 1) -> Object:
    meta = about["metadata"]
    return {
        "involvedObject": {"kind": about["kind"], "name": meta["name"], "uid": meta.get("uid")},
        "reason": reason,
        "message": message,
        "count": count,
        "lastTimestamp": ago(seconds),
    }


def seen(*pods: Object, events: tuple[Object, ...] = (), **more: Any) -> Observed:
    sets = more.pop("replica_sets", (replica_set(),))
    found = more.pop("deployments", (deployment(),))
    return Observed(deployments=found, replica_sets=sets, pods=pods, events=events, **more)


def failure(state: Progress | Failed) -> Failed:
    assert isinstance(state, Failed), state
    return state


def progress(state: Progress | Failed) -> Progress:
    assert isinstance(state, Progress), state
    return state


def test_a_rollout_is_done_when_every_replica_is_new_and_available() -> None:
    assert rolled_out(deployment(1))
    assert not rolled_out(deployment(0))
    assert not rolled_out(deployment(1, observed=1)), "the controller has not seen it yet"
    assert not rolled_out(deployment(1) | {"status": deployment(1)["status"] | {"replicas": 2}}), (
        "an old one is left"
    )
    assert rolled_out(deployment(0, replicas=0))
    assert progress(judge(HUB, seen(deployments=(deployment(1),)), NOW)).done
    assert progress(judge(HUB, Observed(), NOW)).lines == ("hub does not exist yet",)


def test_what_is_wanted_of_a_release() -> None:
    placeholder = {
        "kind": "StatefulSet",
        "metadata": {"name": "p", "labels": {"component": "user-placeholder"}},
    }
    others = [{"kind": kind, "metadata": {"name": "x"}} for kind in ("DaemonSet", "Service", "StatefulSet")]
    assert Wanted.of([deployment(), pvc(), placeholder, *others]) == Wanted(("hub",), ("x",), ("hub-db-dir",))


def test_what_only_takes_time_is_told() -> None:
    waiting = progress(judge(HUB, seen(pod({"waiting": {"reason": "ContainerCreating"}})), NOW))
    assert not waiting.done and waiting.lines == ("hub 0 of 1 ready",)


PULL = {"waiting": {"reason": "ErrImagePull", "message": "i/o timeout"}}
BACK_OFF = {
    "waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "registry.example/hub:1"'}
}


def test_a_registry_may_fail_once() -> None:
    one = pod(PULL)
    once = event(one, "Failed", "Failed to pull image: i/o timeout")
    assert "cannot be pulled" in progress(judge(HUB, seen(one, events=(once,)), NOW)).lines[0]
    beside = event(one, "Failed", "Error: ErrImagePull")
    assert progress(judge(HUB, seen(one, events=(once, beside)), NOW)).troubles, (
        "the same failure, told twice"
    )
    twice = event(one, "Failed", "Failed to pull image: i/o timeout", count=2)
    found = failure(judge(HUB, seen(one, events=(twice,)), NOW))
    assert found.reason == "image-pull" and "'registry.example/hub:1'" in found.what
    assert found.evidence == ("Failed to pull image: i/o timeout",)


def test_an_image_that_there_is_not_is_not_waited_for() -> None:
    one = pod(BACK_OFF)
    gone = event(one, "Failed", "Failed to pull image: manifest unknown: not found")
    assert failure(judge(HUB, seen(one, events=(gone,)), NOW)).reason == "image-pull"
    assert (
        failure(judge(HUB, seen(pod({"waiting": {"reason": "InvalidImageName"}})), NOW)).reason
        == "image-name"
    )


def test_a_pull_that_keeps_failing_ends_even_where_no_event_tells() -> None:
    assert failure(judge(HUB, seen(pod(BACK_OFF)), NOW)).evidence == (BACK_OFF["waiting"]["message"],)
    young = pod(BACK_OFF, metadata={"creationTimestamp": ago(10)})
    assert progress(judge(HUB, seen(young), NOW)).troubles


def test_what_failed_before_this_wait_may_be_put_right_by_now() -> None:
    one = pod(BACK_OFF)
    old = event(one, "Failed", "Failed to pull image: manifest unknown: not found", count=5, seconds=200)
    since = NOW - datetime.timedelta(seconds=20)
    assert progress(judge(HUB, seen(one, events=(old,), since=since), NOW)).troubles
    again = event(one, "Failed", "Failed to pull image: manifest unknown: not found", count=6, seconds=5)
    failure(judge(HUB, seen(one, events=(again,), since=since), NOW))


def crashed(restarts: int, seconds: float = 5, **ended: Any) -> Object:
    last = {"terminated": {"exitCode": 1, "finishedAt": ago(seconds), **ended}}
    return pod({"waiting": {"reason": "CrashLoopBackOff"}}, last=last, restarts=restarts)


def test_a_container_that_crashes_again_and_again_shows_the_log_of_its_last_life() -> None:
    assert not progress(judge(HUB, seen(crashed(1)), NOW)).done
    found = failure(judge(HUB, seen(crashed(2)), NOW))
    assert found.reason == "crash" and "exit code 1, 2 times" in found.what
    assert found.log is not None and (found.log.container, found.log.previous) == ("hub", True)
    since = NOW - datetime.timedelta(seconds=60)
    assert progress(judge(HUB, seen(crashed(7, seconds=200), since=since), NOW)).troubles


def test_out_of_memory() -> None:
    found = failure(judge(HUB, seen(crashed(3, reason="OOMKilled", exitCode=137)), NOW))
    assert found.reason == "out-of-memory" and "memory" in found.fix


def test_a_secret_may_come_a_moment_later_than_its_pod() -> None:
    state = {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "hub" not found'}}
    young = pod(state, metadata={"creationTimestamp": ago(5)})
    assert progress(judge(HUB, seen(young), NOW)).troubles
    found = failure(judge(HUB, seen(pod(state)), NOW))
    assert found.reason == "container-config" and found.evidence == ('secret "hub" not found',)


def unscheduled(message: str, seconds: float) -> Object:
    why = {
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
        "lastTransitionTime": ago(seconds),
    }  # fmt: skip
    return pod(status={"conditions": [why], "containerStatuses": []})


@pytest.mark.parametrize(
    ("message", "fix"),
    [
        ("0/2 nodes are available: 2 Insufficient memory.", "add machines"),
        ("0/2 nodes are available: 2 node(s) had untolerated taint {x: y}.", "taint"),
        ("0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.", "label a node"),
    ],
)
def test_no_node(message: str, fix: str) -> None:
    assert progress(judge(HUB, seen(unscheduled(message, 10)), NOW)).troubles
    found = failure(judge(HUB, seen(unscheduled(message, 100)), NOW))
    assert found.reason == "unschedulable" and fix in found.fix and found.evidence == (message,)


def test_an_autoscaler_gets_its_time() -> None:
    one = unscheduled("0/2 nodes are available: 2 Insufficient cpu.", 100)
    grows = event(one, "TriggeredScaleUp", "pod triggered scale-up")
    assert "a new one was asked for" in progress(judge(HUB, seen(one, events=(grows,)), NOW)).lines[0]
    cannot = event(one, "NotTriggerScaleUp", "max node group size reached")
    young = unscheduled("0/2 nodes are available: 2 Insufficient cpu.", 20)
    failure(judge(HUB, seen(young, events=(cannot,)), NOW))


def test_a_pod_that_leaves_makes_room() -> None:
    one = unscheduled("0/2 nodes are available: 2 Insufficient cpu.", 100)
    leaves = pod(owner="hub-0", metadata={"deletionTimestamp": ago(1)})
    assert progress(judge(HUB, seen(one, leaves), NOW)).troubles


def pvc(phase: str = "Pending", **meta: Any) -> Object:
    return {
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "hub-db-dir", "uid": "c", **meta},
        "spec": {"storageClassName": "fast"},
        "status": {"phase": phase},
    }


def test_a_pvc_explains_why_its_pod_finds_no_node() -> None:
    volume = {"persistentVolumeClaim": {"claimName": "hub-db-dir"}}
    one = unscheduled("pod has unbound immediate PersistentVolumeClaims", 5)
    one["spec"]["volumes"] = [volume]
    why = event(pvc(), "ProvisioningFailed", 'storageclass.storage.k8s.io "fast" not found')
    found = failure(judge(HUB, seen(one, pvcs=(pvc(),), events=(why,)), NOW))
    assert found.reason == "pvc" and "'fast'" in found.fix


def test_pvcs() -> None:
    wanted = Wanted(pvcs=("hub-db-dir",))
    assert progress(judge(wanted, Observed(pvcs=(pvc("Bound"),)), NOW)).done
    assert not progress(judge(wanted, Observed(pvcs=(pvc(),)), NOW)).done
    consumer = event(pvc(), "WaitForFirstConsumer", "waiting for first consumer")
    assert progress(judge(wanted, Observed(pvcs=(pvc(),), events=(consumer,)), NOW)).done, (
        "no pod will ever come"
    )
    quota = event(pvc(), "ProvisioningFailed", "VolumeLimitExceeded: Maximum number of volumes allowed (10)")
    assert "quota" in failure(judge(wanted, Observed(pvcs=(pvc(),), events=(quota,)), NOW)).fix
    once = event(pvc(), "ProvisioningFailed", "rpc error: connection reset")
    assert progress(judge(wanted, Observed(pvcs=(pvc(),), events=(once,)), NOW)).troubles
    assert failure(judge(wanted, Observed(pvcs=(pvc("Lost"),)), NOW)).reason == "pvc"
    stuck = pvc("Bound", deletionTimestamp=ago(100), finalizers=["kubernetes.io/pvc-protection"])
    found = failure(judge(wanted, Observed(pvcs=(stuck,)), NOW))
    assert found.reason == "stuck" and found.evidence == ("finalizers: kubernetes.io/pvc-protection",)


def refused(message: str, **more: Any) -> Observed:
    condition = {"type": "ReplicaFailure", "status": "True", "message": message, "lastTransitionTime": ago(1)}
    return seen(replica_sets=(replica_set(conditions=[condition]),), **more)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ('pods "hub-1-x" is forbidden: exceeded quota: small, requested: pods=1', "quota"),
        ('pods "hub-1-x" is forbidden: violates PodSecurity "restricted:latest"', "pod-security"),
        ("admission webhook policy.example denied the request", "refused"),
    ],
)
def test_what_the_cluster_does_not_let_be(message: str, reason: str) -> None:
    found = failure(judge(HUB, refused(message), NOW))
    assert found.reason == reason and found.evidence == (message,)


def test_a_quota_that_somebody_is_just_giving_back_is_waited_for() -> None:
    condition = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: small"}
    leaves = pod(owner="hub-0", metadata={"deletionTimestamp": ago(1)})
    state = judge(HUB, seen(leaves, replica_sets=(replica_set(conditions=[condition]),)), NOW)
    assert progress(state).troubles


def test_only_the_newest_pods_count() -> None:
    sets = (replica_set("hub-1", 1), replica_set("hub-2", 2))
    old = crashed(9)
    new = pod({"waiting": {"reason": "ContainerCreating"}}, owner="hub-2")
    assert progress(judge(HUB, seen(old, new, replica_sets=sets), NOW)).troubles == ()


def test_a_pod_that_does_not_end() -> None:
    stuck = pod(metadata={"deletionTimestamp": ago(120), "finalizers": ["example.org/x"]})
    found = failure(judge(HUB, seen(stuck), NOW))
    assert found.reason == "stuck" and found.evidence == ("finalizers: example.org/x",)


def job(**conditions: Any) -> Object:
    return {
        "kind": "Job",
        "metadata": {"name": "awaiter", "uid": "j", "creationTimestamp": ago(10)},
        "status": {
            "conditions": [{"type": name, "status": "True", **more} for name, more in conditions.items()]
        },
    }


def test_hooks() -> None:
    wanted = Wanted.of_hooks([job(), {"kind": "DaemonSet", "metadata": {"name": "puller"}}])
    assert wanted == Wanted(jobs=("awaiter",), daemon_sets=("puller",), hooks=True)
    assert progress(judge(wanted, Observed(jobs=(job(Complete={}),)), NOW)).done
    assert progress(judge(wanted, Observed(jobs=(job(),)), NOW)).lines == ("job awaiter runs",)
    found = failure(judge(wanted, Observed(jobs=(job(Failed={"reason": "BackoffLimitExceeded"}),)), NOW))
    assert found.reason == "job" and "BackoffLimitExceeded" in found.what
    pulls = pod(BACK_OFF)
    pulls["metadata"]["ownerReferences"] = [{"kind": "DaemonSet", "name": "puller", "uid": "p"}]
    gone = event(pulls, "Failed", "Failed to pull image: not found")
    assert failure(judge(wanted, Observed(pods=(pulls,), events=(gone,)), NOW)).reason == "image-pull"


def test_hooks_of_an_earlier_try_are_about_to_be_deleted() -> None:
    since = NOW - datetime.timedelta(seconds=5)
    wanted = Wanted.of_hooks([job(), {"kind": "DaemonSet", "metadata": {"name": "puller"}}])
    pulls = pod(BACK_OFF)
    pulls["metadata"]["ownerReferences"] = [{"kind": "DaemonSet", "name": "puller", "uid": "p"}]
    old = Observed(jobs=(job(Failed={}),), pods=(pulls,), since=since)
    assert progress(judge(wanted, old, NOW)).lines == ()
    failure(judge(Wanted(jobs=("awaiter",)), old, NOW))


def test_time_that_is_up_names_what_hindered() -> None:
    one = pod({"running": {}}, status={"phase": "Running"})
    probe = event(one, "Unhealthy", "Readiness probe failed: 503")
    state = progress(judge(HUB, seen(one, events=(probe,)), NOW))
    found = timed_out(state, "15 min")
    assert found.what.startswith("not ready after 15 min: hub 0 of 1 ready") and found.evidence == (
        "Readiness probe failed: 503",
    )
    assert found.log is not None and not found.log.previous
