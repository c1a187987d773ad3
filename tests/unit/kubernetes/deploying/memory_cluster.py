"""A cluster in memory: as much of one as the unit tests of deploying ask for."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

from tidehub.kubernetes.cluster.port import ClusterProblem, ServedKind

Object = dict[str, Any]
Key = tuple[str, str, str, str]


class MemoryCluster:
    """Objects by kind, namespace and name, with resource versions; every write is remembered."""

    name = "memory"
    kubeconfig = None
    context = None

    def __init__(self) -> None:
        self.objects: dict[Key, Object] = {}
        self.writes: list[str] = []
        self.before: Callable[[str, str], None] = lambda verb, kind: None
        self.kinds: tuple[ServedKind, ...] = ()
        self._version = 0

    def get(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> Object | None:
        self.before("get", kind)
        return copy.deepcopy(self.objects.get((api_version, kind, namespace or "", name)))

    def find(
        self, api_version: str, kind: str, namespace: str | None = None, *, labels: Any = "", fields: str = ""
    ) -> list[Object]:
        self.before("find", kind)
        wanted = _selector(str(labels))
        return [
            copy.deepcopy(obj)
            for (version, one, where, _), obj in self.objects.items()
            if (version, one) == (api_version, kind)
            and namespace in (None, where)
            and all(test(obj["metadata"].get("labels") or {}) for test in wanted)
        ]

    def create(self, obj: Object, namespace: str | None = None, *, dry_run: bool = False) -> Object:
        key = self._key(obj, namespace)
        self.before("create", obj["kind"])
        if key in self.objects:
            raise ClusterProblem("it is there already", reason="conflict", status=409)
        return self._store("create", key, obj)

    def replace(self, obj: Object, namespace: str | None = None, *, dry_run: bool = False) -> Object:
        key = self._key(obj, namespace)
        self.before("replace", obj["kind"])
        if key not in self.objects:
            raise ClusterProblem("it is not there", reason="not-found", status=404)
        given = obj["metadata"].get("resourceVersion")
        if given and given != self.objects[key]["metadata"]["resourceVersion"]:
            raise ClusterProblem("somebody changed it", reason="conflict", status=409)
        return self._store("replace", key, obj)

    def apply(
        self, obj: Object, namespace: str | None = None, *, dry_run: bool = False, force: bool = False
    ) -> Object:
        self.before("apply", obj["kind"])
        if dry_run:
            return copy.deepcopy(obj)
        return self._store("apply", self._key(obj, namespace), obj)

    def patch(
        self, api_version: str, kind: str, name: str, patch: Object, namespace: str | None = None, **_: Any
    ) -> Object:
        key = (api_version, kind, namespace or "", name)
        self.before("patch", kind)
        merged = _merged(self.objects[key], patch)
        return self._store("patch", key, merged)

    def delete(self, api_version: str, kind: str, name: str, namespace: str | None = None, **_: Any) -> bool:
        self.before("delete", kind)
        self.writes.append(f"delete {kind} {name}")
        return self.objects.pop((api_version, kind, namespace or "", name), None) is not None

    def served(self) -> tuple[ServedKind, ...]:
        return self.kinds

    def _key(self, obj: Object, namespace: str | None) -> Key:
        meta = obj["metadata"]
        return obj["apiVersion"], obj["kind"], namespace or meta.get("namespace") or "", meta["name"]

    def _store(self, verb: str, key: Key, obj: Object) -> Object:
        self._version += 1
        stored = copy.deepcopy(obj)
        stored["metadata"]["resourceVersion"] = str(self._version)
        self.objects[key] = stored
        self.writes.append(f"{verb} {key[1]} {key[3]}")
        return copy.deepcopy(stored)


def _selector(text: str) -> list[Callable[[dict[str, str]], bool]]:
    """`a=b` and `a notin (b,c)`, as in https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/."""
    tests: list[Callable[[dict[str, str]], bool]] = []
    for key, values in re.findall(r"([^,=\s]+) notin \(([^)]*)\)", text):
        tests.append(lambda labels, key=key, values=values: labels.get(key) not in values.split(","))
    for key, value in re.findall(r"([^,=\s]+)=([^,]+)", text):
        tests.append(lambda labels, key=key, value=value: labels.get(key) == value)
    return tests


def _merged(into: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    found = dict(into) if isinstance(into, dict) else {}
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = _merged(found.get(key), value)
    return found
