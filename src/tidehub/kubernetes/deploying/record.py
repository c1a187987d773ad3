"""The ConfigMap `tidehub`: what is deployed in a namespace, what was before, and the journal of the last operation.

No secret is ever in it: values are there by the digest of what may be shown.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from tidehub.errors import TidehubError
from tidehub.kubernetes.cluster.port import FIELD_MANAGER, Cluster
from tidehub.kubernetes.deploying.journal import Journal
from tidehub.kubernetes.objects import Object
from tidehub.kubernetes.ownership import MANAGED_BY, OURS, is_ours

NAME = "tidehub"
FORMAT = 1
"""Goes up when an older tidehub would misread the record."""
KEPT = 10
"""Revisions in the record; Helm keeps twice as many of a release."""
LARGEST = 600_000
"""Characters that the revisions may take: a ConfigMap holds one MiB in all."""


@dataclass(frozen=True)
class ReleaseState:
    """One Helm release as it was deployed."""

    name: str
    chart: str
    version: str
    sha256: str
    """Digest of the chart's archive."""
    values: str
    """Digest of the values without secrets."""
    manifest: str
    """Digest of the rendered objects without Secrets."""
    revision: int
    """Helm's number of it; 0 where it is not known."""


@dataclass(frozen=True)
class Deployed:
    """One state that was reached: what `rollback` goes back to."""

    revision: int
    at: str
    by: str
    tidehub: str
    release_set: str
    model: str
    releases: tuple[ReleaseState, ...]
    objects: tuple[Object, ...] = ()
    """tidehub's own objects beside the charts, without Secrets."""
    operation: str = "deploy"
    saved: str = ""
    """File with the copy of what was there before, on the machine of who deployed it; empty without one."""

    @property
    def charts(self) -> dict[str, str]:
        """Version by chart name."""
        return {one.chart: one.version for one in self.releases}

    def release(self, name: str) -> ReleaseState | None:
        """The release of that name; None where it was not part of it."""
        return next((one for one in self.releases if one.name == name), None)


@dataclass(frozen=True)
class Record:
    """Everything that the ConfigMap says."""

    revisions: tuple[Deployed, ...] = ()
    """Oldest first; the last one is what is deployed."""
    journal: Journal | None = None
    releases: tuple[ReleaseState, ...] = ()
    """Each Helm release as it was last brought about, also while an operation is between two states."""
    kept: tuple[str, ...] = ()
    """What an uninstallation left on purpose, as `Kind/name`: the next deployment takes it over."""

    @property
    def deployed(self) -> Deployed | None:
        """The newest state that was reached; None before the first deployment came to its end."""
        return self.revisions[-1] if self.revisions else None

    @property
    def unfinished(self) -> Journal | None:
        """The journal of an operation that did not come to its end."""
        return None if self.journal is None or self.journal.finished else self.journal

    def revision(self, number: int) -> Deployed | None:
        """The state of that number; None where the record does not hold it (any more)."""
        return next((one for one in self.revisions if one.revision == number), None)

    def release(self, name: str) -> ReleaseState | None:
        """How a release was last brought about; None where tidehub has not done so."""
        return next((one for one in self.releases if one.name == name), None)

    def with_release(self, state: ReleaseState) -> Record:
        """With a release brought about."""
        return replace(self, releases=(*(one for one in self.releases if one.name != state.name), state))

    def without_release(self, name: str) -> Record:
        """With a release removed."""
        return replace(self, releases=tuple(one for one in self.releases if one.name != name))

    def reached(self, deployed: Deployed) -> Record:
        """With a new state, the oldest forgotten."""
        return replace(self, revisions=(*self.revisions, deployed)[-KEPT:])

    @property
    def next_revision(self) -> int:
        """Number of the next state."""
        return self.revisions[-1].revision + 1 if self.revisions else 1


def digest(values: Any) -> str:
    """SHA-256 of values that hold no secret, the same for the same values in any order of their keys."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def without_secrets(objects: Iterable[Object]) -> tuple[Object, ...]:
    """What of tidehub's own objects may stand in a ConfigMap."""
    return tuple(obj for obj in objects if obj.get("kind") != "Secret")


def read_record(cluster: Cluster, namespace: str) -> Record | None:
    """What the namespace's record says; None where there is none.

    Raises `TidehubError` for a damaged one and for one of a newer tidehub, `ClusterProblem` where it cannot be read.
    """
    found = cluster.get("v1", "ConfigMap", NAME, namespace)
    if found is None:
        return None
    if not is_ours(found):
        raise TidehubError(
            f"the ConfigMap {NAME} in the namespace {namespace} was not made by tidehub",
            expected=f"the label {MANAGED_BY}: tidehub",
            fix="choose another namespace (kubernetes.namespace), or rename that ConfigMap",
        )
    return parse(found.get("data") or {}, namespace)


def parse(data: Mapping[str, str], namespace: str) -> Record:
    """The record in a ConfigMap's data. Raises `TidehubError`."""
    try:
        format = int(data.get("format", "0"))
        if format > FORMAT:
            raise TidehubError(
                f"a newer tidehub works on the namespace {namespace} (its record has the format {format})",
                expected=f"format {FORMAT} or older",
                fix="use that tidehub",
            )
        written = json.loads(data.get("journal") or "null")
        return Record(
            tuple(_deployed(one) for one in json.loads(data.get("revisions") or "[]")),
            Journal.from_json(written) if written else None,
            tuple(_release(one) for one in json.loads(data.get("releases") or "[]")),
            tuple(str(one) for one in json.loads(data.get("kept") or "[]")),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TidehubError(
            f"the record of the namespace {namespace} (ConfigMap {NAME}) is damaged: {error}",
            fix=f"delete it (kubectl -n {namespace} delete configmap {NAME}) and deploy again: what is deployed stays",
        ) from error


def config_map(record: Record, namespace: str) -> Object:
    """The record as it is written."""
    deployed = record.deployed
    revisions = [_json(asdict(one)) for one in record.revisions]
    while len(revisions) > 2 and sum(map(len, revisions)) > LARGEST:
        del revisions[0]
    data = {
        "format": str(FORMAT),
        "revisions": f"[{','.join(revisions)}]",
        "releases": _json([asdict(one) for one in record.releases]),
        "kept": _json(list(record.kept)),
        "journal": _json(record.journal.to_json() if record.journal else None),
    }
    if deployed is not None:
        data |= {
            "release_set": deployed.release_set,
            "model": deployed.model,
            "charts": "\n".join(f"{one.name}: {one.chart} {one.version}" for one in deployed.releases),
        }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": NAME, "namespace": namespace, "labels": dict(OURS)},
        "data": data,
    }


def write_record(cluster: Cluster, namespace: str, record: Record) -> float | None:
    """Writes it whole, as the field manager tidehub; seconds that the server's clock is ahead of ours, where it says.

    Raises `ClusterProblem`.
    """
    written = cluster.apply(config_map(record, namespace), namespace, force=True)
    now = datetime.datetime.now(datetime.UTC)
    fields = (written.get("metadata") or {}).get("managedFields") or []
    for one in fields:
        if one.get("manager") == FIELD_MANAGER and one.get("operation") == "Apply":
            with contextlib.suppress(KeyError, ValueError):
                ahead = (datetime.datetime.fromisoformat(str(one["time"])) - now).total_seconds()
                # It writes whole seconds: less than two are no difference.
                return ahead if abs(ahead) > 2 else 0.0
    return None


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _deployed(read: Mapping[str, Any]) -> Deployed:
    return Deployed(
        revision=int(read["revision"]),
        at=str(read["at"]),
        by=str(read["by"]),
        tidehub=str(read["tidehub"]),
        release_set=str(read["release_set"]),
        model=str(read["model"]),
        releases=tuple(_release(one) for one in read["releases"]),
        objects=tuple(read["objects"]),
        operation=str(read["operation"]),
        saved=str(read["saved"]),
    )


def _release(read: Mapping[str, Any]) -> ReleaseState:
    return ReleaseState(
        name=str(read["name"]),
        chart=str(read["chart"]),
        version=str(read["version"]),
        sha256=str(read["sha256"]),
        values=str(read["values"]),
        manifest=str(read["manifest"]),
        revision=int(read["revision"]),
    )
