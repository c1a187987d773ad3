"""Whether what was deployed is ready, and if not, whether waiting can help. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tidehub.kubernetes.deploying.observed import (
    LogOf,
    Observed,
    Reason,
    Trouble,
    condition,
    last_seen,
    meta_of,
    name_of,
    spec_of,
    status_of,
    text_of,
)
from tidehub.kubernetes.deploying.pods import is_ready, pod_trouble
from tidehub.kubernetes.deploying.pvcs import is_bound, pvc_trouble, waits_for_consumer
from tidehub.kubernetes.objects import Object

_REVISION = "deployment.kubernetes.io/revision"


@dataclass(frozen=True)
class Wanted:
    """What has to be ready, by name."""

    deployments: tuple[str, ...] = ()
    stateful_sets: tuple[str, ...] = ()
    pvcs: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()
    daemon_sets: tuple[str, ...] = ()
    """Only their pods' images are looked at: they pull images ahead, on machines that come and go."""
    hooks: bool = False
    """Whether Helm makes them anew: what is older than the wait is about to be deleted."""

    @classmethod
    def of(cls, objects: Iterable[Object]) -> Wanted:
        """What a release's objects have to become. Placeholders for users to come may wait for a machine."""
        by_kind = _by_kind(one for one in objects if not _is_placeholder(one))
        return cls(
            tuple(by_kind.get("Deployment", ())),
            tuple(by_kind.get("StatefulSet", ())),
            tuple(by_kind.get("PersistentVolumeClaim", ())),
            tuple(by_kind.get("Job", ())),
        )

    @classmethod
    def of_hooks(cls, hooks: Iterable[Object]) -> Wanted:
        """What Helm itself waits for while it installs."""
        by_kind = _by_kind(hooks)
        return cls(
            jobs=tuple(by_kind.get("Job", ())), daemon_sets=tuple(by_kind.get("DaemonSet", ())), hooks=True
        )

    def __bool__(self) -> bool:
        return any((self.deployments, self.stateful_sets, self.pvcs, self.jobs, self.daemon_sets))


@dataclass(frozen=True)
class Progress:
    """How far it is."""

    done: bool
    lines: tuple[str, ...]
    """One line for each part that is not ready, in words."""
    troubles: tuple[Trouble, ...] = ()
    """What hinders it and may pass."""


@dataclass(frozen=True)
class Failed:
    """Waiting longer cannot help."""

    reason: Reason
    what: str
    evidence: tuple[str, ...]
    fix: str
    log: LogOf | None = None


def judge(wanted: Wanted, seen: Observed, now: datetime.datetime) -> Progress | Failed:
    """The state of what is wanted. `now` is the time of day by the cluster's reckoning."""
    lines: list[str] = []
    troubles: list[Trouble] = []
    for line, trouble in _parts(wanted, seen, now):
        if trouble is not None:
            if trouble.fatal:
                return Failed(trouble.reason, trouble.what, trouble.evidence, trouble.fix, trouble.log)
            troubles.append(trouble)
        said = trouble.what if trouble else ""
        lines.append(f"{line}: {said}" if said else line)
    return Progress(not lines, tuple(lines), tuple(troubles))


def timed_out(progress: Progress, seconds: str) -> Failed:
    """The end of a wait that nothing fatal ended: what hindered it is the reason."""
    trouble = progress.troubles[0] if progress.troubles else None
    return Failed(
        trouble.reason if trouble else "timeout",
        f"not ready after {seconds}: {'; '.join(progress.lines)}",
        trouble.evidence if trouble else (),
        (trouble.fix if trouble else "") or "wait longer with --timeout, or see kubectl describe for these",
        trouble.log if trouble else None,
    )


def _parts(wanted: Wanted, seen: Observed, now: datetime.datetime) -> Iterator[tuple[str, Trouble | None]]:
    """A line and, where something hinders it, the trouble, for every part that is not ready."""
    pvcs = {name_of(one): one for one in seen.pvcs}
    for name in wanted.pvcs:
        if name not in pvcs:
            yield f"PVC {name} does not exist yet", None
        elif not is_bound(pvcs[name]):
            trouble = pvc_trouble(pvcs[name], seen, now)
            if trouble is None and waits_for_consumer(pvcs[name], seen):
                # Its pod is what is waited for; alone, such a PVC never binds, and that is not a fault.
                if not wanted.deployments and not wanted.stateful_sets:
                    continue
                yield f"PVC {name} waits for its pod", None
            else:
                yield f"PVC {name} is not bound", trouble

    def old(obj: Object) -> bool:
        return wanted.hooks and not seen.fresh(meta_of(obj).get("creationTimestamp"))

    jobs = {name_of(one): one for one in seen.jobs if not old(one)}
    for name in wanted.jobs:
        if name in jobs and (part := _job(jobs[name], seen, now)) is not None:
            yield part
    for name in wanted.daemon_sets:
        for pod in seen.owned(seen.pods, {"kind": "DaemonSet", "metadata": {"name": name}}):
            why = None if is_ready(pod) or old(pod) else pod_trouble(pod, seen, now)
            if why is not None and why.reason in ("image-pull", "image-name"):
                yield f"{name} pulls images", why
    deployments = {name_of(one): one for one in seen.deployments}
    for name in wanted.deployments:
        if name not in deployments:
            yield f"{name} does not exist yet", None
        elif (part := _deployment(deployments[name], seen, now)) is not None:
            yield part
    sets = {name_of(one): one for one in seen.stateful_sets}
    for name in wanted.stateful_sets:
        if name not in sets:
            yield f"{name} does not exist yet", None
        elif (part := _stateful_set(sets[name], seen, now)) is not None:
            yield part


def _is_placeholder(obj: Object) -> bool:
    """The jupyterhub chart's `scheduling.userPlaceholder`: pods whose purpose is to be pending."""
    return str((meta_of(obj).get("labels") or {}).get("component")) == "user-placeholder"


def _by_kind(objects: Iterable[Object]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for obj in objects:
        found.setdefault(str(obj.get("kind")), []).append(name_of(obj))
    return found


def rolled_out(obj: Object) -> bool:
    """Whether all replicas of a deployment are of its newest template and available, as `kubectl rollout` asks."""
    status, wanted = status_of(obj), _replicas(obj)
    return (
        int(status.get("observedGeneration") or 0) >= int(meta_of(obj).get("generation") or 0)
        and int(status.get("updatedReplicas") or 0) >= wanted
        and int(status.get("replicas") or 0) <= int(status.get("updatedReplicas") or 0)
        and int(status.get("availableReplicas") or 0) >= wanted
    )


def _replicas(obj: Object) -> int:
    wanted = spec_of(obj).get("replicas")
    return 1 if wanted is None else int(wanted)


def _deployment(obj: Object, seen: Observed, now: datetime.datetime) -> tuple[str, Trouble | None] | None:
    if rolled_out(obj):
        return None
    line = f"{name_of(obj)} {_ready_of(obj)}"
    newest = _newest_replica_set(obj, seen)
    if newest is not None:
        for pod in seen.owned(seen.pods, newest):
            if not is_ready(pod) and (why := pod_trouble(pod, seen, now)) is not None:
                return line, why
        if (refused := _refused(newest, seen)) is not None:
            return line, refused
    for old in seen.owned(seen.replica_sets, obj):
        for pod in seen.owned(seen.pods, old):
            if meta_of(pod).get("deletionTimestamp") and (why := pod_trouble(pod, seen, now)) is not None:
                return line, why
    if (refused := _refused(obj, seen)) is not None:
        return line, refused
    progressing = condition(obj, "Progressing") or {}
    if progressing.get("reason") == "ProgressDeadlineExceeded":
        return line, Trouble(
            "deadline",
            f"{name_of(obj)} made no progress for its whole deadline",
            (str(progressing.get("message") or ""),),
            f"see kubectl describe deployment {name_of(obj)}",
            fatal=seen.fresh(progressing.get("lastUpdateTime"))
            and int(status_of(obj).get("observedGeneration") or 0)
            >= int(meta_of(obj).get("generation") or 0),
        )
    return line, None


def _stateful_set(obj: Object, seen: Observed, now: datetime.datetime) -> tuple[str, Trouble | None] | None:
    status, wanted = status_of(obj), _replicas(obj)
    current = int(status.get("observedGeneration") or 0) >= int(meta_of(obj).get("generation") or 0)
    if current and int(status.get("readyReplicas") or 0) >= wanted:
        return None
    line = f"{name_of(obj)} {_ready_of(obj)}"
    for pod in seen.owned(seen.pods, obj):
        if not is_ready(pod) and (why := pod_trouble(pod, seen, now)) is not None:
            return line, why
    return line, _refused(obj, seen)


def daemon_set_words(obj: Object, seen: Observed, now: datetime.datetime) -> tuple[str, bool]:
    """What keeps a DaemonSet from being ready, and whether waiting cannot help; empty where it is."""
    status = status_of(obj)
    wanted, ready = (int(status.get(key) or 0) for key in ("desiredNumberScheduled", "numberReady"))
    current = int(status.get("observedGeneration") or 0) >= int(meta_of(obj).get("generation") or 0)
    if current and ready >= wanted:
        return "", False
    pods = [pod for pod in seen.owned(seen.pods, obj) if not is_ready(pod)]
    troubles = [why for pod in pods if (why := pod_trouble(pod, seen, now)) is not None]
    if (refused := _refused(obj, seen)) is not None:
        troubles.append(refused)
    worst = next((one for one in troubles if one.fatal), troubles[0] if troubles else None)
    line = f"{ready} of {wanted} ready"
    if worst is None:
        return line, False
    said = f" ({worst.evidence[0]})" if worst.evidence else ""
    return f"{line}: {worst.what}{said}", worst.fatal


def _job(obj: Object, seen: Observed, now: datetime.datetime) -> tuple[str, Trouble | None] | None:
    if (condition(obj, "Complete") or {}).get("status") == "True":
        return None
    line = f"job {name_of(obj)} runs"
    pods = list(seen.owned(seen.pods, obj))
    failed = condition(obj, "Failed") or {}
    if failed.get("status") == "True":
        ended = [pod for pod in pods if status_of(pod).get("phase") == "Failed"]
        containers = spec_of(ended[-1]).get("containers") if ended else None
        return line, Trouble(
            "job",
            f"the job {name_of(obj)} failed ({failed.get('reason') or 'no reason given'})",
            (str(failed.get("message") or ""),),
            "its last lines say why",
            fatal=True,
            log=LogOf(name_of(ended[-1]), str(containers[0]["name"]), False)
            if ended and containers
            else None,
        )
    for pod in pods:
        if not is_ready(pod) and (why := pod_trouble(pod, seen, now)) is not None:
            return line, why
    return line, _refused(obj, seen)


def _newest_replica_set(obj: Object, seen: Observed) -> Object | None:
    def number(one: Object) -> int:
        return int((meta_of(one).get("annotations") or {}).get(_REVISION) or 0)

    return max(seen.owned(seen.replica_sets, obj), key=number, default=None)


def _refused(owner: Object, seen: Observed) -> Trouble | None:
    """Why the API server does not let a controller make pods."""
    failure = condition(owner, "ReplicaFailure") or {}
    events = seen.events_of(owner, "FailedCreate", "SuccessfulCreate")
    if failure.get("status") == "True":
        said, when = str(failure.get("message") or ""), failure.get("lastTransitionTime")
    elif events and events[-1].get("reason") == "FailedCreate":
        said, when = text_of(events[-1]), None
    else:
        return None
    if events:
        when = last_seen(events[-1])
    lower = said.lower()
    # What is just leaving may be what uses up the quota.
    leaving = any(meta_of(pod).get("deletionTimestamp") for pod in seen.pods)
    fresh = seen.fresh(when) and not leaving
    if "exceeded quota" in lower or "failed quota" in lower:
        return Trouble(
            "quota",
            f"the namespace's ResourceQuota does not let {name_of(owner)} have its pod",
            (said,),
            "raise the ResourceQuota of the namespace, or lower what this part asks for",
            fatal=fresh,
        )
    if "violates podsecurity" in lower:
        return Trouble(
            "pod-security",
            f"the namespace's Pod Security level does not let {name_of(owner)} have its pod",
            (said,),
            "set the label pod-security.kubernetes.io/enforce of the namespace to a level that the charts keep",
            fatal=fresh,
        )
    # "error looking up service account" and webhooks that start up pass by themselves.
    passing = "service account" in lower or "failed calling webhook" in lower
    return Trouble(
        "refused",
        f"the cluster does not let {name_of(owner)} have its pod",
        (said,),
        "find out who refuses it (an admission webhook, a LimitRange, a missing ServiceAccount)",
        fatal=fresh and not passing,
    )


def _ready_of(obj: Object) -> str:
    status = status_of(obj)
    wanted = _replicas(obj)
    ready = min(
        int(status.get("updatedReplicas") or status.get("currentReplicas") or 0),
        int(status.get("readyReplicas") or 0),
    )
    old = int(status.get("replicas") or 0) - int(status.get("updatedReplicas") or status.get("replicas") or 0)
    return f"{ready} of {wanted} ready" + (f", {old} old" if old > 0 else "")
