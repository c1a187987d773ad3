"""What Helm would make of a live object: the last release's manifest, the new one, and the object as it is. Pure.

Helm 3 sends a three-way merge; Helm 4 applies on the server with Helm's own fields taken over from the last time. Both
come to the same: fields of the new manifest are set, fields that only the last one had are removed, all others stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from tidehub.kubernetes.objects import Object
from tidehub.kubernetes.planning.paths import Path, entry_of, merge_key

BUILT_IN = frozenset(
    {
        "", "admissionregistration.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io", "apps", "autoscaling",
        "batch", "certificates.k8s.io", "coordination.k8s.io", "discovery.k8s.io", "events.k8s.io",
        "flowcontrol.apiserver.k8s.io", "networking.k8s.io", "node.k8s.io", "policy", "rbac.authorization.k8s.io",
        "scheduling.k8s.io", "storage.k8s.io",
    }
)  # fmt: skip
"""API groups of the server itself: only their lists are merged by keys, those of custom resources are replaced."""


def merged(last: Object | None, live: Object, new: Object) -> Object:
    """What `live` becomes. All three are in the form of `normal.normal`; without `last` nothing is removed."""
    group = str(new.get("apiVersion", "")).rpartition("/")[0]
    if last is not None and last.get("apiVersion") != new.get("apiVersion"):
        # Another version of the kind writes the same fields elsewhere: what it had says nothing about this one.
        last = None
    result = _merged(last, live, new, (), keyed=group in BUILT_IN)
    assert isinstance(result, dict)
    return result


def merge_patch(old: Any, new: Any) -> dict[str, Any]:
    """The JSON merge patch (RFC 7386) that makes `new` of `old`; empty where they are the same."""
    patch: dict[str, Any] = {}
    for key in sorted({*old, *new}, key=str):
        if key not in new:
            patch[key] = None
        elif key not in old:
            patch[key] = deepcopy(new[key])
        elif isinstance(old[key], Mapping) and isinstance(new[key], Mapping):
            if inner := merge_patch(old[key], new[key]):
                patch[key] = inner
        elif old[key] != new[key]:
            patch[key] = deepcopy(new[key])
    return patch


def _merged(last: Any, live: Any, new: Any, path: Path, *, keyed: bool) -> Any:
    if isinstance(new, Mapping) and isinstance(live, Mapping):
        before = last if isinstance(last, Mapping) else {}
        result = {key: value for key, value in live.items() if key in new or key not in before}
        for key, value in new.items():
            here = (*path, key)
            result[key] = (
                _merged(before.get(key), live[key], value, here, keyed=keyed)
                if key in live
                else deepcopy(value)
            )
        return result
    if keyed and isinstance(new, list) and isinstance(live, list):
        before_items = last if isinstance(last, list) else []
        fields = merge_key(path, new, live, before_items)
        if fields is not None:
            return _merged_lists(before_items, live, new, path, fields)
    return deepcopy(new)


def _merged_lists(
    last: Sequence[Any], live: Sequence[Any], new: Sequence[Any], path: Path, fields: tuple[str, ...]
) -> list[Any]:
    before = {entry_of(item, fields): item for item in last}
    now = {entry_of(item, fields): item for item in live}
    wanted = {entry_of(item, fields): item for item in new}
    result = []
    for entry, item in wanted.items():
        assert entry is not None
        here = (*path, entry)
        result.append(
            _merged(before.get(entry), now[entry], item, here, keyed=True) if entry in now else deepcopy(item)
        )
    # What somebody else put there stays, behind what the chart lists.
    result += [deepcopy(item) for entry, item in now.items() if entry not in wanted and entry not in before]
    return result
