"""What is looked at while waiting, and what hinders it. Pure types and readings of Kubernetes objects."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from tidehub.kubernetes.objects import Object

Reason = Literal[
    "image-pull", "image-name", "crash", "out-of-memory", "container-config", "unschedulable", "pvc", "quota",
    "pod-security", "refused", "mount", "job", "stuck", "deadline", "gone", "timeout",
]  # fmt: skip


@dataclass(frozen=True)
class LogOf:
    """Which log would explain it."""

    pod: str
    container: str
    previous: bool


@dataclass(frozen=True)
class Trouble:
    """Something that keeps an object from being ready."""

    reason: Reason
    what: str
    """One sentence, without its end."""
    evidence: tuple[str, ...] = ()
    """What the cluster says, word for word."""
    fix: str = ""
    fatal: bool = False
    """Whether waiting longer cannot help."""
    log: LogOf | None = None


@dataclass(frozen=True)
class Observed:
    """The objects of a namespace at one moment.

    What was so before `since` is not a reason to give up: what caused it may have been put right, and the cluster tries
    again by itself.
    """

    deployments: tuple[Object, ...] = ()
    stateful_sets: tuple[Object, ...] = ()
    daemon_sets: tuple[Object, ...] = ()
    replica_sets: tuple[Object, ...] = ()
    pods: tuple[Object, ...] = ()
    pvcs: tuple[Object, ...] = ()
    jobs: tuple[Object, ...] = ()
    events: tuple[Object, ...] = ()
    since: datetime.datetime | None = None

    def fresh(self, written: Any) -> bool:
        """Whether a time in an object is not before `since`; also where it says none."""
        if self.since is None:
            return True
        try:
            # Times in objects are whole seconds.
            return datetime.datetime.fromisoformat(str(written)) >= self.since.replace(microsecond=0)
        except ValueError:
            return True

    def age(self, written: Any, now: datetime.datetime) -> float:
        """Seconds that something lasts, counted from `since` at the earliest."""
        lasts = age(written, now)
        return lasts if self.since is None else min(lasts, max(0.0, (now - self.since).total_seconds()))

    def events_of(self, obj: Object, *reasons: str) -> list[Object]:
        """Events about one object, oldest first; only those of `reasons` where any are given."""
        meta = meta_of(obj)
        found = [
            event
            for event in self.events
            if (about := event.get("involvedObject") or {}).get("kind") == obj.get("kind")
            and about.get("name") == meta.get("name")
            # A pod of the same name before: a stateful set's, a job's.
            and (not about.get("uid") or not meta.get("uid") or about["uid"] == meta["uid"])
            and (not reasons or event.get("reason") in reasons)
        ]
        return sorted(found, key=lambda event: last_seen(event))

    def owned(self, kind: Iterable[Object], owner: Object) -> Iterator[Object]:
        """Those of `kind` that `owner` made."""
        meta = meta_of(owner)
        for obj in kind:
            for reference in meta_of(obj).get("ownerReferences") or []:
                same = reference.get("kind") == owner.get("kind") and reference.get("name") == meta.get(
                    "name"
                )
                if same and (not meta.get("uid") or reference.get("uid") in (None, meta["uid"])):
                    yield obj


def meta_of(obj: Object) -> dict[str, Any]:
    """An object's metadata."""
    return obj.get("metadata") or {}


def name_of(obj: Object) -> str:
    """An object's name."""
    return str(meta_of(obj).get("name", ""))


def spec_of(obj: Object) -> dict[str, Any]:
    """An object's wanted state."""
    return obj.get("spec") or {}


def status_of(obj: Object) -> dict[str, Any]:
    """An object's observed state."""
    return obj.get("status") or {}


def condition(obj: Object, type: str) -> dict[str, Any] | None:
    """A condition of the object's status; None where it has none of that type."""
    for one in status_of(obj).get("conditions") or []:
        if one.get("type") == type:
            return dict(one)
    return None


def text_of(event: Object) -> str:
    """What an event says, on one line."""
    return " ".join(str(event.get("message") or "").split())


def times(events: Iterable[Object]) -> int:
    """How often something happened, counting what the cluster folded into one event."""
    return sum(int((event.get("series") or {}).get("count") or event.get("count") or 1) for event in events)


def age(written: Any, now: datetime.datetime) -> float:
    """Seconds since a time in an object; 0 where it says none."""
    try:
        return max(0.0, (now - datetime.datetime.fromisoformat(str(written))).total_seconds())
    except ValueError:
        return 0.0


def last_seen(event: Object) -> str:
    """When an event happened last."""
    return str(
        (event.get("series") or {}).get("lastObservedTime")
        or event.get("lastTimestamp")
        or event.get("eventTime")
        or meta_of(event).get("creationTimestamp")
        or ""
    )
