"""Where a field is in an object, and how lists of Kubernetes are matched. Pure.

A part of a path is a key of a mapping (`str`), a place in a list (`int`), or an `Entry`: the element of a list whose
merge key has this value, as in `spec.template.spec.containers[hub].image`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Entry:
    """An element of a list, known by the values of its merge key."""

    key: tuple[Any, ...]

    def __str__(self) -> str:
        return "/".join(str(part) for part in self.key)


Part = str | int | Entry
Path = tuple[Part, ...]

MERGE_KEYS: Mapping[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "ephemeralContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "imagePullSecrets": ("name",),
    "hostAliases": ("ip",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "resourceClaims": ("name",),
    "ownerReferences": ("uid",),
    "conditions": ("type",),
    "secrets": ("name",),
    "webhooks": ("name",),
}
"""Lists that the API server merges by a key, by the name of their field: `x-kubernetes-list-map-keys` and
`x-kubernetes-patch-merge-key` in the OpenAPI document of kube-apiserver 1.34. `ports` is in `merge_key`."""
SHOWN_BY: Mapping[str, tuple[str, ...]] = {
    "versions": ("name",),
    "subjects": ("kind", "name"),
    "parentRefs": ("name",),
    "additionalPrinterColumns": ("name",),
    "volumeClaimTemplates": ("metadata.name",),
    "services": ("name",),
    "middlewares": ("name",),
}
"""Lists that the server replaces whole; readers know their elements by these fields all the same."""
_PLAIN = re.compile(r"[A-Za-z0-9_-]+")


def merge_key(path: Path, *lists: Sequence[Any], shown: bool = False) -> tuple[str, ...] | None:
    """The fields that tell the elements of the list at `path` apart; None for a list that is replaced whole.

    None, too, where an element lacks them or two have the same: such a list cannot be matched by them. With `shown`
    lists are matched for reading, not for merging.
    """
    name = path[-1] if path else ""
    if not isinstance(name, str):
        return None
    if name == "ports":
        # A port without its protocol is one of TCP.
        number = "containerPort" if any(map(_has_container_port, lists)) else "port"
        fields: tuple[str, ...] | None = (number, "protocol")
    else:
        fields = MERGE_KEYS.get(name) or (SHOWN_BY.get(name) if shown else None)
    if fields is None or not all(_matchable(items, fields) for items in lists):
        return None
    return fields


def entry_of(item: Any, fields: tuple[str, ...]) -> Entry | None:
    """What the element of a list is known by; None where it lacks a field."""
    if not isinstance(item, Mapping):
        return None
    key: list[Any] = []
    for field in fields:
        value: Any = item
        for step in field.split("."):
            value = value.get(step) if isinstance(value, Mapping) else None
        if value is None and field == "protocol":
            value = "TCP"
        if value is None or isinstance(value, Mapping | list):
            return None
        key.append(value)
    return Entry(tuple(key))


def write(path: Path) -> str:
    """A path as it is written: `spec.template.spec.containers[hub].image`, `data."values.yaml"`."""
    text = ""
    for part in path:
        if isinstance(part, str):
            name = part if _PLAIN.fullmatch(part) else f'"{part}"'
            text += f".{name}" if text else name
        elif isinstance(part, Entry):
            text += f"[{_entry_words(part)}]"
        else:
            text += f"[{part}]"
    return text


def _entry_words(entry: Entry) -> str:
    words = [str(part) for part in entry.key]
    if len(words) == 2 and words[1] == "TCP":
        words.pop()
    return "/".join(words)


def _has_container_port(items: Sequence[Any]) -> bool:
    return any(isinstance(item, Mapping) and "containerPort" in item for item in items)


def _matchable(items: Sequence[Any], fields: tuple[str, ...]) -> bool:
    keys = [entry_of(item, fields) for item in items]
    return None not in keys and len(set(keys)) == len(keys)
