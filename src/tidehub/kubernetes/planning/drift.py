"""What somebody changed in the cluster past the releases, and who, by the server's books (managedFields). Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tidehub.kubernetes.objects import Object
from tidehub.kubernetes.planning.diff import FieldChange, compare
from tidehub.kubernetes.planning.model import Cause
from tidehub.kubernetes.planning.normal import normal
from tidehub.kubernetes.planning.paths import Entry, Path, entry_of, merge_key

_MACHINES = re.compile(
    r"kube-(controller-manager|scheduler|apiserver)|kubelet|cloud-controller-manager"
    r"|.*(controller|provisioner|operator|ingress-shim|csi|cainjector)\b.*|cert-manager\S*|traefik|coredns"
)
"""Managers that do their work in objects that others own: a PVC's volume, an ingress's address."""
_OURS = frozenset({"helm", "tidehub"})


def cause_of(change: FieldChange, last: Object | None, new: Object) -> Cause:
    """Why a field would change: the render did, or somebody changed what the render still says, or the server."""
    if last is None:
        return "site"
    before, after = normal(last), normal(new)
    if any(_overlap(change.path, other.path) for other in compare(before, after)):
        return "site"
    return "drift" if _reaches(change.path, after) else "server"


def managers_of(live: Object, path: Path) -> tuple[str, ...]:
    """Who wrote the field at `path` of a live object, each once; Helm and tidehub only where nobody else did."""
    found = [name for name, fields in _managers(live) if _owns(fields, path)]
    others = [name for name in found if name not in _OURS]
    return tuple(dict.fromkeys(others or found))


def added_by_hand(live: Object, new: Object) -> Iterator[tuple[FieldChange, tuple[str, ...]]]:
    """Fields of a live object that somebody wrote and the render does not mention: they stay in a deployment."""
    now, wanted = normal(live), normal(new)
    for change in compare(wanted, now):
        if change.kind != "added" or change.path[0] not in ("spec", "data", "rules", "metadata"):
            continue
        if change.path[0] == "metadata" and change.path[1:2] not in (("labels",), ("annotations",)):
            continue
        who = tuple(
            dict.fromkeys(
                name
                for name, fields in _managers(live)
                if name not in _OURS and not _MACHINES.fullmatch(name) and _owns(fields, change.path)
            )
        )
        if who:
            yield change, who


def _managers(live: Object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for entry in (live.get("metadata") or {}).get("managedFields") or []:
        if entry.get("subresource") != "status":
            yield str(entry.get("manager") or "somebody"), entry.get("fieldsV1") or {}


def _owns(fields: Mapping[str, Any], path: Path) -> bool:
    """Whether a manager's set of fields holds the one at `path`, or one above or below it."""
    here: Mapping[str, Any] = fields
    for part in path:
        inner = _step(here, part)
        if inner is None:
            # A list that is owned whole ends the books: what is inside of it belongs to who has the list.
            return here is not fields and not any(key != "." for key in here)
        here = inner
    return True


def _step(fields: Mapping[str, Any], part: Any) -> Mapping[str, Any] | None:
    if isinstance(part, str):
        found = fields.get(f"f:{part}")
        return found if isinstance(found, Mapping) else None
    if isinstance(part, int):
        found = fields.get(f"i:{part}")
        return found if isinstance(found, Mapping) else None
    assert isinstance(part, Entry)
    for key, inner in fields.items():
        if key.startswith("k:") and isinstance(inner, Mapping):
            try:
                named = json.loads(key[2:])
            except ValueError:
                continue
            if isinstance(named, Mapping) and set(map(str, part.key)) <= set(map(str, named.values())):
                return inner
    return None


def _overlap(one: Path, other: Path) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def _reaches(path: Path, obj: Any) -> bool:
    """Whether an object says anything at `path` (or, for a list that it has whole, around it)."""
    here = obj
    for place, part in enumerate(path):
        if isinstance(part, str):
            if not isinstance(here, Mapping) or part not in here:
                return False
            here = here[part]
        elif isinstance(part, int):
            if not isinstance(here, list) or part >= len(here):
                return False
            here = here[part]
        else:
            found = _entry(here, path[:place], part)
            if found is None:
                return False
            here = found
    return True


def _entry(items: Any, path: Path, entry: Entry) -> Any:
    fields = merge_key(path, items, shown=True) if isinstance(items, list) else None
    return next((item for item in _each(items) if fields and entry_of(item, fields) == entry), None)


def _each(items: Any) -> Iterable[Any]:
    return items if isinstance(items, list) else ()
