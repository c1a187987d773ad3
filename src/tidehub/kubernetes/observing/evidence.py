"""Why a user's path breaks on a cluster: pods with their events, clusters nobody takes up, and what the logs say."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterable, Iterator, Sequence

from tidehub.checks.log_lines import that_matter
from tidehub.kubernetes.cluster.port import Cluster, ClusterProblem
from tidehub.kubernetes.deploying.observed import Observed, meta_of, name_of
from tidehub.kubernetes.deploying.observing import log_tail
from tidehub.kubernetes.objects import DASK_CLUSTERS, SERVER, USERNAME, Object
from tidehub.kubernetes.observing.logs import Source, last_lines, sources
from tidehub.kubernetes.observing.people import (
    CLUSTER,
    OPERATED,
    clusters,
    trouble_of,
    words_of,
)

_LINES = 2000
"""Lines read of one log."""
_LOGS = 12
"""Logs read for one failure."""


class ClusterLogs:
    """What the cluster says of a check that began now, as `checks.target.Logs`."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._began = time.monotonic()

    def matter(self, parts: Iterable[str], words: Iterable[str]) -> list[str]:
        """Of these parts (`hub`, `servers`, `clusters`, ...), what hinders pods of `words`, and lines with faults."""
        wanted, given = tuple(parts), tuple(words)
        try:
            return [*self._hindered(wanted, given), *self._lines(wanted, given)]
        except ClusterProblem as problem:
            return [f"(the cluster does not tell more: {problem.what})"]

    def _hindered(self, parts: Sequence[str], words: Sequence[str]) -> Iterator[str]:
        namespace, now = self._namespace, datetime.datetime.now(datetime.UTC)
        seen = Observed(
            pods=tuple(self._cluster.find("v1", "Pod", namespace)),
            pvcs=tuple(self._cluster.find("v1", "PersistentVolumeClaim", namespace)),
            events=tuple(self._readable("v1", "Event")),
        )
        for pod in seen.pods:
            trouble = trouble_of(pod, seen, now) if _concerns(pod, parts, words) else None
            if trouble is None:
                continue
            yield f"{name_of(pod)}: {words_of(trouble)}"
            if trouble.log is not None:
                yield from (
                    f"{name_of(pod)}: {line}" for line in log_tail(self._cluster, namespace, trouble.log)
                )
        if {"clusters", "gateway"} & set(parts):
            dask = [obj for kind in DASK_CLUSTERS for obj in self._readable(*kind)]
            for one in clusters(dask, seen, now):
                mine = one["cluster"] in words or one["user"] in words or _bare(words) & {one["cluster"]}
                if one["why"] and (mine or one["user"] is None):
                    yield f"cluster {one['cluster']} of {one['user'] or 'nobody known'}: {one['why']}"

    def _lines(self, parts: Sequence[str], words: Sequence[str]) -> Iterator[str]:
        chosen = [one for one in sources(self._cluster, self._namespace) if _is_asked(one, parts, words)]
        for source in chosen[:_LOGS]:
            lines = last_lines(
                self._cluster, self._namespace, source, _LINES, seconds=time.monotonic() - self._began + 1
            )
            yield from (f"{source.name}: {line}" for line in that_matter(lines, words))

    def _readable(self, api_version: str, kind: str) -> list[Object]:
        try:
            return self._cluster.find(api_version, kind, self._namespace)
        except ClusterProblem as problem:
            if problem.reason not in ("forbidden", "not-found"):
                raise
            return []


def _concerns(pod: Object, parts: Sequence[str], words: Sequence[str]) -> bool:
    """Whether a pod is of these parts: of users' only those of `words`, of the platform's all."""
    labels = meta_of(pod).get("labels") or {}
    if labels.get("component") == SERVER:
        who = (meta_of(pod).get("annotations") or {}).get(USERNAME)
        return "servers" in parts and who in words
    if cluster := labels.get(CLUSTER) or labels.get(OPERATED):
        return "clusters" in parts and cluster in _bare(words)
    return True


def _is_asked(source: Source, parts: Sequence[str], words: Sequence[str]) -> bool:
    kind, _, rest = source.name.partition("/")
    if kind in ("servers", "clusters"):
        return kind in parts and rest.split("/")[0] in _bare(words)
    return any(kind == part or kind.startswith(f"{part}-") for part in parts)


def _bare(words: Sequence[str]) -> set[str]:
    """Dask Gateway puts its namespace before a cluster's name."""
    return {*words, *(word.rpartition(".")[2] for word in words)}
