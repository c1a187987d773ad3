"""What a plan compares: every object that the new render wants, and every one that the last releases had. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tidehub.kubernetes.objects import Key, Object, ObjectId, identify, is_hook, key_of
from tidehub.kubernetes.ownership import OURS
from tidehub.kubernetes.planning.model import Part

if TYPE_CHECKING:
    from tidehub.kubernetes.rendering.model import Rendered

PROTECTED = frozenset({("PersistentVolumeClaim", "hub-db-dir"), ("Secret", "hub")})
"""What stays when a whole release goes: the hub's database, and its keys (`deploying.steps.removing`)."""
POLICY = "helm.sh/resource-policy"
"""Annotation by which Helm keeps an object that leaves its release: `keep`."""


@dataclass(frozen=True)
class Subject:
    """One object, wanted or left behind, and what is known of it before anybody asks the cluster."""

    id: ObjectId
    part: Part
    home: str
    """The platform's namespace, where its releases are."""
    release: str | None = None
    new: Object | None = None
    """As rendered; None for what the new render no longer has."""
    last: Object | None = None
    """As in the last release's manifest; None for what it did not have."""
    protected: bool = False
    """Whether tidehub leaves it where it is, though its release goes: it holds data."""


def subjects(
    rendered: Rendered, manifests: Mapping[str, Iterable[Object]], earlier: Iterable[Object] = ()
) -> tuple[Subject, ...]:
    """All of them, in the order of a deployment; what goes comes after what its release keeps.

    `manifests` are the last releases' objects by release, also of releases that the site no longer has,
    `earlier` tidehub's own objects of earlier deployments.
    """
    namespace = rendered.platform.namespace
    found = [Subject(identify(crd, namespace), "crd", namespace, None, crd) for crd in rendered.crds]
    own = [
        Subject(identify(obj, namespace), "own", namespace, None, _labelled(obj)) for obj in rendered.objects
    ]
    found += own
    wanted = {key_of(one.id) for one in found}
    gone = {key_of(identify(obj, namespace)): obj for obj in earlier}
    found += [
        Subject(identify(obj, namespace), "own", namespace, None, None, obj)
        for key, obj in gone.items()
        if key not in wanted
    ]
    for one in rendered.releases:
        name = one.release.name
        last = _by_key(manifests.get(name, ()), namespace)
        for obj in one.objects:
            id = identify(obj, namespace)
            found.append(Subject(id, "release", namespace, name, obj, last.pop(key_of(id), None)))
        found += [
            Subject(identify(obj, namespace), "release", namespace, name, None, obj) for obj in last.values()
        ]
    names = {one.release.name for one in rendered.releases}
    for name, manifest in manifests.items():
        if name not in names:
            found += [
                Subject(id, "release", namespace, name, None, obj, (id.kind, id.name) in PROTECTED)
                for id, obj in (
                    (identify(obj, namespace), obj) for obj in _by_key(manifest, namespace).values()
                )
            ]
    return tuple(found)


def _labelled(obj: Object) -> Object:
    """One of our own objects as it is applied: with the label that says so."""
    meta = obj.get("metadata") or {}
    return {**obj, "metadata": {**meta, "labels": {**(meta.get("labels") or {}), **OURS}}}


def is_kept(*objects: Object | None) -> bool:
    """Whether Helm leaves the object where it is when its release no longer has it."""
    return any(_annotations(obj).get(POLICY, "").lower() == "keep" for obj in objects if obj is not None)


def _by_key(objects: Iterable[Object], namespace: str) -> dict[Key, Object]:
    return {key_of(identify(obj, namespace)): obj for obj in objects if not is_hook(obj)}


def _annotations(obj: Object) -> Mapping[str, str]:
    return (obj.get("metadata") or {}).get("annotations") or {}
