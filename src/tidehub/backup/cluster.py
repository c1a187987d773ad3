"""A platform on Kubernetes into a backup: the hub's database, keys, values, release records, PVCs and volumes.

Users' files are not in it: they lie on volumes, which the storage's own snapshots save. What is in it finds these
volumes again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidehub.backup import hub_pod
from tidehub.backup.container import BackupWriter, Kept
from tidehub.backup.site_files import SITE
from tidehub.errors import TidehubError
from tidehub.helm.engine import Helm, ReleaseRecord
from tidehub.kubernetes.cluster.port import Cluster, ClusterProblem
from tidehub.kubernetes.objects import Object

TARGET = "kubernetes"
DATABASE, HUB_POD, SECRETS, PVCS, RECORD = (
    "hub/jupyterhub.sqlite", "hub/pod.json", "secrets.json", "claims.json", "tidehub.json",
)  # fmt: skip
HELM_TYPE = "helm.sh/release.v1"
"""Type of the Secrets in which Helm keeps its records."""
RECORDS_KEPT = 3
"""Helm's records of each release, newest first: history, which a restore does not need."""
_SERVER_OWNED = ("managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink")


@dataclass(frozen=True)
class ClusterMade:
    """What a backup holds."""

    path: Path
    namespace: str
    releases: tuple[str, ...]
    pvcs: int
    database: bool
    warnings: tuple[str, ...] = ()


def back_up_cluster(
    cluster: Cluster,
    helm: Helm,
    namespace: str,
    output: Path,
    *,
    database: bool = True,
    site_files: Sequence[Path] = (),
    step: Callable[[str], None] = lambda text: None,
) -> ClusterMade:
    """Write the backup `output` of what is installed in `namespace`. Without `database`, the hub's is left out.

    Raises `TidehubError`; then there is no file.
    """
    step("reading what is installed")
    releases = helm.list(namespace)
    if not releases:
        raise TidehubError(
            f"nothing is installed in the namespace {namespace} of {cluster.name}",
            expected="the releases of a platform",
            fix="look at kubernetes.namespace, --kubeconfig and --context",
        )
    warnings: list[str] = []
    files = {name: _json(content) for name, content in _namespace(cluster, namespace, releases).items()}
    files |= _releases(helm, namespace, releases)
    pvcs = _pvcs(cluster, namespace, warnings)
    files[PVCS] = _json(pvcs)
    files |= {SITE + path.name: Kept(path.read_bytes(), path.stat().st_mode & 0o777) for path in site_files}
    with BackupWriter(output) as writer:
        kept = _database(cluster, namespace, warnings, step) if database else {}
        writer.start(
            {
                "target": TARGET,
                "cluster": cluster.name,
                "namespace": namespace,
                "releases": {one.name: f"{one.chart}-{one.chart_version}" for one in releases},
                "database": DATABASE in kept,
            },
            files | kept,
        )
    return ClusterMade(
        output, namespace, tuple(one.name for one in releases), len(pvcs), DATABASE in kept, tuple(warnings)
    )


def _namespace(cluster: Cluster, namespace: str, releases: Sequence[ReleaseRecord]) -> dict[str, Any]:
    """The Secrets of the releases, Helm's newest records, and tidehub's own record."""
    names = {one.name for one in releases}
    secrets, records = [], []
    for secret in cluster.find("v1", "Secret", namespace):
        if secret.get("type") == HELM_TYPE:
            records.append(secret)
        elif _release_of(secret) in names:
            secrets.append(clean(secret))
    records.sort(key=lambda one: _revision(one), reverse=True)
    newest: dict[str, list[Object]] = {}
    for one in records:
        newest.setdefault(str((one["metadata"].get("labels") or {}).get("name")), []).append(clean(one))
    record = cluster.get("v1", "ConfigMap", "tidehub", namespace)
    return {
        SECRETS: secrets,
        "helm.json": [one for history in newest.values() for one in history[:RECORDS_KEPT]],
        RECORD: clean(record) if record else None,
    }


def _releases(helm: Helm, namespace: str, releases: Sequence[ReleaseRecord]) -> dict[str, Kept]:
    files: dict[str, Kept] = {}
    for one in releases:
        files[f"releases/{one.name}/values.json"] = _json(helm.values(one.name, namespace))
        files[f"releases/{one.name}/manifest.yaml"] = Kept(helm.manifest(one.name, namespace).encode())
        about = {
            "chart": one.chart,
            "version": one.chart_version,
            "revision": one.revision,
            "status": one.status,
        }
        files[f"releases/{one.name}/release.json"] = _json(about)
    return files


def _pvcs(cluster: Cluster, namespace: str, warnings: list[str]) -> list[dict[str, Any]]:
    """Every PVC in the namespace, each with its volume where this user may read volumes."""
    pvcs = sorted(
        cluster.find("v1", "PersistentVolumeClaim", namespace), key=lambda one: one["metadata"]["name"]
    )
    volumes: dict[str, Object] = {}
    try:
        volumes = {one["metadata"]["name"]: one for one in cluster.find("v1", "PersistentVolume")}
    except ClusterProblem as problem:
        if problem.reason != "forbidden":
            raise
        warnings.append(
            "volumes cannot be read with these rights: PVCs are saved without their volumes' handles, so a "
            "restore finds only volumes that the cluster still has"
        )
    found = []
    for pvc in pvcs:
        volume = volumes.get(str(pvc["spec"].get("volumeName") or ""))
        policy = ((volume or {}).get("spec") or {}).get("persistentVolumeReclaimPolicy")
        if policy == "Delete":
            name = pvc["metadata"]["name"]
            warnings.append(
                f"the volume of {name} has the reclaim policy Delete: it goes with its PVC or namespace"
            )
        found.append({"claim": clean(pvc), "volume": clean(volume) if volume else None})
    return found


def _database(
    cluster: Cluster, namespace: str, warnings: list[str], step: Callable[[str], None]
) -> dict[str, Kept]:
    deployment = cluster.get("apps/v1", "Deployment", "hub", namespace)
    hub = hub_pod.HubPod.of(deployment) if deployment else None
    if hub is None:
        why = "its Deployment has no volume for it" if deployment else "there is no Deployment hub"
        raise TidehubError(
            f"the hub's database cannot be saved: {why}",
            expected="hub.db.type: sqlite-pvc",
            fix="save an external database by its own means (pg_dump), and take this backup with --no-database",
        )
    step("copying the hub's database")
    data = hub_pod.read_database(cluster, namespace, hub)
    return {DATABASE: Kept(data), HUB_POD: _json(hub.to_json())}


def clean(obj: Object) -> Object:
    """The object without what the server writes: what is left can be created again."""
    meta = {key: value for key, value in obj["metadata"].items() if key not in _SERVER_OWNED}
    return {key: value for key, value in {**obj, "metadata": meta}.items() if key != "status"}


def _release_of(obj: Object) -> str:
    return str((obj["metadata"].get("annotations") or {}).get("meta.helm.sh/release-name", ""))


def _revision(record: Object) -> int:
    version = str((record["metadata"].get("labels") or {}).get("version", "0"))
    return int(version) if version.isdigit() else 0


def _json(content: Any) -> Kept:
    return Kept((json.dumps(content, indent=1, sort_keys=True) + "\n").encode())
