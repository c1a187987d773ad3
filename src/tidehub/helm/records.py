"""Helm's records in the cluster, and how a release gets out of a state that Helm never leaves. Pure.

Helm writes `pending-...` before it begins and the outcome when it is done. Killed between, it leaves the release
pending, and every later upgrade is refused. Rolling back would undo what was done, and a first installation has
nothing to roll back to. So the pending revision is marked `failed`, as Helm does when it notices its own failure: the
next upgrade then compares with that revision's objects, adopts what was made and makes the rest. The record's format is
that of helm.sh/helm pkg/storage/driver: JSON, gzip, base64, in a Secret of type `helm.sh/release.v1`.
"""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tidehub.errors import TidehubError

TYPE = "helm.sh/release.v1"
"""Type of the Secrets that hold records."""


@dataclass(frozen=True)
class Stored:
    """One record, as far as it is of use without Helm."""

    release: str
    namespace: str
    revision: int
    status: str
    chart: str
    chart_version: str
    description: str


def selector(release: str | None = None) -> str:
    """Label selector of the records of one release, or of all."""
    return "owner=helm" + (f",name={release}" if release else "")


def stored(secret: Mapping[str, Any]) -> Stored:
    """A record read from its Secret. Raises `TidehubError` for a damaged one."""
    found = decoded(secret)
    try:
        chart = (found.get("chart") or {}).get("metadata") or {}
        return Stored(
            release=str(found["name"]),
            namespace=str(found["namespace"]),
            revision=int(found["version"]),
            status=str(found["info"]["status"]),
            chart=str(chart.get("name", "")),
            chart_version=str(chart.get("version", "")),
            description=str(found["info"].get("description", "")),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _damaged(secret) from None


def newest(secrets: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The Secret of the highest revision, by its label."""
    return max(secrets, key=_revision, default=None)


def newest_of_each(secrets: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The Secret of each release's highest revision, by the release's name; others than records are left out."""
    found: dict[str, Mapping[str, Any]] = {}
    for secret in (one for one in secrets if one.get("type", TYPE) == TYPE):
        name = str((secret["metadata"].get("labels") or {}).get("name", ""))
        if name and (name not in found or _revision(found[name]) < _revision(secret)):
            found[name] = secret
    return found


def marked_failed(secret: Mapping[str, Any], why: str, now: datetime | None = None) -> dict[str, Any]:
    """The same Secret with its revision failed; the rest of the record is untouched."""
    found = decoded(secret)
    try:
        found["info"] = {**found["info"], "status": "failed", "description": why}
    except (KeyError, TypeError):
        raise _damaged(secret) from None
    packed = gzip.compress(json.dumps(found, separators=(",", ":")).encode(), mtime=0)
    meta = secret["metadata"]
    modified = str(int((now or datetime.now(UTC)).timestamp()))
    return {
        **secret,
        "metadata": {
            **meta,
            "labels": {**(meta.get("labels") or {}), "status": "failed", "modifiedAt": modified},
        },
        "data": {"release": base64.b64encode(base64.b64encode(packed)).decode()},
    }


def _revision(secret: Mapping[str, Any]) -> int:
    text = ((secret.get("metadata") or {}).get("labels") or {}).get("version", "")
    return int(text) if str(text).isdigit() else 0


def decoded(secret: Mapping[str, Any]) -> dict[str, Any]:
    """The whole record in a Secret, secrets in clear. Raises `TidehubError` for a damaged one."""
    try:
        data = base64.b64decode(base64.b64decode(secret["data"]["release"]))
        found = json.loads(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
        if not isinstance(found, dict):
            raise ValueError
    except (KeyError, TypeError, ValueError, OSError, EOFError, zlib.error):
        raise _damaged(secret) from None
    return found


def _damaged(secret: Mapping[str, Any]) -> TidehubError:
    name = (secret.get("metadata") or {}).get("name", "")
    return TidehubError(
        f"Helm's record {name} in the cluster cannot be read",
        expected="a Secret that Helm 3 or 4 wrote",
        fix="look at it with `helm history`; if Helm cannot read it either, delete that Secret",
    )
