"""Why a pod does not run. Pure."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from typing import Any

from tidehub.kubernetes.deploying.observed import (
    LogOf,
    Observed,
    Trouble,
    age,
    condition,
    last_seen,
    meta_of,
    name_of,
    spec_of,
    status_of,
    text_of,
    times,
)
from tidehub.kubernetes.deploying.pvcs import pvc_trouble
from tidehub.kubernetes.objects import Object

PULLS = 2
"""Failed pulls after which a pull is not tried any longer: a registry may fail once."""
PULL_GRACE = 45.0
"""Seconds of failing pulls after which a pull is not waited for, however few events tell of it."""
RESTARTS = 2
"""Restarts after which a container that crashes is not waited for: a part may be a moment earlier than another."""
CONFIG_GRACE = 20.0
"""Seconds that a Secret or ConfigMap may come later than the pod that names it."""
SCHEDULING_GRACE = 45.0
"""Seconds that a pod may find no node: another one may just be leaving."""
SCALE_UP_GRACE = 900.0
"""Seconds for a new machine once an autoscaler asked for one."""
MOUNT_GRACE = 90.0
"""Seconds that attaching and mounting volumes may fail."""
STUCK_GRACE = 60.0
"""Seconds past its time after which a pod that ends is stuck."""

_NEVER = re.compile(
    r"not found|manifest unknown|name unknown|does not exist|unauthorized|authentication required|denied|"
    r"no match for platform|invalid reference",
    re.IGNORECASE,
)
_PULL_REASONS = ("ErrImagePull", "ImagePullBackOff", "RegistryUnavailable")
_CONFIG_REASONS = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")


def is_ready(pod: Object) -> bool:
    """Whether it runs and its containers say they are ready, or it came to its good end."""
    if status_of(pod).get("phase") == "Succeeded":
        return True
    return (condition(pod, "Ready") or {}).get("status") == "True"


def pod_trouble(pod: Object, seen: Observed, now: datetime.datetime) -> Trouble | None:
    """What keeps the pod from being ready, the gravest first; None where there is nothing to say."""
    if meta_of(pod).get("deletionTimestamp"):
        return _stuck(pod, now)
    found = list(_troubles(pod, seen, now))
    return next((one for one in found if one.fatal), found[0] if found else None)


def _troubles(pod: Object, seen: Observed, now: datetime.datetime) -> Iterator[Trouble]:
    for container, status in _containers(pod):
        waiting = (status.get("state") or {}).get("waiting") or {}
        reason = str(waiting.get("reason") or "")
        said = " ".join(str(waiting.get("message") or "").split())
        if reason in _PULL_REASONS:
            yield _pull(pod, container, reason, said, seen, now)
        elif reason in ("InvalidImageName", "ErrImageNeverPull"):
            yield Trouble(
                "image-name",
                f"the image {_image(pod, container)!r} of {name_of(pod)} cannot be used ({reason})",
                (said,) if said else (),
                "correct the image in the site file",
                fatal=True,
            )
        elif reason in _CONFIG_REASONS:
            yield Trouble(
                "container-config",
                f"the container {container} of {name_of(pod)} cannot be made ({reason})",
                (said,) if said else (),
                _config_fix(said),
                fatal=_age(pod, seen, now) > CONFIG_GRACE,
            )
        elif (crash := _crash(pod, container, status, seen)) is not None:
            yield crash
    scheduled = condition(pod, "PodScheduled")
    if scheduled is not None and scheduled.get("status") == "False":
        yield _unscheduled(pod, scheduled, seen, now)
    mounts = seen.events_of(pod, "FailedMount", "FailedAttachVolume", "FailedMapVolume")
    if mounts and status_of(pod).get("phase") == "Pending":
        said = text_of(mounts[-1])
        yield Trouble(
            "mount",
            f"{name_of(pod)} waits for a volume",
            (said,),
            "see kubectl describe pod; a volume that hangs on another machine is freed when its pod is gone",
            fatal=_age(pod, seen, now) > MOUNT_GRACE and _NEVER.search(said) is not None,
        )
    unready = seen.events_of(pod, "Unhealthy")
    if unready and not is_ready(pod):
        running = [name for name, status in _containers(pod) if not status.get("ready")]
        yield Trouble(
            "timeout",
            f"{name_of(pod)} runs and is not ready",
            (text_of(unready[-1]),),
            "its log says more",
            log=LogOf(name_of(pod), running[0], False) if running else None,
        )


def _containers(pod: Object) -> Iterator[tuple[str, dict[str, Any]]]:
    status = status_of(pod)
    for key in ("initContainerStatuses", "containerStatuses"):
        for one in status.get(key) or []:
            yield str(one.get("name")), one


def _image(pod: Object, container: str) -> str:
    spec = spec_of(pod)
    for one in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        if one.get("name") == container:
            return str(one.get("image"))
    return "?"


def _pull(
    pod: Object, container: str, reason: str, said: str, seen: Observed, now: datetime.datetime
) -> Trouble:
    about = [
        event for event in seen.events_of(pod, "Failed", "ErrImagePull") if "pull" in text_of(event).lower()
    ]
    # A kubelet says "Failed to pull ..." once a try, and "Error: ErrImagePull" beside it.
    failures = [event for event in about if "failed to pull" in text_of(event).lower()] or about
    evidence = text_of(failures[-1]) if failures else said
    # A pull that the registry answered with "there is none" is not tried a second time.
    hopeless = _NEVER.search(evidence) is not None and "timeout" not in evidence.lower()
    backed_off = bool(seen.events_of(pod, "BackOff")) or "ImagePullBackOff" in (reason, said)
    # Where events are not to be had, or folded in another way, time tells.
    long = reason == "ImagePullBackOff" and _age(pod, seen, now) > PULL_GRACE
    fresh = seen.fresh(last_seen(failures[-1]) if failures else "")
    return Trouble(
        "image-pull",
        f"the image {_image(pod, container)!r} of {name_of(pod)} cannot be pulled",
        (evidence,) if evidence else (),
        "check its name and tag in the site file, and whether the cluster may read that registry",
        fatal=long or (fresh and (times(failures) >= PULLS or (hopeless and (backed_off or not failures)))),
    )


def _crash(pod: Object, container: str, status: dict[str, Any], seen: Observed) -> Trouble | None:
    waiting = (status.get("state") or {}).get("waiting") or {}
    ended = (status.get("state") or {}).get("terminated") or (status.get("lastState") or {}).get("terminated")
    restarts = int(status.get("restartCount") or 0)
    crashing = waiting.get("reason") == "CrashLoopBackOff" or (ended and ended.get("exitCode"))
    if not crashing or status.get("ready"):
        return None
    ended = ended or {}
    hopeless = restarts >= RESTARTS and seen.fresh(ended.get("finishedAt"))
    again = f", {restarts} times" if restarts > 1 else ""
    # Where it is running again, its own log is the one of the attempt that is still alive.
    log = LogOf(name_of(pod), container, previous=not (status.get("state") or {}).get("terminated"))
    if ended.get("reason") == "OOMKilled":
        return Trouble(
            "out-of-memory",
            f"the container {container} of {name_of(pod)} ran out of its memory limit{again}",
            (f"OOMKilled, exit code {ended.get('exitCode', 137)}",),
            "give it more memory",
            fatal=hopeless,
            log=log,
        )
    return Trouble(
        "crash",
        f"the container {container} of {name_of(pod)} ends with exit code {ended.get('exitCode', '?')}{again}",
        tuple(filter(None, [" ".join(str(ended.get("message") or "").split())])),
        "its last lines say why",
        fatal=hopeless,
        log=log,
    )


def _unscheduled(pod: Object, scheduled: dict[str, Any], seen: Observed, now: datetime.datetime) -> Trouble:
    said = " ".join(str(scheduled.get("message") or "").split())
    pvcs = {name_of(pvc): pvc for pvc in seen.pvcs}
    for volume in spec_of(pod).get("volumes") or []:
        wanted = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        if wanted in pvcs and (why := pvc_trouble(pvcs[wanted], seen, now)) is not None:
            return why
    since = seen.age(scheduled.get("lastTransitionTime") or meta_of(pod).get("creationTimestamp"), now)
    grown = bool(seen.events_of(pod, "TriggeredScaleUp"))
    # A pod that leaves makes room, whatever its own trouble.
    leaving = any(meta_of(other).get("deletionTimestamp") for other in seen.pods)
    hopeless = bool(seen.events_of(pod, "NotTriggerScaleUp"))
    grace = SCALE_UP_GRACE if grown else SCHEDULING_GRACE * (4 if leaving else 1)
    return Trouble(
        "unschedulable",
        f"no node can take {name_of(pod)}" + (" yet: a new one was asked for" if grown else ""),
        (said,) if said else (),
        _scheduling_fix(said),
        fatal=since > grace or (hopeless and since > SCHEDULING_GRACE / 3),
    )


def _scheduling_fix(said: str) -> str:
    lower = said.lower()
    if "insufficient" in lower:
        return "add machines, or lower what this part asks for"
    if "taint" in lower:
        return "remove the nodes' taint, or add a toleration for it"
    if "volume" in lower or "claim" in lower:
        return "see the PVC: kubectl describe pvc"
    if "node affinity" in lower or "selector" in lower:
        return "label a node as the site asks, or drop the node selector"
    return "see kubectl describe pod"


def _config_fix(said: str) -> str:
    missing = re.search(r'(secret|configmap) "([^"]+)" not found', said, re.IGNORECASE)
    if missing:
        return f"the {missing[1]} {missing[2]} is missing: deploy again, which makes it"
    return "see kubectl describe pod"


def _stuck(pod: Object, now: datetime.datetime) -> Trouble | None:
    # `deletionTimestamp` is when it should be gone: its grace period is in it.
    late = age(meta_of(pod)["deletionTimestamp"], now)
    if late <= STUCK_GRACE:
        return None
    finalizers = meta_of(pod).get("finalizers") or []
    why = (
        f"finalizers: {', '.join(finalizers)}" if finalizers else f"its node: {spec_of(pod).get('nodeName')}"
    )
    return Trouble(
        "stuck",
        f"{name_of(pod)} should have ended {round(late)} s ago and is still there",
        (why,),
        "see whether its node still lives, or what the finalizer waits for",
        fatal=True,
    )


def _age(pod: Object, seen: Observed, now: datetime.datetime) -> float:
    return seen.age(status_of(pod).get("startTime") or meta_of(pod).get("creationTimestamp"), now)
