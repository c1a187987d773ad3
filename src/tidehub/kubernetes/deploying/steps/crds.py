"""CustomResourceDefinitions: Helm never upgrades them, so they are applied here, and their versions verified."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from tidehub import program
from tidehub.errors import TidehubError
from tidehub.kubernetes.cluster.port import FIELD_MANAGER, ClusterProblem
from tidehub.kubernetes.deploying.ending import pause
from tidehub.kubernetes.deploying.observed import condition, meta_of, name_of, spec_of, status_of
from tidehub.kubernetes.deploying.running import Work
from tidehub.kubernetes.deploying.words import Refused, counted, listed
from tidehub.kubernetes.objects import Object

API, KIND = "apiextensions.k8s.io/v1", "CustomResourceDefinition"
ESTABLISHED = 60.0
"""Seconds that the server may take to serve a CRD."""
_OWNERS = {
    "meta.helm.sh/release-name": "the Helm release",
    "argocd.argoproj.io/tracking-id": "Argo CD:",
    "kustomize.toolkit.fluxcd.io/name": "Flux:",
    "operatorframework.io/installed-alongside": "an operator:",
}
_GATEWAY_GROUP = "gateway.dask.org"


@dataclass(frozen=True)
class Crds:
    """Applies the CRDs of all charts of a platform."""

    crds: tuple[Object, ...] = field(repr=False)
    name: str = "crds"
    title: str = "CustomResourceDefinitions"

    def needed(self, work: Work) -> bool:
        """Whether one is missing, differs, or is not served."""
        live = self._live(work)
        if live is None:
            return not self._all_served(work)
        return any(not _is_as_wanted(crd, live.get(name_of(crd))) for crd in self.crds)

    def check(self, work: Work) -> None:
        """Raises `Refused` for a CRD of another owner, or one whose stored objects would be lost."""
        live = self._live(work) or {}
        strangers = {}
        for crd in self.crds:
            found = live.get(name_of(crd))
            if found is None or _same_spec(crd, found):
                continue
            owner = stranger(found, work)
            if owner and name_of(crd) not in work.options.adopt:
                strangers[name_of(crd)] = owner
            if lost := _stored_and_gone(crd, found):
                raise Refused(
                    f"objects of {name_of(crd)} are stored as {listed(lost)}, which the chart's CRD does not have",
                    expected="a CRD that still knows what is stored",
                    fix=f"move them to a newer version first, or remove them: kubectl get {name_of(crd)} -A",
                )
        if strangers:
            first = next(iter(strangers))
            raise Refused(
                f"{counted(len(strangers), 'CustomResourceDefinition')} of the charts "
                f"{'is' if len(strangers) == 1 else 'are'} in the cluster already and "
                f"belong{'s' if len(strangers) == 1 else ''} to somebody else: "
                + listed(f"{name} ({owner})" for name, owner in strangers.items()),
                expected="CRDs that tidehub or a release of this namespace brought",
                fix="where nobody else needs them as they are, name them: "
                + " ".join(f"--adopt {name}" for name in list(strangers)[:3] or [first]),
            )

    def run(self, work: Work) -> str:
        """Applies what differs, all at once, and waits until the server serves each version."""
        live = self._live(work) or {}
        wanted = [crd for crd in self.crds if not _same_spec(crd, live.get(name_of(crd)))]
        with ThreadPoolExecutor(max_workers=4) as pool:
            # Forced: fields that an earlier Helm or kubectl wrote become ours; `check` has refused strangers.
            list(pool.map(lambda crd: work.cluster.apply(_plain(crd), force=True), wanted))
        self._verify(work)
        _tell_of_old_groups(work, self.crds)
        made = sum(name_of(crd) not in live for crd in wanted)
        parts = [f"{made} made"] if made else []
        parts += [f"{len(wanted) - made} changed"] if len(wanted) > made else []
        return ", ".join(parts) or "served"

    def _live(self, work: Work) -> dict[str, Object] | None:
        """What is there, by name; None where the credentials may not read CRDs, which are the whole cluster's."""
        key = "crds"
        if key not in work.facts:
            names = [name_of(crd) for crd in self.crds]
            try:
                with ThreadPoolExecutor(max_workers=8) as pool:
                    found = list(pool.map(lambda name: work.cluster.get(API, KIND, name), names))
                work.facts[key] = {name_of(one): one for one in found if one is not None}
            except ClusterProblem as problem:
                if problem.reason != "forbidden":
                    raise
                work.facts[key] = None
        live: dict[str, Object] | None = work.facts[key]
        return live

    def _all_served(self, work: Work) -> bool:
        """Whether the server knows all their kinds: then an administrator brought them."""
        served = {(one.api_version, one.kind) for one in work.cluster.served()}
        wanted = {
            (f"{spec_of(crd).get('group')}/{version}", str((spec_of(crd).get("names") or {}).get("kind")))
            for crd in self.crds
            for version in _served(crd)
        }
        return wanted <= served

    def _verify(self, work: Work) -> None:
        deadline = time.monotonic() + ESTABLISHED
        while True:
            work.facts.pop("crds", None)
            live = self._live(work) or {}
            missing = [name_of(crd) for crd in self.crds if not _is_as_wanted(crd, live.get(name_of(crd)))]
            if not missing:
                return
            if time.monotonic() > deadline:
                found = live.get(missing[0]) or {}
                said = condition(found, "NamesAccepted") or condition(found, "Established") or {}
                raise TidehubError(
                    f"the API server does not serve {listed(missing)}"
                    + (f": {said['message']}" if said.get("message") else ""),
                    expected="the condition Established and the chart's versions among those that are served",
                    fix=f"see kubectl describe crd {missing[0]}",
                )
            pause(min(0.5, work.options.poll))


def stranger(crd: Object, work: Work) -> str:
    """Who else a CRD belongs to, in words; empty where it is ours or that of a release here."""
    annotations = meta_of(crd).get("annotations") or {}
    for key, words in _OWNERS.items():
        if key in annotations:
            where = annotations.get("meta.helm.sh/release-namespace")
            if key == "meta.helm.sh/release-name" and where == work.namespace:
                return ""
            return f"{words} {annotations[key]}" + (f" in {where}" if where else "")
    managers = [one for one in meta_of(crd).get("managedFields") or [] if not one.get("subresource")]
    if any(one.get("manager") == FIELD_MANAGER for one in managers):
        return ""
    # Only dask-gateway has this group. The chart's `crds/` carry no sign of their release, so by hand or by Helm,
    # an earlier installation of it brought the CRD.
    if spec_of(crd).get("group") == _GATEWAY_GROUP:
        return ""
    names = {str(one.get("manager")) for one in managers}
    if "helm" in names and _has_gateway_release(work):
        return ""
    return f"made by {listed(sorted(names))}" if names else "its owner is not known"


def _has_gateway_release(work: Work) -> bool:
    """Whether a release here brought a chart's `crds/` before: dask-gateway's, in whichever model."""
    from tidehub.kubernetes.deploying.stored import names

    if "release names" not in work.facts:
        work.facts["release names"] = names(work.cluster, work.namespace)
    return bool({"dask-gateway", "daskhub"} & set(work.facts["release names"]))


def _tell_of_old_groups(work: Work, crds: Iterable[Object]) -> None:
    """The CRDs of a group that the charts no longer bring stay; whoever has objects of it should know."""
    groups = {str(spec_of(crd).get("group")) for crd in crds}
    if "traefik.io" not in groups:
        return
    old = work.cluster.find(API, KIND)
    left = [one for one in old if spec_of(one).get("group") == "traefik.containo.us"]
    if left:
        work.notes.append(
            f"{counted(len(left), 'CRD')} of the former group traefik.containo.us stay: objects of it may be "
            f"anybody's; `{program.command('uninstall', '--delete-crds')}` or kubectl removes them when nobody "
            "needs them"
        )


def _plain(crd: Object) -> Object:
    """Without what only a server writes."""
    meta = {key: value for key, value in meta_of(crd).items() if key != "creationTimestamp"}
    return {key: value for key, value in {**crd, "metadata": meta}.items() if key != "status"}


def _same_spec(wanted: Object, live: Object | None) -> bool:
    return live is not None and covers(spec_of(live), spec_of(wanted))


def covers(live: Any, wanted: Any) -> bool:
    """Whether everything wanted is there; the server adds defaults and leaves out what is empty."""
    if live is None:
        return not wanted
    if isinstance(wanted, dict):
        return isinstance(live, dict) and all(covers(live.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return (
            isinstance(live, list)
            and len(live) == len(wanted)
            and all(covers(one, two) for one, two in zip(live, wanted, strict=True))
        )
    return bool(live == wanted)


def _served(crd: Object) -> set[str]:
    return {str(one.get("name")) for one in spec_of(crd).get("versions") or [] if one.get("served")}


def _is_as_wanted(wanted: Object, live: Object | None) -> bool:
    if live is None or not _same_spec(wanted, live) or meta_of(live).get("deletionTimestamp"):
        return False
    established = (condition(live, "Established") or {}).get("status") == "True"
    return established and _served(wanted) <= _served(live)


def _stored_and_gone(wanted: Object, live: Object) -> list[str]:
    known = {str(one.get("name")) for one in spec_of(wanted).get("versions") or []}
    return sorted(set(status_of(live).get("storedVersions") or []) - known)


def has_objects(work: Work, crd: Object) -> bool:
    """Whether any object of a CRD lives anywhere in the cluster. Raises `ClusterProblem`."""
    spec = spec_of(crd)
    for version in spec.get("versions") or []:
        if not version.get("served"):
            continue
        kind = str((spec.get("names") or {}).get("kind"))
        try:
            return bool(work.cluster.find(f"{spec.get('group')}/{version['name']}", kind))
        except ClusterProblem as problem:
            if problem.reason == "not-found":
                continue
            raise
    return False
