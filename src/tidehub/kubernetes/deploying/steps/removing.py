"""Takes a release away and keeps what holds data.

Helm goes by the manifest in its record, not by the live objects: what is to stay is marked there
(`helm.sh/resource-policy: keep`), in whatever chart the release is of.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Collection
from dataclasses import replace

from tidehub.errors import TidehubError
from tidehub.helm.problems import TimedOut
from tidehub.helm.records import decoded
from tidehub.kubernetes.deploying.observed import meta_of, name_of
from tidehub.kubernetes.deploying.running import Work
from tidehub.kubernetes.deploying.stored import free, live_release
from tidehub.kubernetes.deploying.words import listed
from tidehub.kubernetes.objects import Object, identify, read_manifest, write_manifest

POLICY = "helm.sh/resource-policy"
DATABASE_PVC = "hub-db-dir"
HUB_SECRET = "hub"
PROTECTED = (("PersistentVolumeClaim", DATABASE_PVC), ("Secret", HUB_SECRET))
"""The hub's database, and the keys without which parts of it cannot be read."""


class Stuck(TidehubError):
    """Something is being deleted and does not go."""

    def __init__(self, what: str, evidence: tuple[str, ...], fix: str) -> None:
        self.evidence = evidence
        super().__init__(what, fix=fix)


_DOCUMENT = re.compile(r"^---[ \t]*$", re.MULTILINE)


def uninstall_release(
    work: Work, name: str, *, keep: Collection[tuple[str, str]] = PROTECTED
) -> tuple[str, ...]:
    """Uninstalls a release but for `keep`; which of these it had, as `Kind/name`.

    Raises `Stuck` where an object of it does not go, otherwise `HelmProblem`.
    """
    free(work, name)
    kept = protect(work, name, keep)
    live = live_release(work, name)
    if kept:
        # Written before Helm removes anything: the next deployment knows whose they are.
        already = dict.fromkeys((*work.record.kept, *kept))
        work.write(replace(work.record, kept=tuple(already)))
    work.ensure()
    try:
        work.helm.uninstall(name, work.namespace, timeout=work.options.timeout)
    except TimedOut as error:
        left = _being_deleted(work, live.manifest) if live else []
        if not left:
            raise
        raise Stuck(
            f"objects of the release {name} are being deleted and do not go: {listed(name_of(one) for one in left)}",
            held(left),
            "end what still uses them (kubectl describe says what); the controller of a finalizer has to run",
        ) from error
    work.facts.clear()
    return kept


def held(objects: Collection[Object]) -> tuple[str, ...]:
    """What keeps objects that are being deleted, a line for each of the first five."""
    lines = []
    for one in list(objects)[:5]:
        finalizers = meta_of(one).get("finalizers") or []
        why = f"finalizers {', '.join(finalizers)}" if finalizers else "still ending"
        lines.append(f"{one.get('kind')} {name_of(one)}: {why}")
    return tuple(lines)


def protect(work: Work, name: str, keep: Collection[tuple[str, str]]) -> tuple[str, ...]:
    """Marks objects in a release's record to be kept; which of them it has, as `Kind/name`."""
    live = live_release(work, name)
    if live is None:
        return ()
    manifest, kept = marked(live.manifest, keep)
    if manifest != live.manifest:
        work.cluster.replace(with_manifest(live.secret, manifest), work.namespace)
        work.facts.clear()
    return kept


def marked(manifest: str, keep: Collection[tuple[str, str]]) -> tuple[str, tuple[str, ...]]:
    """The manifest with these objects to be kept, every other document as it was; and which of them it has. Pure."""
    documents = documents_of(manifest)
    kept: list[str] = []
    for index, text in enumerate(documents):
        if not any(re.search(rf"^kind:\s*[\"']?{kind}\b", text, re.MULTILINE) for kind, _ in keep):
            continue
        found = read_manifest(text)
        if len(found) != 1:
            continue
        obj, meta = found[0], found[0].get("metadata") or {}
        if (str(obj.get("kind")), str(meta.get("name"))) not in keep:
            continue
        kept.append(f"{obj['kind']}/{meta['name']}")
        annotations = meta.get("annotations") or {}
        if annotations.get(POLICY) == "keep":
            continue
        obj["metadata"] = {**meta, "annotations": {**annotations, POLICY: "keep"}}
        documents[index] = "\n" + write_manifest([obj]).removeprefix("---\n")
    return "---".join(documents), tuple(kept)


def documents_of(manifest: str) -> list[str]:
    """The documents of a manifest as they are written; `---` between them makes the manifest again."""
    return _DOCUMENT.split(manifest)


def with_manifest(secret: Object, manifest: str) -> Object:
    """Helm's record with another manifest."""
    whole = decoded(secret)
    whole["manifest"] = manifest
    packed = gzip.compress(json.dumps(whole, separators=(",", ":")).encode(), mtime=0)
    return {**secret, "data": {"release": base64.b64encode(base64.b64encode(packed)).decode()}}


def _being_deleted(work: Work, manifest: str) -> list[Object]:
    ids = [identify(obj, work.namespace) for obj in read_manifest(manifest)]
    found = (work.cluster.get(id.api_version, id.kind, id.name, id.namespace) for id in ids)
    return [one for one in found if one is not None and meta_of(one).get("deletionTimestamp")]
