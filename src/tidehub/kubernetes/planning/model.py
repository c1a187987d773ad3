"""What a plan says. Pure types: `plan.plan` fills them, `words` tells them. No secret is in any of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tidehub.kubernetes.objects import ObjectId
from tidehub.kubernetes.planning.diff import FieldChange

Action = Literal["add", "change", "remove", "keep", "same"]
"""`keep` is an object that leaves the release and stays in the cluster."""
Part = Literal["release", "own", "crd", "namespace"]
"""What brings an object: a chart's release, tidehub itself, a chart's `crds/`, or the namespace of them all."""
Cause = Literal["site", "drift", "server"]
"""Why a field would change: the render changed, somebody changed the cluster, or the server fills it in."""
Weight = Literal["refusal", "danger", "notice"]
"""`refusal` stops a deployment, `danger` is to be weighed before it, `notice` is worth knowing."""
Kind = Literal[
    "conflict", "adoption", "refused", "immutable", "unserved", "data-loss", "pvc-names", "keys", "database",
    "downgrade", "model", "namespace", "crd", "restart", "servers", "pending", "leftover", "untried",
]  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """Something that is called out before the changes."""

    kind: Kind
    weight: Weight
    what: str
    """One sentence: what would happen."""
    means: str = ""
    """What it means."""
    fix: str = ""
    """What to do about it."""
    objects: tuple[ObjectId, ...] = ()


@dataclass(frozen=True)
class PlannedField:
    """One field of an object, with secrets hidden, and why it would change."""

    change: FieldChange
    cause: Cause


@dataclass(frozen=True)
class ObjectChange:
    """What would happen to one object."""

    id: ObjectId
    part: Part
    action: Action
    release: str | None = None
    """The Helm release that has it; None for what tidehub applies itself."""
    fields: tuple[PlannedField, ...] = ()
    """Of a change: the live object against what the server says it would hold."""
    summary: tuple[str, ...] = ()
    """In words, for example `the hub restarts because its configuration changed`."""


@dataclass(frozen=True)
class Drift:
    """A field or object that differs from the last release though no release changed it."""

    id: ObjectId
    release: str
    change: FieldChange | None
    """From the last release's manifest to the live object; None where the whole object is gone."""
    managers: tuple[str, ...] = ()
    """Who wrote the field, by the cluster's books; empty where they do not say."""
    reset: bool = True
    """Whether a deployment puts it back."""


ReleaseAction = Literal["install", "upgrade", "finish", "remove", "same"]
"""`finish` is a release whose last operation failed or never ended; `remove` one that is no longer part of the site."""


@dataclass(frozen=True)
class ReleaseChange:
    """One Helm release, now and then."""

    name: str
    action: ReleaseAction
    chart: str
    version: str
    old_chart: str | None = None
    old_version: str | None = None
    revision: int = 0
    """The newest revision in the cluster; 0 without one."""
    status: str = ""
    """Helm's word for it; empty without a release."""
    hooks: tuple[ObjectId, ...] = ()
    """What Helm would run around it."""


@dataclass(frozen=True)
class Plan:
    """What `deploy` would do. Nothing of it has been done."""

    site: str
    cluster: str
    namespace: str
    model: str
    releases: tuple[ReleaseChange, ...] = ()
    changes: tuple[ObjectChange, ...] = ()
    """In the order of a deployment; what stays as it is is only counted, in `same`."""
    findings: tuple[Finding, ...] = ()
    """The gravest first."""
    drift: tuple[Drift, ...] = ()
    same: int = 0

    @property
    def counts(self) -> dict[Action, int]:
        """How many objects would be added, changed, removed, or leave their release and stay."""
        actions: tuple[Action, ...] = ("add", "change", "remove", "keep")
        return {action: sum(one.action == action for one in self.changes) for action in actions}

    @property
    def empty(self) -> bool:
        """Whether a deployment has nothing to do: no object would change, and every release is finished."""
        return not self.changes and all(one.action == "same" for one in self.releases) and not self.refusals

    @property
    def refusals(self) -> tuple[Finding, ...]:
        """What stops a deployment."""
        return tuple(one for one in self.findings if one.weight == "refusal")

    @property
    def dangers(self) -> tuple[Finding, ...]:
        """What an operator must weigh before a deployment, refusals not among them."""
        return tuple(one for one in self.findings if one.weight == "danger")

    def changes_of(self, release: str | None) -> tuple[ObjectChange, ...]:
        """The changes that a release brings, or tidehub itself with None."""
        return tuple(one for one in self.changes if one.release == release)

    def release(self, name: str) -> ReleaseChange:
        """The release of this name. Raises `KeyError`."""
        for one in self.releases:
            if one.name == name:
                return one
        raise KeyError(name)
