"""Looks at a namespace until what was deployed is ready. The edge of `waiting`, which judges."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from tidehub.errors import TidehubError
from tidehub.kubernetes.cluster.port import Cluster, ClusterProblem
from tidehub.kubernetes.deploying.ending import pause
from tidehub.kubernetes.deploying.observed import LogOf, Observed, meta_of, name_of
from tidehub.kubernetes.deploying.pods import is_ready
from tidehub.kubernetes.deploying.running import Work
from tidehub.kubernetes.deploying.waiting import Failed, Progress, Wanted, judge, timed_out
from tidehub.kubernetes.deploying.words import span
from tidehub.kubernetes.objects import Object

TAIL = 12
"""Lines of a log that are shown."""
ASKED = 12
"""Objects whose events are asked for at one look: a namespace with users in it has thousands of others."""
_PASSING = ("unreachable", "timeout", "expired")


class WaitFailed(TidehubError):
    """What was deployed does not get ready."""

    goes_back = True

    def __init__(self, failed: Failed, evidence: Iterable[str]) -> None:
        self.reason = failed.reason
        self.evidence = tuple(evidence)
        super().__init__(failed.what, fix=failed.fix)


def observe(
    cluster: Cluster, namespace: str, wanted: Wanted, since: datetime.datetime | None = None
) -> Observed:
    """What is there now; pods and events only where something is not ready yet."""
    kinds = [("apps/v1", "Deployment"), ("v1", "PersistentVolumeClaim"), ("batch/v1", "Job")]
    if wanted.stateful_sets:
        kinds.append(("apps/v1", "StatefulSet"))
    with ThreadPoolExecutor(max_workers=4) as pool:
        listed = pool.map(lambda kind: cluster.find(kind[0], kind[1], namespace), kinds)
        found = dict(zip(kinds, listed, strict=True))
    first = Observed(
        deployments=_named(found[kinds[0]], wanted.deployments),
        pvcs=_named(found[kinds[1]], wanted.pvcs),
        jobs=_named(found[kinds[2]], wanted.jobs),
        stateful_sets=_named(found.get(("apps/v1", "StatefulSet"), []), wanted.stateful_sets),
        since=since,
    )
    state = judge(wanted, first, server_time(None))
    if isinstance(state, Progress) and state.done and not wanted.daemon_sets:
        return first
    with ThreadPoolExecutor(max_workers=4) as pool:
        sets_asked = pool.submit(cluster.find, "apps/v1", "ReplicaSet", namespace)
        pods = tuple(cluster.find("v1", "Pod", namespace))
        replica_sets = tuple(sets_asked.result())
        pvcs = tuple(found[kinds[1]])
        about = [
            *(one for one in pods if not is_ready(one) and _concerns(one, replica_sets, wanted)),
            *(one for one in pvcs if (one.get("status") or {}).get("phase") != "Bound"),
            *(one for one in replica_sets if _newest_of(one, wanted)),
        ]
        names = list(dict.fromkeys(name_of(one) for one in about))[:ASKED]
        events = [
            event
            for of_one in pool.map(
                lambda name: cluster.find("v1", "Event", namespace, fields=f"involvedObject.name={name}"),
                names,
            )
            for event in of_one
        ]
    return Observed(
        deployments=first.deployments,
        stateful_sets=first.stateful_sets,
        replica_sets=replica_sets,
        pods=pods,
        pvcs=pvcs,
        jobs=first.jobs,
        events=tuple(events),
        since=since,
    )


def wait_until_ready(work: Work, wanted: Wanted, what: str, *, since: datetime.datetime | None = None) -> str:
    """Waits, telling what it waits for. Raises `WaitFailed` as soon as waiting cannot help, or when time is up."""
    began = time.monotonic()
    deadline = began + work.options.timeout
    said = ""
    troubled = 0.0
    while True:
        try:
            work.ensure()
            seen = observe(work.cluster, work.namespace, wanted, since)
            troubled = 0.0
        except ClusterProblem as problem:
            troubled = _patience(work, problem, troubled)
            work.say.step(f"{what}: the API server does not answer; waiting for it")
            pause(work.options.poll)
            continue
        state = judge(wanted, seen, server_time(work))
        if isinstance(state, Progress) and not state.done and time.monotonic() > deadline:
            state = timed_out(state, span(work.options.timeout))
        if isinstance(state, Failed):
            raise WaitFailed(state, evidence(work, state))
        if state.done:
            return f"ready after {span(time.monotonic() - began)}"
        line = "; ".join(state.lines)
        if line != said:
            said = line
            work.say.step(f"{what}: {line}")
        pause(work.options.poll)


def is_done(work: Work, wanted: Wanted) -> bool:
    """Whether everything is ready now."""
    kinds = {"apps/v1 Deployment": wanted.deployments, "apps/v1 StatefulSet": wanted.stateful_sets}
    if not any(kinds.values()) and not wanted.pvcs:
        return True
    state = judge(wanted, observe(work.cluster, work.namespace, wanted), server_time(work))
    return isinstance(state, Progress) and state.done


def evidence(work: Work, failed: Failed) -> tuple[str, ...]:
    """What the cluster says of a failure, with the last lines of the log that explains it."""
    lines = list(failed.evidence)
    if failed.log is not None:
        tail = log_tail(work.cluster, work.namespace, failed.log)
        if tail:
            lines += [
                f"the last lines of {failed.log.pod} ({failed.log.container}):",
                *(f"  {one}" for one in tail),
            ]
    return tuple(redacted(line) for line in lines if line)


def log_tail(cluster: Cluster, namespace: str, log: LogOf) -> list[str]:
    """The last lines of a log; none where there is none."""
    for previous in dict.fromkeys((log.previous, False)):
        with contextlib.suppress(ClusterProblem):
            found = list(
                cluster.logs(log.pod, namespace, container=log.container, tail=TAIL, previous=previous)
            )
            if found:
                return found[-TAIL:]
    return []


def redacted(text: str) -> str:
    """Without any secret that this run has read."""
    from tidehub.secrets.redaction import known

    return str(known.text(text))


def server_time(work: Work | None) -> datetime.datetime:
    """The time of day by the API server's clock, as far as its answers told it."""
    offset = work.facts_of_server.get("offset", 0.0) if work is not None else 0.0
    return datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=offset)


def while_working(
    work: Work, wanted: Wanted, what: str, stop: Callable[[], None], over: Callable[[float], bool]
) -> WaitFailed | None:
    """Looks at hooks while Helm runs them; calls `stop` where waiting cannot help. `over` waits for Helm's end."""
    since = server_time(work)
    said = ""
    while not over(work.options.poll):
        try:
            seen = observe(work.cluster, work.namespace, wanted, since)
        except ClusterProblem:
            continue
        state = judge(wanted, seen, server_time(work))
        if isinstance(state, Failed):
            failure = WaitFailed(state, evidence(work, state))
            stop()
            return failure
        line = "; ".join(state.lines)
        if line and line != said:
            said = line
            work.say.step(f"{what}: {line}")
    return None


def _patience(work: Work, problem: ClusterProblem, since: float) -> float:
    """When the trouble began. Raises the problem where it is none that passes, or has lasted too long."""
    if problem.reason not in _PASSING:
        raise problem
    now = time.monotonic()
    if since and now - since > work.options.outage:
        raise problem
    return since or now


def _named(objects: Iterable[Object], wanted: Iterable[str]) -> tuple[Object, ...]:
    names = set(wanted)
    return tuple(one for one in objects if name_of(one) in names)


def _owners(obj: Object) -> list[tuple[str, str]]:
    return [(str(one.get("kind")), str(one.get("name"))) for one in meta_of(obj).get("ownerReferences") or []]


def _concerns(pod: Object, replica_sets: Iterable[Object], wanted: Wanted) -> bool:
    sets = {name_of(one): one for one in replica_sets}
    for kind, name in _owners(pod):
        if kind == "ReplicaSet" and name in sets and _newest_of(sets[name], wanted):
            return True
        named = {"StatefulSet": wanted.stateful_sets, "Job": wanted.jobs, "DaemonSet": wanted.daemon_sets}
        if name in named.get(kind, ()):
            return True
    return False


def _newest_of(replica_set: Object, wanted: Wanted) -> bool:
    """Whether it is of a wanted deployment and has pods to make."""
    return any(
        kind == "Deployment" and name in wanted.deployments for kind, name in _owners(replica_set)
    ) and bool((replica_set.get("spec") or {}).get("replicas"))
