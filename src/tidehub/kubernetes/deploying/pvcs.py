"""Why a PersistentVolumeClaim is not bound. Pure."""

from __future__ import annotations

import datetime

from tidehub.kubernetes.deploying.observed import (
    Observed,
    Trouble,
    last_seen,
    meta_of,
    name_of,
    spec_of,
    status_of,
    text_of,
    times,
)
from tidehub.kubernetes.objects import Object

TRIES = 3
"""Failed attempts after which a volume is not waited for."""
STUCK_GRACE = 60.0
"""Seconds after which a PVC that is being deleted is stuck."""
_FINAL = (
    "not found",
    "quota",
    "limitexceeded",
    "limit exceeded",
    "413",
    "no StorageClass is set",
    "forbidden",
)


def is_bound(pvc: Object) -> bool:
    """Whether it has its volume."""
    return status_of(pvc).get("phase") == "Bound" and not meta_of(pvc).get("deletionTimestamp")


def waits_for_consumer(pvc: Object, seen: Observed) -> bool:
    """Whether its volume is made once a pod uses it, which is not a fault."""
    events = seen.events_of(pvc)
    return bool(events) and events[-1].get("reason") == "WaitForFirstConsumer"


def pvc_trouble(pvc: Object, seen: Observed, now: datetime.datetime) -> Trouble | None:
    """What keeps it from being bound; None where it is, or nothing is known yet."""
    name, meta = name_of(pvc), meta_of(pvc)
    if meta.get("deletionTimestamp"):
        return Trouble(
            "stuck",
            f"the PVC {name} is being deleted",
            (f"finalizers: {', '.join(meta.get('finalizers') or []) or 'none'}",),
            "what still uses it must end first (kubectl describe pvc says what); then deploy again",
            fatal=seen.age(meta["deletionTimestamp"], now) > STUCK_GRACE,
        )
    phase = status_of(pvc).get("phase")
    if phase == "Bound":
        return None
    if phase == "Lost":
        return Trouble(
            "pvc",
            f"the PVC {name} lost its PersistentVolume {spec_of(pvc).get('volumeName')}",
            (),
            "bring the volume back; what was on it is not in the cluster any more",
            fatal=True,
        )
    failed = seen.events_of(pvc, "ProvisioningFailed", "FailedBinding", "VolumeMismatch", "ClaimMisbound")
    if not failed:
        return None
    said = text_of(failed[-1])
    final = any(word in said.lower() for word in _FINAL)
    storage_class = spec_of(pvc).get("storageClassName")
    return Trouble(
        "pvc",
        f"the PVC {name} gets no PersistentVolume",
        (said,),
        _fix(said.lower(), storage_class),
        fatal=(final or times(failed) >= TRIES) and seen.fresh(last_seen(failed[-1])),
    )


def _fix(said: str, storage_class: str | None) -> str:
    if "quota" in said or "limit" in said or "413" in said:
        return "raise the cloud's quota of volumes or of their size, or free some"
    if "no StorageClass is set" in said:
        return "name a StorageClass in the site file, or mark one as the cluster's default"
    if "not found" in said and storage_class:
        return f"the cluster has no StorageClass {storage_class!r}: name one of `kubectl get storageclass`"
    return "see kubectl describe pvc, and the log of the storage driver"
