"""Whose an object is, and what follows for a deployment. Pure; every command asks here.

Helm refuses to import what lacks its label and both of its annotations (helm, pkg/action/validate.go), never changes
what is in a chart's `crds/`, and builds every object of the last record before it upgrades.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tidehub import program
from tidehub.kubernetes.cluster.port import FIELD_MANAGER
from tidehub.kubernetes.objects import Key, Object, ObjectId, key_of

MANAGED_BY = "app.kubernetes.io/managed-by"
OURS = {MANAGED_BY: "tidehub"}
"""Label of every object that tidehub makes itself."""
HELM = {MANAGED_BY: "Helm"}
RELEASE_NAME, RELEASE_NAMESPACE = "meta.helm.sh/release-name", "meta.helm.sh/release-namespace"
_TOOLS = {
    "argocd.argoproj.io/tracking-id": "Argo CD:",
    "kustomize.toolkit.fluxcd.io/name": "Flux:",
    "operatorframework.io/installed-alongside": "an operator:",
}
"""Annotations by which other tools mark what they bring."""
ROLES = {
    "jupyterhub": {"hub"},
    "dask-gateway": {"gateway"},
    "daskhub": {"hub", "gateway"},
    "dask-kubernetes-operator": {"operator"},
}
"""What of a platform a chart brings; a namespace has room for one of each."""
PLATFORM = {"hub", "gateway"}
"""Without which there is no platform; the operator may be one of several tenants'."""
_GATEWAY_GROUP = "gateway.dask.org"
"""Only dask-gateway has it. Its CRDs carry no sign of a release, so an earlier installation of it brought them."""

Follows = Literal["install", "ours", "take-over", "repair", "leave", "refuse"]
"""`ours` is changed where it differs, `leave` is used as it is, whoever's it is, `repair` is ours and half-way."""


@dataclass(frozen=True)
class Found:
    """A Helm release of the namespace, as far as it decides."""

    chart: str
    version: str = ""
    status: str = "deployed"


@dataclass(frozen=True)
class Place:
    """What is known of the namespace and of what the operator chose."""

    namespace: str
    releases: Mapping[str, Found] = field(default_factory=dict)
    """Every Helm release in it; uninstalled ones, of which only the history is left, are not."""
    made: frozenset[str] = frozenset()
    """Releases that tidehub brought about, by its record."""
    kept: frozenset[str] = frozenset()
    """What an uninstallation left on purpose, as `Kind/name`."""
    adopt: frozenset[str] = frozenset()
    """What the operator named: releases and CRDs by name, objects as `Kind/name`."""
    manifests: Mapping[str, frozenset[Key]] = field(default_factory=dict)
    """The objects of each release's record."""
    is_gone: Callable[[str], bool] = lambda namespace: False
    """Whether another namespace is gone or about to be: its releases went with it, cluster-wide objects did not."""


@dataclass(frozen=True)
class Verdict:
    """What follows for one object or release, and why."""

    follows: Follows
    what: str = ""
    """The object or release, in words."""
    name: str = ""
    """What `--adopt` calls it; empty where naming it would not help."""
    owner: str = ""
    """Somebody else, in words; empty for us and for nobody."""
    why: str = ""
    """Of a refusal that is not about the owner: the rest of the sentence that begins with `what`."""
    fix: str = ""
    id: ObjectId | None = None

    @property
    def refused(self) -> bool:
        return self.follows == "refuse"


def object_verdict(id: ObjectId, live: Object | None, place: Place, *, release: str | None = None) -> Verdict:
    """Of an object that a release brings, or with None tidehub itself."""
    if live is None:
        return Verdict("install", str(id), id=id)
    if id.kind == "Namespace":
        return _namespace(id, live)
    marks, here = _marks(live), f"{id.kind}/{id.name}"
    if release is None:
        ours = marks.manager == OURS[MANAGED_BY]
    else:
        # Helm asks nothing of what its own record has.
        ours = key_of(id) in place.manifests.get(release, ()) or marks.of_release(release, place.namespace)
    if ours:
        return Verdict("ours", str(id), id=id)
    left = marks.namespace == place.namespace and here in place.kept and marks.release not in place.releases
    dead = marks.release and marks.namespace not in ("", place.namespace) and place.is_gone(marks.namespace)
    if here in place.adopt or (release is not None and (left or dead)):
        return Verdict("take-over", str(id), here, marks.owner, id=id)
    if marks.release and marks.namespace != place.namespace:
        fix = (
            "what counts for the whole cluster is named after its release, so there can be one such release in a "
            "cluster: uninstall the other one, or use another cluster"
        )
    elif marks.release in place.releases:
        fix = f"uninstall {marks.release} (what it holds goes with it: back up first), or take over"
    else:
        fix = "remove what nobody needs, or take over"
    return Verdict("refuse", str(id), here, marks.owner, fix=fix, id=id)


def crd_verdict(wanted: Object, live: Object | None, place: Place) -> Verdict:
    """Of a CRD that a chart brings. A stranger's that serves what is wanted is left as it is."""
    name = str(wanted["metadata"]["name"])
    id = ObjectId(str(wanted["apiVersion"]), "CustomResourceDefinition", None, name)
    what = f"the CRD {name}"
    if live is None:
        return Verdict("install", what, name, id=id)
    if live["metadata"].get("deletionTimestamp"):
        held = ", ".join(live["metadata"].get("finalizers") or ["nothing that is named"])
        return Verdict(
            "refuse",
            what,
            why=f"is being deleted, and all its objects with it, held by {held}",
            fix="wait until it is gone; a finalizer whose controller is gone may keep it forever",
            id=id,
        )
    conditions = {str(one.get("type")): one for one in (live.get("status") or {}).get("conditions") or []}
    if (conditions.get("NamesAccepted") or {}).get("status") == "False":
        return Verdict(
            "refuse",
            what,
            why=f"is not served: {conditions['NamesAccepted'].get('message') or 'its names are taken'}",
            fix="another CRD has its names: find it with `kubectl get crd`, and remove what is not needed",
            id=id,
        )
    established = (conditions.get("Established") or {}).get("status") == "True"
    served = _serves(live, wanted)
    if established and served and covers(live.get("spec"), wanted.get("spec")):
        return Verdict("leave", what, name, id=id)
    owner = crd_owner(live, place)
    if owner and name not in place.adopt:
        if served:
            return Verdict("leave", what, name, owner, id=id)
        return Verdict(
            "refuse", what, name, owner, fix="where nobody else needs it as it is, take over", id=id
        )
    lost = sorted(set((live.get("status") or {}).get("storedVersions") or []) - set(_versions(wanted)))
    if lost:
        return Verdict(
            "refuse",
            what,
            why=f"has objects that are stored as {', '.join(lost)}, which the chart's CRD does not know",
            fix=f"have them rewritten in a version that both know, or remove them: kubectl get {name} -A",
            id=id,
        )
    return Verdict("take-over" if owner else "ours", what, name, owner, id=id)


def release_verdict(name: str, chart: str, place: Place) -> Verdict:
    """Of a release that the site has."""
    found = place.releases.get(name)
    if found is None:
        return Verdict("install", f"the release {name}", name)
    what = f"the release {name} ({found.chart} {found.version})".replace(" )", ")")
    if found.chart != chart:
        return Verdict(
            "refuse",
            what,
            why=f"is of the chart {found.chart}, not of {chart}",
            fix="use another namespace, or uninstall that release once its data is safe",
        )
    if name in place.made:
        return Verdict("ours" if found.status == "deployed" else "repair", what, name)
    if name in place.adopt:
        return Verdict("take-over", what, name, "somebody else")
    return Verdict(
        "refuse",
        what,
        name,
        why="is there already, and tidehub did not make it",
        fix="where it is this site's, take over",
    )


def other_verdicts(place: Place, wanted: Mapping[str, str]) -> dict[str, Verdict]:
    """Of the releases of a platform's charts that the site does not have. `wanted` is the chart by release."""
    roles = {role for chart in wanted.values() for role in ROLES.get(chart, ())}
    found: dict[str, Verdict] = {}
    for name, one in place.releases.items():
        if name in wanted or one.chart not in ROLES:
            continue
        what = f"the release {name} ({one.chart} {one.version})"
        shared = roles & ROLES[one.chart]
        if "hub" in shared or (shared and name not in place.made):
            clash = "have the same objects" if "hub" in shared else "serve the same Dask clusters"
            kept = "keeping the PVCs, deploy, restore (homes stay in their PVCs); or use another namespace"
            found[name] = Verdict(
                "refuse",
                what,
                why=f"is in the namespace {place.namespace}, and would {clash} as {' and '.join(wanted)}",
                fix=f"`{program.command('uninstall')}` keeps homes and database; then deploy"
                if name in place.made
                else f"back up ({program.command('backup')}), uninstall {name} {kept}",
            )
        else:
            # What tidehub made and the site no longer has, a deployment uninstalls.
            found[name] = Verdict("ours" if name in place.made else "leave", what, name)
    return found


def crd_owner(crd: Object, place: Place) -> str:
    """Who else a CRD belongs to, in words; empty where it is ours or that of a release here."""
    marks = _marks(crd)
    if marks.release and marks.namespace == place.namespace:
        return ""
    if marks.owner:
        return marks.owner
    managers = {
        str(one.get("manager")) for one in _meta(crd).get("managedFields") or [] if not one.get("subresource")
    }
    brought = "helm" in managers and any(
        "gateway" in ROLES.get(one.chart, ()) for one in place.releases.values()
    )
    if FIELD_MANAGER in managers or (crd.get("spec") or {}).get("group") == _GATEWAY_GROUP or brought:
        return ""
    return f"who made it with {' and '.join(sorted(managers))}" if managers else "somebody who left no mark"


def is_ours(obj: Object | None) -> bool:
    """Whether tidehub made the object itself, beside the charts."""
    return obj is not None and _marks(obj).manager == OURS[MANAGED_BY]


@dataclass(frozen=True)
class Objection:
    """What stands against a deployment, in words: the same in every command."""

    what: str
    fix: str
    ids: tuple[ObjectId, ...] = ()
    names: tuple[str, ...] = ()
    """What `--adopt` would have to name."""


def objections(verdicts: Iterable[Verdict], operation: str = "deploy") -> list[Objection]:
    """The refusals among them, those of one owner told together."""
    groups: dict[tuple[str, str, str], list[Verdict]] = {}
    for one in verdicts:
        if one.refused:
            groups.setdefault((one.owner, one.why, one.fix), []).append(one)
    return [_objection(several, operation) for several in groups.values()]


def _objection(several: list[Verdict], operation: str) -> Objection:
    first, many = several[0], len(several) > 1
    shown = ", ".join(one.what for one in several[:4]) + (
        f" and {len(several) - 4} more" if len(several) > 4 else ""
    )
    owner = first.owner or "no release: somebody created " + ("them" if many else "it") + " by hand"
    why = (
        first.why
        or f"{'exist' if many else 'exists'} already and {'belong' if many else 'belongs'} to {owner}"
    )
    if many:
        why = why.replace("is ", "are ", 1) if why.startswith("is ") else why
        why = why.replace("did not make it", "did not make them")
    names = tuple(one.name for one in several if one.name)
    fix = first.fix
    if fix.endswith("take over"):
        fix += (
            " with `"
            + program.command(operation, *(word for name in names for word in ("--adopt", name)))
            + "`"
        )
    ids = tuple(one.id for one in several if one.id)
    return Objection(f"{shown} {why}", fix, ids, names if "--adopt" in fix else ())


def adoption(release: str, namespace: str) -> Object:
    """The patch with the label and annotations by which Helm knows its objects."""
    return {
        "metadata": {
            "labels": dict(HELM),
            "annotations": {RELEASE_NAME: release, RELEASE_NAMESPACE: namespace},
        }
    }


def covers(live: Any, wanted: Any) -> bool:
    """Whether `live` has everything that is wanted; what the server filled in does not count."""
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


@dataclass(frozen=True)
class _Marks:
    """What an object says of its owner."""

    manager: str = ""
    release: str = ""
    namespace: str = ""
    tool: str = ""

    def of_release(self, release: str, namespace: str) -> bool:
        return (self.manager, self.release, self.namespace) == (HELM[MANAGED_BY], release, namespace)

    @property
    def owner(self) -> str:
        if self.release:
            return f"the release {self.release} in the namespace {self.namespace or '?'}"
        return self.tool or (self.manager if self.manager not in ("", *HELM.values()) else "")


def _marks(obj: Object) -> _Marks:
    annotations, labels = _meta(obj).get("annotations") or {}, _meta(obj).get("labels") or {}
    tool = next((f"{words} {annotations[key]}" for key, words in _TOOLS.items() if key in annotations), "")
    return _Marks(
        str(labels.get(MANAGED_BY) or ("OLM" if labels.get("olm.managed") else "")),
        str(annotations.get(RELEASE_NAME, "")),
        str(annotations.get(RELEASE_NAMESPACE, "")),
        tool,
    )


def _namespace(id: ObjectId, live: Object) -> Verdict:
    if not _meta(live).get("deletionTimestamp"):
        return Verdict("ours", str(id), id=id)
    return Verdict(
        "refuse",
        f"the namespace {id.name}",
        why="is being deleted",
        fix="wait until it is gone; where something keeps it, its status names what (finalizers)",
        id=id,
    )


def _serves(live: Object, wanted: Object) -> bool:
    """Whether the CRD that is there serves all that the wanted one would: group, kind, scope and versions."""
    one, other = live.get("spec") or {}, wanted.get("spec") or {}
    same = all(one.get(key) == other.get(key) for key in ("group", "scope"))
    names = [(spec.get("names") or {}) for spec in (one, other)]
    same = same and all(names[0].get(key) == names[1].get(key) for key in ("kind", "plural"))
    return same and set(served_versions(wanted)) <= set(served_versions(live))


def served_versions(crd: Object) -> list[str]:
    """Versions of a CRD that are served, in their order."""
    return [str(one["name"]) for one in (crd.get("spec") or {}).get("versions") or [] if one.get("served")]


def _versions(crd: Object) -> Iterator[str]:
    yield from (str(one["name"]) for one in (crd.get("spec") or {}).get("versions") or [])


def _meta(obj: Object) -> dict[str, Any]:
    return obj.get("metadata") or {}
