"""Copies of a namespace and of the hub's database: what deploying asks of `tidehub.backup`, imported when asked."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tidehub.errors import TidehubError, UsageError
from tidehub.kubernetes.deploying.ending import pause
from tidehub.kubernetes.deploying.observed import meta_of
from tidehub.kubernetes.deploying.pods import is_ready
from tidehub.kubernetes.deploying.running import Work
from tidehub.kubernetes.deploying.words import span
from tidehub.system.sqlite import File

BackUp = Callable[[Work, Path, bool], str]
"""Writes a backup to that file, with or without the hub's database; what is in it, in words."""
HUB = ("apps/v1", "Deployment", "hub")
_HUB_PODS = "component=hub"


def back_up(work: Work, path: Path, database: bool) -> str:
    """A backup as `tidehub backup` writes it. Raises `TidehubError`."""
    from tidehub.backup.cluster import back_up_cluster

    made = back_up_cluster(
        work.cluster,
        work.helm,
        work.namespace,
        path,
        database=database,
        step=lambda text: work.say.step(f"Copy: {text}"),
    )
    return "with the hub's database" if made.database else "without the hub's database"


def database_in(path: Path) -> bytes:
    """The hub's database in a backup. Raises `UsageError` for a file that holds none."""
    from tidehub.backup.cluster import DATABASE
    from tidehub.backup.container import BackupReader

    reader = BackupReader(path)
    reader.check()
    kept = reader.files().get(DATABASE)
    if kept is None:
        raise UsageError(
            f"{path} holds no database of a hub", expected="a backup that was made with the hub's database"
        )
    return kept.content


def schema_of(database: bytes) -> str | None:
    """The schema revision of a hub's SQLite database; None where it has none."""
    try:
        with File(database, "the hub's database", "restore an older backup").reading() as connection:
            rows = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    except TidehubError:
        return None
    return str(rows[0][0]) if rows else None


def put_database_back(work: Work, database: bytes) -> str:
    """Stops the hub and puts a database on its volume; the older one stays beside it. The hub stays stopped."""
    from tidehub.backup.hub_pod import HubPod, write_database

    deployment = work.cluster.get(*HUB, work.namespace)
    pod = HubPod.of(deployment) if deployment else None
    if pod is None:
        raise TidehubError(
            "no hub with a volume of its own was found here, so its database has no place",
            fix="an external database is put back by its own means",
        )
    work.cluster.patch(*HUB, {"spec": {"replicas": 0}}, work.namespace)
    deadline = time.monotonic() + work.options.timeout
    while work.cluster.find("v1", "Pod", work.namespace, labels=_HUB_PODS):
        if time.monotonic() > deadline:
            raise TidehubError(
                f"the hub did not stop within {span(work.options.timeout)}", fix="see kubectl describe pod"
            )
        work.ensure()
        pause(work.options.poll)
    kept = write_database(work.cluster, work.namespace, pod, database)
    return f"put back; the later one stays on the volume as {kept}" if kept else "put back"


def has_hub(work: Work) -> bool:
    """Whether there is a hub, running or not."""
    return work.cluster.get(*HUB, work.namespace) is not None


def hub_runs(work: Work) -> bool:
    """Whether a hub runs and is ready."""
    return any(is_ready(pod) for pod in work.cluster.find("v1", "Pod", work.namespace, labels=_HUB_PODS))


def has_database(work: Work) -> bool:
    """Whether the hub has a volume for its database here."""
    pvc = work.cluster.get("v1", "PersistentVolumeClaim", "hub-db-dir", work.namespace)
    return pvc is not None and not meta_of(pvc).get("deletionTimestamp")
