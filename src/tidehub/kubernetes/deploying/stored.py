"""Helm's releases as they stand in a namespace, read from Helm's own records. No program is started for it."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from tidehub.errors import TidehubError
from tidehub.helm.engine import PENDING
from tidehub.helm.records import decoded, marked_failed, newest, newest_of_each, selector, stored
from tidehub.kubernetes.cluster.port import Cluster, ClusterProblem
from tidehub.kubernetes.deploying.running import Work
from tidehub.kubernetes.objects import Object
from tidehub.kubernetes.ownership import Found

STUCK = PENDING | {"uninstalling"}
"""States that Helm does not get out of by itself."""


@dataclass(frozen=True)
class Live:
    """A release's newest revision."""

    name: str
    revision: int
    status: str
    chart: str
    version: str
    values: Mapping[str, Any] = field(repr=False)
    """As they were given, secrets in clear: never to be shown."""
    manifest: str = field(repr=False)
    """Its objects as text, without hooks; secrets in clear."""
    secret: Object = field(repr=False)
    """The Secret that holds all this."""

    @property
    def full_chart(self) -> str:
        """As it is shown: `jupyterhub 4.4.0`."""
        return f"{self.chart} {self.version}".strip()


def live_release(work: Work, name: str) -> Live | None:
    """The newest revision of a release; None where there is none, or only its history (`uninstall --keep-history`).

    Read once until something is changed.
    """
    key = f"release {name}"
    if key not in work.facts:
        known = work.record.release(name)
        found = read_release(work.cluster, work.namespace, name, known.revision if known is not None else 0)
        work.facts[key] = found if found is None or found.status != "uninstalled" else None
    live: Live | None = work.facts[key]
    return live


def read_release(cluster: Cluster, namespace: str, name: str, expected: int = 0) -> Live | None:
    """The newest revision. Where the `expected` one is it, no other record is transferred: each has half a megabyte."""
    if expected:
        secret = cluster.get("v1", "Secret", _record_name(name, expected), namespace)
        if (
            secret is not None
            and cluster.get("v1", "Secret", _record_name(name, expected + 1), namespace) is None
        ):
            return _live(secret)
    secrets = cluster.find("v1", "Secret", namespace, labels=selector(name))
    found = newest(secrets)
    return None if found is None else _live(dict(found))


def others(cluster: Cluster, namespace: str, known: Collection[str]) -> dict[str, Found]:
    """The Helm releases of the namespace but for those `known` and uninstalled ones, by name."""
    wanted = f"{selector()},status notin (superseded,uninstalled)"
    if known:
        # Each record has half a megabyte: those of our own releases are not read for this.
        wanted += f",name notin ({','.join(sorted(known))})"
    found = {}
    for name, secret in newest_of_each(cluster.find("v1", "Secret", namespace, labels=wanted)).items():
        with contextlib.suppress(TidehubError):
            # A record that cannot be read is Helm's to complain about.
            one = stored(secret)
            found[name] = Found(one.chart, one.chart_version, one.status)
    return found


def free(work: Work, name: str) -> str:
    """Gets a release out of a state that a killed Helm left behind; what it was, empty where nothing was to be done.

    Only under the lock. Raises `ClusterProblem` with the reason `conflict` where a Helm is writing right now.
    """
    live = live_release(work, name)
    if live is None or live.status not in STUCK:
        return ""
    why = f"{live.status} was cut off; tidehub continues"
    work.cluster.replace(marked_failed(live.secret, why), work.namespace)
    work.facts.clear()
    return live.status


def without_nulls(values: Any) -> Any:
    """The same without keys that are null: Helm drops some of them on the way."""
    if isinstance(values, Mapping):
        return {key: without_nulls(value) for key, value in values.items() if value is not None}
    return [without_nulls(value) for value in values] if isinstance(values, list | tuple) else values


def forget(cluster: Cluster, namespace: str, name: str) -> None:
    """Removes every record of a release. Nothing of the release itself is touched."""
    for secret in cluster.find("v1", "Secret", namespace, labels=selector(name)):
        with contextlib.suppress(ClusterProblem):
            cluster.delete("v1", "Secret", str(secret["metadata"]["name"]), namespace)


def _record_name(name: str, revision: int) -> str:
    return f"sh.helm.release.v1.{name}.v{revision}"


def _live(secret: Object) -> Live:
    facts = stored(secret)
    whole = decoded(secret)
    return Live(
        name=facts.release,
        revision=facts.revision,
        status=facts.status,
        chart=facts.chart,
        version=facts.chart_version,
        values=whole.get("config") or {},
        manifest=str(whole.get("manifest") or ""),
        secret=secret,
    )
