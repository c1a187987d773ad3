"""A plan as text, line by line, and as JSON. Pure."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tidehub.kubernetes.objects import ObjectId
from tidehub.kubernetes.planning.diff import FieldChange
from tidehub.kubernetes.planning.model import (
    Action,
    Drift,
    Finding,
    ObjectChange,
    Plan,
    PlannedField,
    ReleaseChange,
    Weight,
)
from tidehub.kubernetes.planning.paths import Entry
from tidehub.kubernetes.planning.rules_restarts import is_checksum
from tidehub.secrets.secret import REDACTED

FIELDS_SHOWN = 20
"""Fields of one object in words; `--json` has them all."""
TEXT_LINES = 12
"""Lines that are shown of a text that changes, for example of a configuration file."""
_WIDTH = 90
"""Characters shown of a value."""
_LEAD = 20
"""Characters shown before the first difference of two long values."""
_LABELS = re.compile(
    r"chart|heritage|release|helm\.sh/chart"
    r"|app\.kubernetes\.io/(?:name|instance|version|component|part-of|managed-by)"
)
_SIGNS: Mapping[Action, str] = {"add": "+", "change": "~", "remove": "-", "keep": "=", "same": " "}
_WEIGHTS: Mapping[Weight, str] = {"refusal": "STOP", "danger": "DANGER", "notice": "note"}
_NAMES = ("added", "changed", "removed", "left behind")


def lines(plan: Plan) -> list[str]:
    """The whole plan; the gravest first, then release by release."""
    return list(_lines(plan))


def summary(plan: Plan) -> str:
    """One sentence: how much would change."""
    counts = plan.counts
    told = [f"{count} {name}" for count, name in zip(counts.values(), _NAMES, strict=True) if count]
    stays = "1 object stays as it is" if plan.same == 1 else f"{plan.same} objects stay as they are"
    if not told:
        return f"Nothing would change: {stays}."
    first, *rest = told
    number, name = first.split(" ", 1)
    noun = "object" if number == "1" else "objects"
    return f"{', '.join([f'{number} {noun} {name}', *rest])}; {stays}."


def _lines(plan: Plan) -> Iterator[str]:
    yield f"{plan.site} in the namespace {plan.namespace} of {plan.cluster} ({_model(plan)})"
    if plan.empty:
        yield "Nothing would change."
    else:
        yield summary(plan)
    if plan.findings:
        yield ""
        for finding in plan.findings:
            yield from _finding(finding)
    apart = [one for one in plan.changes if one.release is None]
    if apart:
        yield ""
        yield "Before the releases"
        yield from _changes(apart)
    for release in plan.releases:
        changes = plan.changes_of(release.name)
        if release.action != "same" or changes:
            yield ""
            yield _release(release, changed=bool(changes))
            yield from _changes(changes)
            if release.hooks and release.action != "same":
                yield f"  Helm runs around it: {_listed(release.hooks)}"
    if plan.drift:
        yield ""
        yield "Changed in the cluster since the last deployment"
        yield from (f"  {line}" for drift in plan.drift for line in _drift(drift))


def _model(plan: Plan) -> str:
    return "one daskhub release" if plan.model == "daskhub" else "split releases"


def _finding(finding: Finding) -> Iterator[str]:
    sign = _WEIGHTS[finding.weight]
    yield f"{sign:<7}{finding.what}"
    if finding.means:
        yield f"       {finding.means}"
    if finding.fix:
        yield f"       to do: {finding.fix}"


def _release(release: ReleaseChange, *, changed: bool) -> str:
    new = f"{release.chart} {release.version}"
    old = f"{release.old_chart} {release.old_version}"
    match release.action:
        case "install":
            return f"{release.name}: {new} would be installed"
        case "remove":
            return f"{release.name}: {old} would be uninstalled: the site has no such release any more"
        case "finish":
            return f"{release.name}: {new} over revision {release.revision}, which is {release.status}"
        case "upgrade" if old == new and not changed:
            return (
                f"{release.name}: {new}, revision {release.revision} now: other values, and no object differs"
            )
        case "upgrade" if old != new:
            return f"{release.name}: {old} would become {new} (revision {release.revision} now)"
        case _:
            return f"{release.name}: {new}, revision {release.revision} now"


def _changes(changes: Iterable[ObjectChange]) -> Iterator[str]:
    labelled = [
        one
        for one in changes
        if one.action == "change" and one.fields and all(_is_label(field.change) for field in one.fields)
    ]
    for one in changes:
        if one in labelled:
            continue
        said = f": {'; '.join(one.summary)}" if one.summary else ""
        kept = " (leaves the release and stays in the cluster)" if one.action == "keep" else ""
        yield f"  {_SIGNS[one.action]} {one.id}{_elsewhere(one.id)}{kept}{said}"
        # A checksum is other for something that is told elsewhere; what it means is in the summary.
        fields = [
            field for field in one.fields if not is_checksum(field.change) and not _is_label(field.change)
        ]
        for field in fields[:FIELDS_SHOWN]:
            yield from (f"      {line}" for line in _field(field))
        if len(fields) > FIELDS_SHOWN:
            yield f"      and {len(fields) - FIELDS_SHOWN} more fields (--json shows all)"
    if labelled:
        yield f"  ~ only the chart's own labels: {_listed(one.id for one in labelled)}"


def _is_label(change: FieldChange) -> bool:
    """Whether it is one of the labels that charts put on everything, such as the chart's version."""
    return change.path[:2] == ("metadata", "labels") and _LABELS.fullmatch(str(change.path[-1])) is not None


def _elsewhere(id: ObjectId) -> str:
    return f" ({id.api_version})" if "." in id.group and not id.group.endswith(".k8s.io") else ""


def _field(field: PlannedField) -> Iterator[str]:
    why = {"site": "", "drift": "  (changed in the cluster)", "server": "  (filled in by the server)"}[
        field.cause
    ]
    change = field.change
    if _is_text(change):
        yield f"{change.where}: {_text_words(change)}{why}"
        yield from (f"  {line}" for line in _text_lines(str(change.old), str(change.new)))
    else:
        yield f"{change.where}: {_words(change)}{why}"


def _words(change: FieldChange) -> str:
    match change.kind:
        case "added":
            return f"added, {_value(change.new)}"
        case "removed":
            return f"removed, was {_value(change.old)}"
        case "reordered":
            return f"in another order: {', '.join(str(entry) for entry in change.new)}"
    if change.old == change.new == REDACTED:
        return f"changes {REDACTED}"
    old, new = _whole(change.old), _whole(change.new)
    if max(len(old), len(new)) <= _WIDTH:
        return f"{old} -> {new}"
    # Cut alike, two long values that differ at their ends would look the same.
    alike = next((at for at, (one, other) in enumerate(zip(old, new, strict=False)) if one != other), _WIDTH)
    start = max(0, alike - _LEAD)
    return " -> ".join(_cut(f"…{each[start:]}" if start else each) for each in (old, new))


def _value(value: Any) -> str:
    return _cut(_whole(value))


def _whole(value: Any) -> str:
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False, default=str)
    return text.replace("\n", "\\n")


def _cut(text: str) -> str:
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"


def _is_text(change: FieldChange) -> bool:
    both = (change.old, change.new)
    return (
        change.kind == "changed"
        and all(isinstance(each, str) for each in both)
        and "\n" in f"{both[0]}{both[1]}"
    )


def _text_words(change: FieldChange) -> str:
    pairs = list(difflib.ndiff(str(change.old).splitlines(), str(change.new).splitlines()))
    new, gone = (sum(line.startswith(sign) for line in pairs) for sign in "+-")
    return f"{gone} of its lines removed, {new} added"


def _text_lines(old: str, new: str) -> Iterator[str]:
    differing = [
        line
        for line in difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=0)
        if not line.startswith(("---", "+++", "@@"))
    ]
    for line in differing[:TEXT_LINES]:
        yield line if len(line) <= _WIDTH else f"{line[: _WIDTH - 1]}…"
    if len(differing) > TEXT_LINES:
        yield f"and {len(differing) - TEXT_LINES} more lines (--json shows all)"


def _drift(drift: Drift) -> Iterator[str]:
    change = drift.change
    if change is None:
        yield f"{drift.id} is gone; a deployment makes it again"
        return
    who = f", by {', '.join(drift.managers)}" if drift.managers else ""
    after = "a deployment puts it back" if drift.reset else "a deployment leaves it so"
    match change.kind:
        case "added":
            what = f"was added ({_value(change.new)})"
        case "removed":
            what = f"was removed (it was {_value(change.old)})"
        case "reordered":
            what = "was put into another order"
        case _:
            what = f"is {_value(change.new)} instead of {_value(change.old)}"
    yield f"{drift.id}: {change.where} {what}{who}; {after}"


def _listed(ids: Iterable[ObjectId]) -> str:
    return ", ".join(dict.fromkeys(str(id) for id in ids))


def to_json(plan: Plan) -> dict[str, Any]:
    """The whole plan for programs."""
    return {
        "site": plan.site,
        "cluster": plan.cluster,
        "namespace": plan.namespace,
        "model": plan.model,
        "empty": plan.empty,
        "counts": {**plan.counts, "same": plan.same},
        "findings": [
            {
                "kind": one.kind,
                "weight": one.weight,
                "what": one.what,
                "means": one.means,
                "fix": one.fix,
                "objects": [_id(id) for id in one.objects],
            }
            for one in plan.findings
        ],
        "releases": [
            {
                "name": one.name,
                "action": one.action,
                "chart": one.chart,
                "version": one.version,
                "old_chart": one.old_chart,
                "old_version": one.old_version,
                "revision": one.revision,
                "status": one.status,
                "hooks": [_id(id) for id in one.hooks],
            }
            for one in plan.releases
        ],
        "changes": [
            {
                **_id(one.id),
                "part": one.part,
                "release": one.release,
                "action": one.action,
                "summary": list(one.summary),
                "fields": [{**_change(field.change), "cause": field.cause} for field in one.fields],
            }
            for one in plan.changes
        ],
        "drift": [
            {
                **_id(one.id),
                "release": one.release,
                "field": None if one.change is None else _change(one.change),
                "managers": list(one.managers),
                "reset": one.reset,
            }
            for one in plan.drift
        ],
    }


def _id(id: ObjectId) -> dict[str, Any]:
    return {"api_version": id.api_version, "kind": id.kind, "namespace": id.namespace, "name": id.name}


def _change(change: FieldChange) -> dict[str, Any]:
    return {"path": change.where, "kind": change.kind, "old": _plain(change.old), "new": _plain(change.new)}


def _plain(value: Any) -> Any:
    if isinstance(value, Entry):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)
