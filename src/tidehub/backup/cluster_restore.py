"""A backup of a platform on Kubernetes into an empty namespace: PVCs on their volumes, then the hub's database.

The releases themselves come back with `tidehub deploy`. Each step finds what an interrupted restore already made.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tidehub import program
from tidehub.backup import hub_pod
from tidehub.backup.cluster import DATABASE, HELM_TYPE, HUB_POD, PVCS, TARGET
from tidehub.backup.container import BackupReader, Kept
from tidehub.backup.missing import Missing
from tidehub.backup.site_files import put_site_files, site_files
from tidehub.errors import TidehubError
from tidehub.kubernetes.cluster.port import Cluster
from tidehub.kubernetes.objects import Object

MARK = "tidehub/restored-from"
"""Annotation of what a restore made, with the sum of its backup's manifest."""
_BOUND_SECONDS = 120.0
_POLL = 0.5
_OF_A_BINDING = (
    "pv.kubernetes.io/",
    "volume.kubernetes.io/",
    "volume.beta.kubernetes.io/",
    "kubectl.kubernetes.io/",
)


@dataclass(frozen=True)
class ClusterRestored:
    """What came back."""

    namespace: str
    found: tuple[str, ...]
    """PVCs on the volumes that the cluster still had."""
    reattached: tuple[str, ...]
    empty: tuple[str, ...]
    database: bool
    set_aside: str
    """Name of an older database on the hub's volume, which was kept."""
    site_files: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


@dataclass(frozen=True)
class _PVC:
    wanted: Object
    volume: Object | None
    live: Object | None
    """The volume as the cluster has it."""

    @property
    def name(self) -> str:
        return str(self.wanted["metadata"]["name"])

    @property
    def volume_name(self) -> str:
        return str(self.wanted["spec"].get("volumeName") or "")


def restore_cluster(
    backup: Path,
    cluster: Cluster,
    *,
    namespace: str | None = None,
    missing: Missing = Missing.REFUSE,
    site_into: Path | None = None,
    step: Callable[[str], None] = lambda text: None,
) -> ClusterRestored:
    """Make PVCs and database from `backup` in `namespace`, by default the one it was taken from.

    Raises `TidehubError`; what was made until then stays, and the same call goes on from there.
    """
    step("reading the backup")
    reader = BackupReader(backup)
    if reader.target != TARGET:
        raise TidehubError(
            f"{backup} is a backup of the target {reader.target}, and this would be a cluster",
            fix=f"restore it with `{program.command('restore', '--target', 'machine')}`",
        )
    reader.check()
    files = reader.files()
    where = namespace or str(reader.manifest["namespace"])
    mark = files[PVCS].sum[:16]
    _refuse_unfit(cluster, where, mark)
    to_put = site_files(files, site_into)
    pvcs = [_pvc(cluster, entry) for entry in json.loads(files[PVCS].content)]
    plan = _decided(pvcs, where, missing, mark)
    step("making the PVCs")
    _ensure_namespace(cluster, where)
    for pvc in pvcs:
        _bring_back(cluster, pvc, where, mark, reattach=pvc.name in plan["reattached"])
    _await_bound(cluster, where, [pvc.name for pvc in pvcs if pvc.name not in plan["empty"]], step)
    set_aside = _database(cluster, where, files, step)
    put_site_files(to_put)
    return ClusterRestored(
        where,
        tuple(plan["found"]),
        tuple(plan["reattached"]),
        tuple(plan["empty"]),
        DATABASE in files,
        set_aside,
        tuple(str(path) for path in to_put),
    )


def _refuse_unfit(cluster: Cluster, namespace: str, mark: str) -> None:
    """A namespace with a platform in it is not restored into; what this restore made before does not count."""
    releases = [one for one in cluster.find("v1", "Secret", namespace) if one.get("type") == HELM_TYPE]
    pvcs = [
        one["metadata"]["name"]
        for one in cluster.find("v1", "PersistentVolumeClaim", namespace)
        if (one["metadata"].get("annotations") or {}).get(MARK) != mark
    ]
    if not releases and not pvcs:
        return
    held = f"the PVC {pvcs[0]}" if pvcs else "a Helm release"
    raise TidehubError(
        f"the namespace {namespace} holds {held}, and nothing is overwritten",
        expected="a namespace without releases and PVCs, or none",
        fix=f"restore into another one with --namespace, or remove what is there with `{program.command('uninstall')}`",
    )


def _pvc(cluster: Cluster, entry: Mapping[str, Any]) -> _PVC:
    wanted = entry["claim"]
    name = wanted["spec"].get("volumeName")
    return _PVC(wanted, entry["volume"], cluster.get("v1", "PersistentVolume", name) if name else None)


def _decided(pvcs: Sequence[_PVC], namespace: str, missing: Missing, mark: str) -> dict[str, list[str]]:
    """Which PVCs find their volume, are attached by handle, start empty. Raises for what was not decided."""
    plan: dict[str, list[str]] = {"found": [], "reattached": [], "empty": []}
    lost = []
    for pvc in pvcs:
        if pvc.live is not None:
            _refuse_taken(pvc, namespace)
            plan["found"].append(pvc.name)
        elif not pvc.volume_name:
            plan["empty"].append(pvc.name)
        elif missing is Missing.REFUSE or (missing is Missing.REATTACH and pvc.volume is None):
            lost.append(pvc.name)
        else:
            plan["reattached" if missing is Missing.REATTACH else "empty"].append(pvc.name)
    if lost:
        shown = ", ".join(lost[:5]) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
        unknown = missing is Missing.REATTACH
        raise TidehubError(
            f"the cluster does not have the volumes of {shown}"
            + (", nor does the backup" if unknown else ""),
            expected="a decision: nobody's home comes back empty by accident",
            fix="give --missing-volumes reattach where the disks still exist in the cloud, "
            "or --missing-volumes empty to begin with empty ones",
        )
    return plan


def _refuse_taken(pvc: _PVC, namespace: str) -> None:
    holder = ((pvc.live or {}).get("spec") or {}).get("claimRef") or {}
    bound = ((pvc.live or {}).get("status") or {}).get("phase") == "Bound"
    if bound and (holder.get("namespace"), holder.get("name")) != (namespace, pvc.name):
        raise TidehubError(
            f"the volume of {pvc.name} is in use by the PVC {holder.get('namespace')}/{holder.get('name')}",
            expected="a volume that is free",
            fix="remove that PVC first, with its volume's reclaim policy set to Retain",
        )


def _ensure_namespace(cluster: Cluster, namespace: str) -> None:
    if cluster.get("v1", "Namespace", namespace) is None:
        cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})


def _bring_back(cluster: Cluster, pvc: _PVC, namespace: str, mark: str, *, reattach: bool) -> None:
    if cluster.get("v1", "PersistentVolumeClaim", pvc.name, namespace) is not None:
        return
    reference = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "namespace": namespace,
        "name": pvc.name,
    }
    if pvc.live is not None:
        # A volume remembers the PVC it was bound to by its uid; without it, the new PVC of that name may have it.
        forget = {"uid": None, "resourceVersion": None}
        cluster.patch(
            "v1", "PersistentVolume", pvc.volume_name, {"spec": {"claimRef": {**reference, **forget}}}
        )
    elif reattach and pvc.volume is not None:
        cluster.create({**pvc.volume, "spec": {**pvc.volume["spec"], "claimRef": reference}})
    cluster.create(_wanted(pvc, namespace, mark, bound=pvc.live is not None or reattach), namespace)


def _wanted(pvc: _PVC, namespace: str, mark: str, *, bound: bool) -> Object:
    meta, spec = pvc.wanted["metadata"], dict(pvc.wanted["spec"])
    if not bound:
        spec.pop("volumeName", None)
    annotations = {
        key: value
        for key, value in (meta.get("annotations") or {}).items()
        if not key.startswith(_OF_A_BINDING)
    }
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": pvc.name,
            "namespace": namespace,
            "labels": meta.get("labels") or {},
            "annotations": {**annotations, MARK: mark},
        },
        "spec": spec,
    }


def _await_bound(cluster: Cluster, namespace: str, names: Sequence[str], step: Callable[[str], None]) -> None:
    """PVCs on named volumes bind at once; empty ones may wait for a pod."""
    until = time.monotonic() + _BOUND_SECONDS
    waiting = set(names)
    while waiting:
        phases = {
            one["metadata"]["name"]: (one.get("status") or {}).get("phase")
            for one in cluster.find("v1", "PersistentVolumeClaim", namespace)
        }
        waiting = {name for name in waiting if phases.get(name) != "Bound"}
        if waiting and time.monotonic() > until:
            raise TidehubError(
                f"the PVC {min(waiting)} does not bind to its volume",
                fix=f"see why: kubectl -n {namespace} describe pvc {min(waiting)}; then run the same command again",
            )
        if waiting:
            step(f"waiting for {len(waiting)} of {len(names)} PVCs")
            time.sleep(_POLL)


def _database(
    cluster: Cluster, namespace: str, files: Mapping[str, Kept], step: Callable[[str], None]
) -> str:
    if DATABASE not in files:
        return ""
    step("bringing back the hub's database")
    hub = hub_pod.HubPod(**json.loads(files[HUB_POD].content))
    return hub_pod.write_database(cluster, namespace, hub, files[DATABASE].content)
