"""CustomResourceDefinitions: Helm never upgrades them, so they are applied here, and their versions verified."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tidehub import program
from tidehub.errors import TidehubError
from tidehub.kubernetes.cluster.port import ClusterProblem
from tidehub.kubernetes.deploying.ending import pause
from tidehub.kubernetes.deploying.observed import condition, meta_of, name_of, spec_of
from tidehub.kubernetes.deploying.running import Work
from tidehub.kubernetes.deploying.steps.ownership import place_of
from tidehub.kubernetes.deploying.words import counted, listed
from tidehub.kubernetes.objects import Object
from tidehub.kubernetes.ownership import Verdict, crd_verdict, served_versions

API, KIND = "apiextensions.k8s.io/v1", "CustomResourceDefinition"
ESTABLISHED = 60.0
"""Seconds that the server may take to serve a CRD."""


@dataclass(frozen=True)
class Crds:
    """Applies the CRDs of all charts of a platform."""

    crds: tuple[Object, ...] = field(repr=False)
    name: str = "crds"
    title: str = "CustomResourceDefinitions"

    def needed(self, work: Work) -> bool:
        """Whether one is missing, differs, or is not served."""
        found = self.verdicts(work)
        return not self._all_served(work) if found is None else bool(_unsettled(found))

    def verdicts(self, work: Work) -> list[Verdict] | None:
        """Whose each is; None where the credentials may not read CRDs, which are the whole cluster's."""
        live = self._live(work)
        if live is None:
            return None
        place = place_of(work)
        return [crd_verdict(crd, live.get(name_of(crd)), place) for crd in self.crds]

    def run(self, work: Work) -> str:
        """Applies what is to change, all at once, and waits until the server serves each version."""
        live = self._live(work) or {}
        names = {one.name for one in _unsettled(self.verdicts(work) or ())}
        wanted = [crd for crd in self.crds if name_of(crd) in names]
        with ThreadPoolExecutor(max_workers=4) as pool:
            # Forced: fields that an earlier Helm or kubectl wrote become ours; others' CRDs were refused or left.
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
            for version in served_versions(crd)
        }
        return wanted <= served

    def _verify(self, work: Work) -> None:
        deadline = time.monotonic() + ESTABLISHED
        while True:
            work.facts.pop("crds", None)
            missing = [one.name for one in _unsettled(self.verdicts(work) or ())]
            if not missing:
                return
            if time.monotonic() > deadline:
                found = (self._live(work) or {}).get(missing[0]) or {}
                said = condition(found, "NamesAccepted") or condition(found, "Established") or {}
                raise TidehubError(
                    f"the API server does not serve {listed(missing)}"
                    + (f": {said['message']}" if said.get("message") else ""),
                    expected="the condition Established and the chart's versions among those that are served",
                    fix=f"see kubectl describe crd {missing[0]}",
                )
            pause(min(0.5, work.options.poll))


def _unsettled(found: Iterable[Verdict]) -> list[Verdict]:
    return [one for one in found if one.follows != "leave"]


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
