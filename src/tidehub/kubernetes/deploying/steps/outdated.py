"""Objects in a release's record whose API the cluster no longer serves.

Helm builds every object of the last revision before it upgrades, and refuses where it cannot: a hub that was
installed when `policy/v1beta1` was served cannot be upgraded after the cluster was. The objects themselves went on,
under the newer API. So the record is brought up to date: the newer API where there is one, without the object where
there is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tidehub.kubernetes.cluster.port import ServedKind
from tidehub.kubernetes.deploying.running import Work
from tidehub.kubernetes.deploying.steps.removing import documents_of, with_manifest
from tidehub.kubernetes.deploying.stored import live_release
from tidehub.kubernetes.objects import read_manifest, write_manifest

_MOVED = {"extensions": ("networking.k8s.io", "apps", "policy")}
"""Groups whose kinds went to others, the likelier first."""
_STABLE = re.compile(r"v(\d+)(?:(alpha|beta)(\d+))?$")


def bring_up_to_date(work: Work, name: str) -> tuple[str, ...]:
    """Rewrites the newest record of a release where that is needed; what was done, an object each."""
    live = live_release(work, name)
    if live is None:
        return ()
    manifest, done = modernised(live.manifest, work.cluster.served())
    if done:
        work.cluster.replace(with_manifest(live.secret, manifest), work.namespace)
        work.facts.clear()
    return done


def modernised(manifest: str, served: Iterable[ServedKind]) -> tuple[str, tuple[str, ...]]:
    """The manifest with served APIs only, every other document as it was; what changed. Pure."""
    by_kind: dict[str, list[str]] = {}
    for one in served:
        by_kind.setdefault(one.kind, []).append(one.api_version)
    documents = documents_of(manifest)
    done: list[str] = []
    for index, text in enumerate(documents):
        found = read_manifest(text) if text.strip() else []
        if len(found) != 1:
            continue
        obj = found[0]
        version, kind = str(obj["apiVersion"]), str(obj["kind"])
        if version in by_kind.get(kind, ()):
            continue
        name = (obj.get("metadata") or {}).get("name")
        newer = _newer(version, by_kind.get(kind, ()))
        if newer is None:
            documents[index] = ""
            done.append(f"{kind} {name} of {version} is not served any more")
        else:
            documents[index] = "\n" + write_manifest([{**obj, "apiVersion": newer}]).removeprefix("---\n")
            done.append(f"{kind} {name} of {version} is {newer} now")
    kept = [text for index, text in enumerate(documents) if text or not index]
    return ("---".join(kept) if done else manifest), tuple(done)


def _newer(version: str, served: Iterable[str]) -> str | None:
    group = version.rpartition("/")[0]
    there = list(served)
    for wanted in (group, *_MOVED.get(group, ())):
        same = [one for one in there if one.rpartition("/")[0] == wanted]
        if same:
            return max(same, key=_rank)
    return None


def _rank(version: str) -> tuple[int, int, int]:
    """Stable ones before betas before alphas, as Kubernetes orders them."""
    found = _STABLE.match(version.rpartition("/")[2])
    if found is None:
        return (0, 0, 0)
    stage = {None: 3, "beta": 2, "alpha": 1}[found[2]]
    return (stage, int(found[1]), int(found[3] or 0))
