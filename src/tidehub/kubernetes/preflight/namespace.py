"""The namespace as a place: whether it is there, and whether anything in it refuses to go."""

from __future__ import annotations

from datetime import UTC, datetime

from tidehub.kubernetes.objects import Object, identify
from tidehub.kubernetes.preflight.model import Context, Finding
from tidehub.kubernetes.preflight.ownership import existing

_PATIENCE = 60.0
"""Seconds that a deletion may take before it counts as stuck."""


def namespace(context: Context) -> Finding:
    """Whether the namespace is there, or can be made."""
    name = context.namespace
    found = context.there.one("v1", "Namespace", name)
    if found is None:
        return Finding(
            "namespace", "ok", f"the namespace {name} does not exist yet: the deployment creates it"
        )
    if (found.get("status") or {}).get("phase") == "Terminating":
        return Finding(
            "namespace",
            "problem",
            f"the namespace {name} is being deleted",
            "wait until it is gone; what keeps it is said above (a finalizer's controller may be gone for good)",
            tuple(_held_by(found)),
        )
    return Finding("namespace", "ok", f"the namespace {name} is there")


def finalizers(context: Context) -> Finding:
    """Objects of the platform whose deletion has begun and does not end."""
    now = datetime.fromtimestamp(context.network.now(), UTC)
    stuck = []
    for obj in [*existing(context).values(), *_pvcs(context), *_crds(context)]:
        since = deleted_since(obj)
        if since is not None and (now - since).total_seconds() > _PATIENCE:
            one = identify(obj, context.namespace)
            kept = ", ".join((obj["metadata"].get("finalizers") or []) or ["foreground deletion"])
            stuck.append(f"{one} since {since:%Y-%m-%d %H:%M} UTC, held by {kept}")
    if stuck:
        return Finding(
            "finalizers",
            "problem",
            f"{stuck[0].split(' since ')[0]} is being deleted and does not go"
            + (f", and {len(set(stuck)) - 1} more" if len(set(stuck)) > 1 else ""),
            "have the finalizer's controller finish it (a PVC: end the pods that use it); take the finalizer out "
            "by hand only when its controller is gone for good and what it guards may be lost",
            tuple(dict.fromkeys(stuck)),
        )
    return Finding("finalizers", "ok", "nothing of the platform is stuck in its deletion")


def deleted_since(obj: Object) -> datetime | None:
    """When its deletion was asked for."""
    stamp = (obj.get("metadata") or {}).get("deletionTimestamp")
    return datetime.fromisoformat(str(stamp)) if stamp else None


def _pvcs(context: Context) -> list[Object]:
    return context.there.all("v1", "PersistentVolumeClaim", context.namespace)


def _crds(context: Context) -> list[Object]:
    look = context.there
    names = [str(crd["metadata"]["name"]) for crd in context.rendered.crds] if context.rendered else []
    found = (look.one("apiextensions.k8s.io/v1", "CustomResourceDefinition", name) for name in names)
    return [one for one in found if one is not None]


def _held_by(found: Object) -> list[str]:
    conditions = (found.get("status") or {}).get("conditions") or []
    said = [
        str(one.get("message")) for one in conditions if one.get("status") == "True" and one.get("message")
    ]
    return said or [f"finalizers: {', '.join((found.get('spec') or {}).get('finalizers') or [])}"]
