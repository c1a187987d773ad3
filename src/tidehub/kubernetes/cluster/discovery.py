"""Which kinds a server serves, and where: aggregated discovery in two requests, one per group version on old servers.

https://kubernetes.io/docs/concepts/overview/kubernetes-api/#aggregated-discovery
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

from tidehub.kubernetes.cluster.port import ClusterProblem, ServedKind
from tidehub.kubernetes.cluster.transport import Transport

_AGGREGATED = (
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
)


class Discovery:
    """The kinds of one server: all of them on request, single ones as they are needed."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._lock = threading.Lock()
        self._all: tuple[ServedKind, ...] | None = None
        self._known: dict[tuple[str, str], ServedKind] = {}

    def served(self) -> tuple[ServedKind, ...]:
        """Every kind; read once until `forget`."""
        with self._lock:
            if self._all is None:
                self._all = tuple(self._read_all())
                self._known |= {(kind.api_version, kind.kind): kind for kind in self._all}
            return self._all

    def forget(self) -> None:
        """CRDs have changed: what is asked next is read anew."""
        with self._lock:
            self._all = None
            self._known.clear()

    def kind(self, api_version: str, kind: str) -> ServedKind | None:
        """One kind; where it is not known yet, the server is asked again about its group version."""
        found = self._known.get((api_version, kind))
        if found is not None:
            return found
        for one in self._group_version(api_version):
            self._known[(api_version, one.kind)] = one
        return self._known.get((api_version, kind))

    def _read_all(self) -> list[ServedKind]:
        found: list[ServedKind] = []
        for root in ("/api", "/apis"):
            answer = self._transport.request(
                "GET", root, doing="ask which kinds are served", accept=_AGGREGATED, repeat="always"
            )
            if answer.get("kind") == "APIGroupDiscoveryList":
                found += _aggregated(answer)
                continue
            versions = _group_versions(answer)
            with ThreadPoolExecutor(8) as pool:
                for kinds in pool.map(self._group_version, versions):
                    found += kinds
        return sorted(set(found), key=lambda one: (one.api_version, one.kind, one.plural))

    def _group_version(self, api_version: str) -> list[ServedKind]:
        try:
            answer = self._transport.request(
                "GET", root_of(api_version), doing=f"ask which kinds {api_version} has", repeat="always"
            )
        except ClusterProblem as problem:
            # 503: the group's own server is down; its kinds are then not served, as kubectl has it too.
            if problem.reason == "not-found" or problem.status == 503:
                return []
            raise
        return [
            ServedKind(
                api_version,
                str(entry["kind"]),
                str(entry["name"]),
                bool(entry.get("namespaced")),
                tuple(entry.get("verbs") or ()),
            )
            for entry in answer.get("resources") or []
            if "/" not in str(entry.get("name"))
        ]


def root_of(api_version: str) -> str:
    """`/api/v1` or `/apis/apps/v1`."""
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def path_of(
    kind: ServedKind, namespace: str | None, name: str | None = None, subresource: str | None = None
) -> str:
    """Where objects of a kind are, each part quoted."""
    parts = [root_of(kind.api_version)]
    if kind.namespaced and namespace:
        parts += ["namespaces", quote(namespace, safe="")]
    parts.append(kind.plural)
    if name:
        parts.append(quote(name, safe=""))
    if subresource:
        parts.append(subresource)
    return "/".join(parts)


def api_versions(kinds: Iterable[ServedKind]) -> tuple[str, ...]:
    """`apps/v1` and `apps/v1/Deployment` of every kind, sorted: what Helm calls API versions."""
    return tuple(
        sorted({text for one in kinds for text in (one.api_version, f"{one.api_version}/{one.kind}")})
    )


def _group_versions(answer: Mapping[str, Any]) -> list[str]:
    if answer.get("kind") == "APIVersions":
        return [str(version) for version in answer.get("versions") or []]
    return [
        str(version["groupVersion"])
        for group in answer.get("groups") or []
        for version in group.get("versions") or []
    ]


def _aggregated(answer: Mapping[str, Any]) -> list[ServedKind]:
    found = []
    for group in answer.get("items") or []:
        name = (group.get("metadata") or {}).get("name") or ""
        for version in group.get("versions") or []:
            if version.get("freshness") == "Stale" and not version.get("resources"):
                continue
            api_version = f"{name}/{version['version']}" if name else str(version["version"])
            for entry in version.get("resources") or []:
                kind = (entry.get("responseKind") or {}).get("kind")
                if kind:
                    found.append(
                        ServedKind(
                            api_version,
                            str(kind),
                            str(entry["resource"]),
                            entry.get("scope") == "Namespaced",
                            tuple(entry.get("verbs") or ()),
                        )
                    )
    return found
