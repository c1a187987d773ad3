"""What an observation comes to: the change of an object, and the drift in it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from tidehub.kubernetes.objects import Object
from tidehub.kubernetes.planning.diff import FieldChange
from tidehub.kubernetes.planning.drift import added_by_hand, cause_of, managers_of
from tidehub.kubernetes.planning.facts import hub_values
from tidehub.kubernetes.planning.model import Cause, Drift, ObjectChange, PlannedField
from tidehub.kubernetes.planning.observe import Observation
from tidehub.kubernetes.planning.rules_restarts import WORKLOADS, part_of, reason, template_changes
from tidehub.kubernetes.planning.subjects import is_kept

SETTINGS_SHOWN = 12
"""Names of settings in words."""
_NOT_SETTINGS = ("Chart", "Release", "Template")
"""What Helm puts beside the values."""
_SCHEMA = 4
"""Length of the path `spec.versions[x].schema`."""


def object_change(one: Observation) -> ObjectChange | None:
    """What would happen to the object; None where nothing would, or where it is not for us to touch."""
    subject = one.subject
    if one.foreign or one.unserved or one.unread:
        return None
    made = ObjectChange(subject.id, subject.part, "same", subject.release)
    if subject.new is None:
        if one.live is None:
            return None
        stays = subject.part == "release" and (subject.protected or is_kept(one.live))
        return replace(made, action="keep" if stays else "remove")
    if one.live is None:
        words = ("somebody deleted it since the last deployment",) if subject.last is not None else ()
        # Nothing says that it is gone where the server could not be asked.
        return replace(made, action="add", summary=() if one.untried else words)
    if not one.changes:
        return None
    fields, summary = one.changes, _summary(one)
    if subject.part == "crd":
        fields, schemas = _without_schemas(one.changes)
        summary = (*summary, *schemas)
    causes = causes_of(one)
    return replace(
        made,
        action="change",
        fields=tuple(PlannedField(change, causes[change.path]) for change in fields),
        summary=summary,
    )


def causes_of(one: Observation) -> dict[tuple[object, ...], Cause]:
    """By path, why a field of the observation would change."""
    assert one.subject.new is not None
    last = one.subject.last
    return {change.path: cause_of(change, last, one.subject.new) for change in one.changes}


def drifts(one: Observation) -> Iterator[Drift]:
    """What somebody changed past the last release."""
    subject = one.subject
    if subject.release is None or subject.new is None or subject.last is None or one.foreign or one.unread:
        return
    if one.live is None:
        if not one.untried and not one.unserved:
            yield Drift(subject.id, subject.release, None)
        return
    causes = causes_of(one)
    for change in one.changes:
        if causes[change.path] == "drift":
            managers = managers_of(one.live, change.path)
            yield Drift(subject.id, subject.release, _since(change), managers)
    for change, managers in added_by_hand(one.live, subject.new):
        if all(change.path[: len(other.path)] != other.path for other in one.changes):
            yield Drift(subject.id, subject.release, change, managers, reset=False)


def _since(change: FieldChange) -> FieldChange:
    """The way back of a change: from what the release has to what the cluster has."""
    kind = {"added": "removed", "removed": "added"}.get(change.kind, change.kind)
    return FieldChange(change.path, kind, change.new, change.old)  # type: ignore[arg-type]


def _summary(one: Observation) -> tuple[str, ...]:
    if one.subject.id.kind == "Secret" and one.changes:
        return _settings(one)
    if one.subject.id.kind not in WORKLOADS or not (changes := template_changes(one.changes)):
        return ()
    return (f"{part_of(one)[0]} restarts because {reason(changes)}",)


def _settings(one: Observation) -> tuple[str, ...]:
    """Which of the hub's settings change, by their names: the values are secrets, the names are not."""
    before, after = hub_values([one.live]), hub_values([one.subject.new])
    if before is None or after is None:
        return ()
    keys = [key for key in _differing(before.values, after.values) if key.split(".")[0] not in _NOT_SETTINGS]
    more = f" and {len(keys) - SETTINGS_SHOWN} more" if len(keys) > SETTINGS_SHOWN else ""
    return (f"changes {', '.join(keys[:SETTINGS_SHOWN])}{more}",) if keys else ()


def _differing(old: Any, new: Any, path: str = "") -> Iterator[str]:
    if old == new:
        return
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        yield path
        return
    for key in dict.fromkeys((*old, *new)):
        yield from _differing(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))


def _without_schemas(changes: tuple[FieldChange, ...]) -> tuple[tuple[FieldChange, ...], tuple[str, ...]]:
    """A CRD's changes without those of its schemas, of which there are thousands: they are counted."""
    counts: dict[str, int] = {}
    rest = []
    for change in changes:
        if change.path[:2] == ("spec", "versions") and change.path[3:_SCHEMA] == ("schema",):
            counts[str(change.path[2])] = counts.get(str(change.path[2]), 0) + 1
        elif change.path[:2] == ("spec", "versions") and len(change.path) == 3:
            # A whole version: its schema is most of it.
            shown = {"added": "is new", "removed": "is gone"}.get(change.kind, change.kind)
            counts.setdefault(f"{change.path[2]} {shown}", 0)
        else:
            rest.append(change)
    words = tuple(
        f"version {version}: {count} {'field' if count == 1 else 'fields'} of its schema change"
        if count
        else f"version {version}"
        for version, count in counts.items()
    )
    return tuple(rest), words


def objects_of(one: Observation) -> Iterator[Object]:
    """Every form in which the observation has its object."""
    for obj in (one.subject.new, one.subject.last, one.live):
        if obj is not None:
            yield obj
