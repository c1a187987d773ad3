"""Removes a platform and leaves what belongs to users: `uninstall`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from tidehub import program
from tidehub.errors import UsageError
from tidehub.kubernetes.cluster.port import ClusterProblem
from tidehub.kubernetes.deploying.ending import pause
from tidehub.kubernetes.deploying.lock import API as LEASE_API
from tidehub.kubernetes.deploying.lock import NAME as LEASE
from tidehub.kubernetes.deploying.observed import meta_of, name_of
from tidehub.kubernetes.deploying.record import NAME, Record, read_record
from tidehub.kubernetes.deploying.remains import CRD_GROUPS, Remains, remains
from tidehub.kubernetes.deploying.running import Result, Step, Watcher, Work, run_steps
from tidehub.kubernetes.deploying.steps.crds import API as CRD_API
from tidehub.kubernetes.deploying.steps.crds import KIND as CRD_KIND
from tidehub.kubernetes.deploying.steps.crds import has_objects
from tidehub.kubernetes.deploying.steps.namespace import NamespaceEnding, keeps
from tidehub.kubernetes.deploying.steps.objects import is_ours
from tidehub.kubernetes.deploying.steps.ownership import place_of, refuse
from tidehub.kubernetes.deploying.steps.removing import (
    DATABASE_PVC,
    PROTECTED,
    Stuck,
    held,
    uninstall_release,
)
from tidehub.kubernetes.deploying.stored import live_release
from tidehub.kubernetes.deploying.words import Refused, counted, listed, span
from tidehub.kubernetes.homes.whose import is_home
from tidehub.kubernetes.objects import DASK_CLUSTERS, SERVER, Object, ObjectId, identify
from tidehub.kubernetes.ownership import PLATFORM, ROLES, crd_owner, release_verdict

SERVERS = f"component={SERVER}"
"""Label of users' servers (jupyterhub chart and KubeSpawner)."""
GONE = 90.0
"""Seconds after which something that is being deleted is kept by something."""


@dataclass(frozen=True)
class Also:
    """What goes too, each asked for by its name."""

    homes: bool = False
    database: bool = False
    crds: bool = False
    namespace: bool = False

    def __bool__(self) -> bool:
        return self.homes or self.database or self.crds or self.namespace


@dataclass(frozen=True)
class StopClusters:
    """Dask clusters go while the gateway that takes them down still runs."""

    name: str = "clusters"
    title: str = "Dask clusters"

    def needed(self, work: Work) -> bool:
        return bool(self._clusters(work))

    def run(self, work: Work) -> str:
        there = self._clusters(work)
        for one in there:
            work.cluster.delete(str(one["apiVersion"]), str(one["kind"]), name_of(one), work.namespace)
        wait_until_gone(work, "Dask clusters", lambda: self._clusters(work))
        return f"{counted(len(there), 'cluster')} ended"

    def _clusters(self, work: Work) -> list[Object]:
        """Of the gateway, and of the operator where that is ours: another one's clusters are not."""
        place = place_of(work)
        charts = [one.chart for name in our_releases(work) if (one := place.releases.get(name)) is not None]
        kinds = (
            DASK_CLUSTERS
            if any("operator" in ROLES.get(chart, ()) for chart in charts)
            else DASK_CLUSTERS[:1]
        )
        return [one for kind in kinds for one in work.cluster.find(*kind, work.namespace)]


@dataclass(frozen=True)
class RemoveRelease:
    """Uninstalls a release; what holds data stays, and goes in a step of its own where that was asked for."""

    release: str

    @property
    def name(self) -> str:
        return f"release {self.release}"

    @property
    def title(self) -> str:
        return f"Release {self.release}"

    def needed(self, work: Work) -> bool:
        return live_release(work, self.release) is not None or work.record.release(self.release) is not None

    def run(self, work: Work) -> str:
        kept: tuple[str, ...] = ()
        if live_release(work, self.release) is not None:
            kept = uninstall_release(work, self.release)
        work.write(work.record.without_release(self.release))
        return f"uninstalled, {listed(kept)} kept" if kept else "uninstalled"


@dataclass(frozen=True)
class StopServers:
    """Users' servers, which the hub made and Helm knows nothing of."""

    name: str = "servers"
    title: str = "Users' servers"

    def needed(self, work: Work) -> bool:
        return bool(work.cluster.find("v1", "Pod", work.namespace, labels=SERVERS))

    def run(self, work: Work) -> str:
        pods = work.cluster.find("v1", "Pod", work.namespace, labels=SERVERS)
        for pod in pods:
            work.cluster.delete("v1", "Pod", name_of(pod), work.namespace)
        wait_until_gone(
            work, "users' servers", lambda: work.cluster.find("v1", "Pod", work.namespace, labels=SERVERS)
        )
        return f"{counted(len(pods), 'server')} ended"


@dataclass(frozen=True)
class RemoveObjects:
    """tidehub's own objects beside the charts, by the record and by our label."""

    name: str = "objects"
    title: str = "Objects beside the charts"

    def needed(self, work: Work) -> bool:
        return any(is_ours(work, id) for id in self._ids(work))

    def run(self, work: Work) -> str:
        gone = [id for id in self._ids(work) if is_ours(work, id)]
        for id in gone:
            work.cluster.delete(id.api_version, id.kind, id.name, id.namespace)
        return f"{len(gone)} removed"

    def _ids(self, work: Work) -> list[ObjectId]:
        found = {
            identify(obj, work.namespace): None
            for deployed in work.record.revisions
            for obj in deployed.objects
        }
        return [id for id in found if id.kind != "Namespace"]


@dataclass(frozen=True)
class RemovePVCs:
    """PVCs, and with them what is in them. Only where the operator named it."""

    name: str
    title: str
    which: Callable[[Object], bool]
    secrets: tuple[str, ...] = ()
    """Kept Secrets that are worth nothing without it."""

    def needed(self, work: Work) -> bool:
        return bool(self._names(work)) or bool(self._secrets(work))

    def run(self, work: Work) -> str:
        names = self._names(work)
        for name in names:
            work.cluster.delete("v1", "PersistentVolumeClaim", name, work.namespace)
        wait_until_gone(work, self.title.lower(), lambda: self._pvcs(work))
        for name in self._secrets(work):
            work.cluster.delete("v1", "Secret", name, work.namespace)
        gone = {f"PersistentVolumeClaim/{name}" for name in names} | {
            f"Secret/{name}" for name in self.secrets
        }
        work.write(replace(work.record, kept=tuple(one for one in work.record.kept if one not in gone)))
        return f"{counted(len(names), 'PVC')} deleted with what was in {'it' if len(names) == 1 else 'them'}"

    def _pvcs(self, work: Work) -> list[Object]:
        return [
            one for one in work.cluster.find("v1", "PersistentVolumeClaim", work.namespace) if self.which(one)
        ]

    def _names(self, work: Work) -> list[str]:
        return [name_of(one) for one in self._pvcs(work)]

    def _secrets(self, work: Work) -> list[str]:
        return [name for name in self.secrets if f"Secret/{name}" in work.record.kept]


@dataclass(frozen=True)
class RemoveCrds:
    """The charts' CRDs, where no object of them lives anywhere and nobody else brought them."""

    name: str = "crds"
    title: str = "CustomResourceDefinitions"

    def needed(self, work: Work) -> bool:
        return bool(self._ours(work))

    def run(self, work: Work) -> str:
        ours = self._ours(work)
        used = [name_of(one) for one in ours if has_objects(work, one)]
        if used:
            raise Refused(
                f"objects of {listed(used)} live in this cluster, and would go with their CRDs",
                expected="CRDs without objects",
                fix=f"see them: kubectl get {used[0]} -A; leave out --delete-crds to keep both",
            )
        for crd in ours:
            work.cluster.delete(CRD_API, CRD_KIND, name_of(crd))
        names = {name_of(one) for one in ours}
        wait_until_gone(
            work,
            "crds",
            lambda: [one for one in work.cluster.find(CRD_API, CRD_KIND) if name_of(one) in names],
        )
        return f"{len(ours)} deleted"

    def _ours(self, work: Work) -> list[Object]:
        return [
            crd
            for crd in work.cluster.find(CRD_API, CRD_KIND)
            if (crd.get("spec") or {}).get("group") in CRD_GROUPS
            and (name_of(crd) in work.options.adopt or not crd_owner(crd, place_of(work)))
        ]


@dataclass(frozen=True)
class Uninstalled:
    """What was done, and what is left."""

    result: Result
    left: Remains = field(default_factory=Remains)


def uninstall_steps(also: Also, releases: Iterable[str]) -> tuple[Step, ...]:
    """In order: what runs, the gateway before the hub, then what is left over, then what was named."""
    steps: list[Step] = [StopClusters(), *map(RemoveRelease, releases), StopServers(), RemoveObjects()]
    if also.homes:
        steps.append(RemovePVCs("homes", "Homes", is_home))
    if also.database:
        steps.append(
            RemovePVCs(
                "database",
                "The hub's database",
                lambda pvc: name_of(pvc) == DATABASE_PVC,
                tuple(name for kind, name in PROTECTED if kind == "Secret"),
            )
        )
    if also.crds:
        steps.append(RemoveCrds())
    return tuple(steps)


def uninstall(
    work: Work,
    also: Also = Also(),
    *,
    watch: Watcher = lambda step, moment: None,
) -> Uninstalled:
    """Removes the releases and tidehub's own objects. Homes, database, CRDs and namespace stay unless in `also`.

    Only what tidehub brought about is touched. Raises `UsageError` where there is nothing of tidehub's, `Refused`,
    `Failure`, `Interrupted`, `Locked`.
    """
    found = work.cluster.get("v1", "Namespace", work.namespace)
    if found is None:
        return Uninstalled(Result("uninstall", work.namespace, False, 0, 0.0))
    if meta_of(found).get("deletionTimestamp"):
        if not also.namespace:
            raise NamespaceEnding(work.namespace, keeps(found))
        return Uninstalled(_without_namespace(work, time.monotonic()))
    record = read_record(work.cluster, work.namespace)
    work.record = record or Record()
    there = [name for name, one in place_of(work).releases.items() if one.chart in ROLES]
    if record is None and not work.options.adopt & set(there):
        raise UsageError(
            f"tidehub did not deploy anything in the namespace {work.namespace}"
            + (f"; {listed(there)} was made by somebody else" if there else ""),
            expected=f"a namespace that `{program.command('deploy')}` made",
            fix="look at kubernetes.namespace, --kubeconfig and --context"
            + (f", or name it: {' '.join(f'--adopt {name}' for name in there)}" if there else ""),
        )

    def checks(work: Work) -> None:
        place, ours = place_of(work), our_releases(work)
        hubs = {
            name: one.chart for name, one in place.releases.items() if ROLES.get(one.chart, set()) & PLATFORM
        }
        refuse(
            work, [release_verdict(name, chart, place) for name, chart in hubs.items() if name not in ours]
        )
        if also.namespace:
            _check_namespace(work, also)

    left: list[Remains] = []

    def finish(work: Work, record: Record) -> Record | None:
        left.append(remains(work))
        if also.namespace or record.kept or left[0].homes:
            return replace(record, revisions=(), releases=())
        work.cluster.delete("v1", "ConfigMap", NAME, work.namespace)
        return None

    began = time.monotonic()
    result = run_steps(
        work,
        "uninstall",
        uninstall_steps(also, our_releases(work)),
        ensure_namespace=lambda work: None,
        checks=checks,
        finish=finish,
        watch=watch,
        always=True,
    )
    if also.namespace:
        gone = _without_namespace(work, began)
        return Uninstalled(replace(gone, journal=result.journal), Remains(crds=left[0].crds))
    if not (left[0].homes or work.record.kept):
        # The last trace; after the lock was given back, and harmless where it stays.
        with contextlib.suppress(ClusterProblem):
            work.cluster.delete(LEASE_API, "Lease", LEASE, work.namespace)
    return Uninstalled(result, left[0])


def our_releases(work: Work) -> list[str]:
    """Releases that tidehub made or the operator named: the hub's last, for its servers need the others."""
    place = place_of(work)
    names = {name for name in place.releases if name in place.made | place.adopt} | place.made
    hub = {name for name, one in place.releases.items() if "hub" in ROLES.get(one.chart, ())}
    return sorted(names, key=lambda name: (name in hub, name))


def wait_until_gone(work: Work, what: str, left: Callable[[], list[Object]]) -> None:
    """Raises `Stuck` naming the finalizers of what does not go."""
    deadline = time.monotonic() + min(GONE, work.options.timeout)
    while objects := left():
        if time.monotonic() > deadline:
            raise Stuck(
                f"{what} are being deleted and do not go: {listed(name_of(one) for one in objects)}",
                held(objects),
                "end what still uses them (kubectl describe says what); the controller of a finalizer has to run",
            )
        work.ensure()
        pause(work.options.poll)


def _check_namespace(work: Work, also: Also) -> None:
    there = remains(work)
    lost = [
        *(() if also.homes else there.homes),
        *(() if also.database else there.database),
        *there.other_pvcs,
    ]
    if lost:
        raise Refused(
            f"the namespace {work.namespace} holds {counted(len(lost), 'PVC')} ({listed(lost, 4)}), which would go "
            "with it",
            expected="a namespace in which nothing is left that was not named",
            fix="name it too (--delete-homes, --delete-database), or delete other PVCs yourself",
        )


def _without_namespace(work: Work, began: float) -> Result:
    work.say.step(f"Deleting the namespace {work.namespace}")
    try:
        work.cluster.delete("v1", "Namespace", work.namespace)
    except ClusterProblem as problem:
        # It is being deleted already.
        if problem.reason != "conflict":
            raise
    deadline = time.monotonic() + min(GONE, work.options.timeout)
    while (found := work.cluster.get("v1", "Namespace", work.namespace)) is not None:
        if time.monotonic() > deadline:
            raise Stuck(
                f"the namespace {work.namespace} is being deleted, and something in it does not go after "
                f"{span(time.monotonic() - began)}",
                keeps(found),
                "the lines above name the finalizers; the controllers that they belong to have to run, or whoever is "
                "sure that nothing is lost removes them",
            )
        pause(work.options.poll)
    work.say.done(f"Namespace {work.namespace}: deleted")
    return Result("uninstall", work.namespace, True, 0, time.monotonic() - began)
