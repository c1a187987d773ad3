"""The Lease `tidehub`: one operator at a time in a namespace.

A holder renews it while it works. Whoever finds it held watches it: one that is renewed belongs to somebody who
works; one that is not renewed for its whole duration belongs to nobody any more. Only this machine's clock for
durations is trusted, not that two machines agree on the time of day, save for a lease that is long over.
"""

from __future__ import annotations

import contextlib
import datetime
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from tidehub.errors import TidehubError
from tidehub.kubernetes.cluster.port import Cluster, ClusterProblem
from tidehub.kubernetes.deploying.holder import Holder
from tidehub.kubernetes.deploying.words import Failure
from tidehub.kubernetes.objects import Object
from tidehub.kubernetes.ownership import OURS

NAME = "tidehub"
API = "coordination.k8s.io/v1"
DURATION = 30
"""Seconds after which a lease that nobody renews is free."""
RENEWAL = 8.0
"""Seconds between two renewals."""
LONG_OVER = 300
"""Seconds past its end, by the time of day, after which a lease is free without watching it."""
_OPERATION = "tidehub/operation"


class Locked(TidehubError):
    """Somebody else works on this namespace."""


@dataclass(frozen=True)
class Held:
    """What a lease says."""

    holder: str
    operation: str
    since: str
    renewed: str
    seconds: int
    version: str

    def over_for(self, now: datetime.datetime) -> float:
        """Seconds since it ended, by the time of day; negative while it lasts; huge where it says no time."""
        try:
            renewed = datetime.datetime.fromisoformat(self.renewed)
        except ValueError:
            return float("inf")
        return (now - renewed).total_seconds() - self.seconds


def read_lease(obj: Object) -> Held:
    """The facts of a Lease object."""
    meta: dict[str, Any] = obj.get("metadata") or {}
    spec: dict[str, Any] = obj.get("spec") or {}
    return Held(
        holder=str(spec.get("holderIdentity") or ""),
        operation=str((meta.get("annotations") or {}).get(_OPERATION) or "something"),
        since=str(spec.get("acquireTime") or ""),
        renewed=str(spec.get("renewTime") or ""),
        seconds=int(spec.get("leaseDurationSeconds") or DURATION),
        version=str(meta.get("resourceVersion") or ""),
    )


class Lock:
    """Holds the lease of a namespace while it is entered. Raises `Locked`, naming who works there."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        operation: str,
        holder: Holder,
        *,
        told: Callable[[str], None] = lambda _: None,
        duration: int = DURATION,
        renewal: float = RENEWAL,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._operation = operation
        self._holder = holder
        self._told = told
        self._duration = duration
        self._renewal = renewal
        self._clock = clock
        self._sleep = sleep
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._renewed_at = 0.0
        self._lost = ""
        self._since = ""

    def __enter__(self) -> Self:
        self._acquire()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._stop.set()
        if isinstance(error, Failure) and error.unanswered:
            # It ends by itself, and here at once: our process is gone then.
            return
        if self._thread is not None:
            self._thread.join(timeout=self._renewal)
        # Best effort: a lease that cannot be given back ends by itself.
        with contextlib.suppress(ClusterProblem):
            self._release()

    def ensure(self) -> None:
        """Raises `Locked` where the lease went to somebody else, `ClusterProblem` where nobody can tell just now.

        A lease that was not renewed in its time, because the API server did not answer, is still ours if nobody took
        it meanwhile.
        """
        if not self._lost and self._clock() - self._renewed_at > self._duration:
            self._renew()
        if self._lost:
            raise Locked(
                f"this tidehub lost its lease on the namespace {self._namespace}: {self._lost}",
                fix=f"find out who works there: kubectl -n {self._namespace} get lease {NAME} -o yaml; then go on",
            )

    def _acquire(self) -> None:
        first: Held | None = None
        first_at = self._clock()
        while True:
            found = self._cluster.get(API, "Lease", NAME, self._namespace)
            held = read_lease(found) if found is not None else None
            if held is None or self._is_free(held):
                if self._take(found):
                    return
                continue
            if first is None or first.holder != held.holder:
                first, first_at = held, self._clock()
                self._told(
                    f"{held.holder} holds the lock of {self._namespace}; seeing whether they still work"
                )
            elif held.renewed != first.renewed:
                raise Locked(
                    f"{held.holder} is working on the namespace {self._namespace} "
                    f"({held.operation}, since {held.since or 'just now'})",
                    fix="wait until they are done, or talk to them; nothing was changed",
                )
            elif self._clock() - first_at > held.seconds:
                self._told(f"{held.holder} does not work any more: taking over")
                if self._take(found):
                    return
                continue
            self._sleep(min(1.0, self._renewal / 4))

    def _is_free(self, held: Held) -> bool:
        now = datetime.datetime.now(datetime.UTC)
        # Our own: left by an operation of this process that could not give it back.
        if held.holder in ("", self._holder.identity):
            return True
        return held.over_for(now) > LONG_OVER or self._holder.knows_is_gone(held.holder)

    def _take(self, found: Object | None) -> bool:
        """Whether it is ours now; False where somebody was quicker."""
        now = _now()
        lease: Object = {
            "apiVersion": API,
            "kind": "Lease",
            "metadata": {
                "name": NAME,
                "namespace": self._namespace,
                "labels": dict(OURS),
                "annotations": {_OPERATION: self._operation},
            },
            "spec": {
                "holderIdentity": self._holder.identity,
                "leaseDurationSeconds": self._duration,
                "acquireTime": now,
                "renewTime": now,
                "leaseTransitions": 0,
            },
        }
        try:
            if found is None:
                self._cluster.create(lease, self._namespace)
            else:
                lease["metadata"]["resourceVersion"] = found["metadata"].get("resourceVersion")
                before = (found.get("spec") or {}).get("leaseTransitions") or 0
                lease["spec"]["leaseTransitions"] = int(before) + 1
                self._cluster.replace(lease, self._namespace)
        except ClusterProblem as problem:
            if problem.reason in ("conflict", "not-found"):
                return False
            raise
        self._renewed_at = self._clock()
        self._since = now
        return True

    def _keep(self) -> None:
        while not self._stop.wait(self._renewal) and not self._lost:
            # Not reached: the next round finds out; `ensure` counts the time.
            with contextlib.suppress(ClusterProblem):
                self._renew()

    def _renew(self) -> None:
        found = self._cluster.get(API, "Lease", NAME, self._namespace)
        if found is None or read_lease(found).holder != self._holder.identity:
            self._lost = f"{read_lease(found).holder or 'somebody'} took it" if found else "it is gone"
            return
        found["spec"]["renewTime"] = _now()
        try:
            self._cluster.replace(found, self._namespace)
        except ClusterProblem as problem:
            # Changed since it was read: by our other thread, or the next round sees by whom.
            if problem.reason != "conflict":
                raise
            return
        self._renewed_at = self._clock()

    def _release(self) -> None:
        found = self._cluster.get(API, "Lease", NAME, self._namespace)
        if found is None or read_lease(found).holder != self._holder.identity:
            return
        found["spec"]["holderIdentity"] = ""
        self._cluster.replace(found, self._namespace)


def _now() -> str:
    """As Kubernetes writes a MicroTime."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
