"""A backup of a namespace, the loss of the namespace, and the way back, against a real API server."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from local_cluster import LocalCluster
from standin_charts import StandinCharts

from tidehub.backup.cluster import DATABASE, back_up_cluster
from tidehub.backup.cluster_restore import restore_cluster
from tidehub.backup.container import BackupReader
from tidehub.backup.missing import Missing
from tidehub.errors import TidehubError
from tidehub.helm.command_line import HelmCommandLine
from tidehub.helm.program import find_helm
from tidehub.kubernetes.cluster.connection import connect
from tidehub.kubernetes.cluster.port import Cluster

# What is tested is no matter of Helm's version: one of them is enough.
pytestmark = pytest.mark.parametrize("helm_program", [4], indirect=True, ids=["helm4"])
USERS = ("ana", "ben")
VALUES = {"hub": {"db": {"pvc": {"storageClassName": "homes"}}}}


class Installed:
    """The stand-in hub in a namespace, with two users' homes and a real database on its volume."""

    def __init__(self, cluster: LocalCluster, namespace: str, charts: StandinCharts, program: Path) -> None:
        self.local, self.namespace = cluster, namespace
        self.connection: Cluster = connect(str(cluster.kubeconfig))
        self.helm = HelmCommandLine(
            find_helm({"TIDEHUB_HELM": str(program)}), kubeconfig=str(cluster.kubeconfig), context=None
        )
        self.chart = charts.archive("jupyterhub", "4.4.0")
        self.database = cluster.hub_volume / "jupyterhub.sqlite"

    def install(self) -> None:
        self.helm.upgrade_install(
            self.chart, VALUES, release="jupyterhub", namespace=self.namespace, timeout=60, wait=True
        )

    def fill(self) -> None:
        for one in self.local.hub_volume.iterdir():
            one.unlink()
        with closing(sqlite3.connect(self.database)) as database, database:
            database.execute("CREATE TABLE users (name TEXT)")
            database.executemany("INSERT INTO users VALUES (?)", [(name,) for name in USERS])
        for name in USERS:
            self.connection.create(home(name), self.namespace)
        for name in ("hub-db-dir", *(f"claim-{user}" for user in USERS)):
            self.local.api.wait(f"{name} is bound", lambda name=name: self.volume_of(name))

    def volume_of(self, pvc: str) -> str | None:
        found = self.connection.get("v1", "PersistentVolumeClaim", pvc, self.namespace) or {}
        bound = (found.get("status") or {}).get("phase") == "Bound"
        return str(found["spec"]["volumeName"]) if bound else None

    def keep_volumes(self) -> None:
        for pvc in ("hub-db-dir", *(f"claim-{user}" for user in USERS)):
            patch = {"spec": {"persistentVolumeReclaimPolicy": "Retain"}}
            self.connection.patch("v1", "PersistentVolume", self.volume_of(pvc) or "", patch)

    def lose_namespace(self) -> None:
        # Pods first: for the sake of their grace, the namespace would look again only after 15 seconds.
        for deployment in self.connection.find("apps/v1", "Deployment", self.namespace):
            self.connection.delete("apps/v1", "Deployment", deployment["metadata"]["name"], self.namespace)
        self.local.api.wait(
            "the pods are gone", lambda: not self.connection.find("v1", "Pod", self.namespace)
        )
        self.connection.delete("v1", "Namespace", self.namespace)
        self.local.api.wait(
            "the namespace is gone",
            lambda: self.connection.get("v1", "Namespace", self.namespace) is None,
            patience=60,
        )

    def users(self) -> list[str]:
        with closing(sqlite3.connect(self.database)) as database:
            return [row[0] for row in database.execute("SELECT name FROM users ORDER BY name")]


def home(name: str) -> dict[str, Any]:
    """A PVC as KubeSpawner makes it."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": f"claim-{name}",
            "labels": {"app": "jupyterhub", "component": "singleuser-storage", "release": "jupyterhub"},
            "annotations": {"hub.jupyter.org/username": name, "hub.jupyter.org/servername": ""},
        },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "homes",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }


@pytest.fixture
def installed(
    cluster: LocalCluster, namespace: str, standin_charts: StandinCharts, helm_program: Path
) -> Iterator[Installed]:
    if not isinstance(cluster, LocalCluster):
        pytest.skip("the hub's volume of a given cluster cannot be looked into")
    cluster.storage_class("homes")
    one = Installed(cluster, namespace, standin_charts, helm_program)
    one.install()
    one.fill()
    yield one


def test_users_and_pvcs_come_back_after_the_loss_of_the_namespace(
    installed: Installed, tmp_path: Path
) -> None:
    installed.keep_volumes()
    volumes = {f"claim-{name}": installed.volume_of(f"claim-{name}") for name in USERS}
    database_volume = installed.volume_of("hub-db-dir")
    site = tmp_path / "tidehub.yaml"
    site.write_text("site: {name: X}\n")
    file = tmp_path / "b.tar.gz"
    made = back_up_cluster(
        installed.connection, installed.helm, installed.namespace, file, site_files=(site,)
    )
    assert (made.releases, made.pvcs, made.database) == (("jupyterhub",), 3, True)
    assert installed.connection.get("v1", "Pod", "tidehub-database", installed.namespace) is None

    installed.lose_namespace()
    installed.database.unlink()
    into = tmp_path / "back"
    into.mkdir()
    done = restore_cluster(file, installed.connection, site_into=into)
    assert set(done.found) == {"hub-db-dir", "claim-ana", "claim-ben"}
    assert (done.reattached, done.empty, done.set_aside) == ((), (), "")
    assert {pvc: installed.volume_of(pvc) for pvc in volumes} == volumes
    assert installed.volume_of("hub-db-dir") == database_volume
    assert installed.users() == ["ana", "ben"]
    assert (into / "tidehub.yaml").read_text() == "site: {name: X}\n"
    pvc = installed.connection.get("v1", "PersistentVolumeClaim", "claim-ana", installed.namespace)
    assert pvc is not None and pvc["metadata"]["annotations"]["hub.jupyter.org/username"] == "ana"

    installed.install()
    assert installed.volume_of("hub-db-dir") == database_volume, "the release takes the PVC that is there"


def test_an_interrupted_restore_goes_on(
    installed: Installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed.keep_volumes()
    file = tmp_path / "b.tar.gz"
    back_up_cluster(installed.connection, installed.helm, installed.namespace, file)
    installed.lose_namespace()
    real = installed.connection.create
    made: list[dict[str, Any]] = []

    def create(obj: dict[str, Any], *rest: Any, **named: Any) -> Any:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(obj)
        return real(obj, *rest, **named)

    monkeypatch.setattr(installed.connection, "create", create)
    with pytest.raises(KeyboardInterrupt):
        restore_cluster(file, installed.connection)
    monkeypatch.setattr(installed.connection, "create", real)
    done = restore_cluster(file, installed.connection)
    assert set(done.found) == {"hub-db-dir", "claim-ana", "claim-ben"}
    assert all(installed.volume_of(f"claim-{name}") for name in USERS)


def test_an_older_database_on_the_volume_is_kept(installed: Installed, tmp_path: Path) -> None:
    installed.keep_volumes()
    file = tmp_path / "b.tar.gz"
    back_up_cluster(installed.connection, installed.helm, installed.namespace, file)
    with closing(sqlite3.connect(installed.database)) as database, database:
        database.execute("INSERT INTO users VALUES ('new')")
    installed.lose_namespace()
    done = restore_cluster(file, installed.connection)
    assert installed.users() == ["ana", "ben"]
    assert done.set_aside.startswith("jupyterhub.sqlite.before-")
    with closing(sqlite3.connect(installed.local.hub_volume / done.set_aside)) as database:
        assert ("new",) in database.execute("SELECT name FROM users").fetchall()


def test_lost_volumes_need_a_decision(installed: Installed, tmp_path: Path) -> None:
    """With the reclaim policy Delete, the volumes go with the namespace."""
    file = tmp_path / "b.tar.gz"
    made = back_up_cluster(installed.connection, installed.helm, installed.namespace, file)
    assert any("reclaim policy Delete" in warning for warning in made.warnings)
    lost = {installed.volume_of(f"claim-{name}") for name in USERS}
    installed.lose_namespace()
    for name in lost:
        installed.connection.delete("v1", "PersistentVolume", str(name))
    installed.local.api.wait(
        "the volumes are gone",
        lambda: (
            not lost
            & {one["metadata"]["name"] for one in installed.connection.find("v1", "PersistentVolume")}
        ),
    )
    with pytest.raises(TidehubError, match="does not have the volumes of claim-ana"):
        restore_cluster(file, installed.connection)
    assert installed.connection.get("v1", "Namespace", installed.namespace) is None, "nothing was made"

    done = restore_cluster(file, installed.connection, missing=Missing.REATTACH)
    assert {"claim-ana", "claim-ben"} <= set(done.reattached)
    assert {installed.volume_of(f"claim-{name}") for name in USERS} == lost, (
        "volumes of the same names and handles"
    )
    assert installed.users() == ["ana", "ben"]


def test_a_namespace_in_use_is_not_restored_into(installed: Installed, tmp_path: Path) -> None:
    file = tmp_path / "b.tar.gz"
    back_up_cluster(installed.connection, installed.helm, installed.namespace, file)
    with pytest.raises(TidehubError, match="nothing is overwritten"):
        restore_cluster(file, installed.connection)


def test_a_hub_that_does_not_run_is_saved_through_a_pod_of_ours(installed: Installed, tmp_path: Path) -> None:
    installed.connection.patch("apps/v1", "Deployment", "hub", {"spec": {"replicas": 0}}, installed.namespace)
    installed.local.api.wait(
        "the hub has stopped",
        lambda: not installed.connection.find("v1", "Pod", installed.namespace, labels="component=hub"),
    )
    file = tmp_path / "b.tar.gz"
    back_up_cluster(installed.connection, installed.helm, installed.namespace, file)
    kept = BackupReader(file).files()[DATABASE]
    with closing(sqlite3.connect(":memory:")) as database:
        database.deserialize(kept.content)
        assert database.execute("SELECT count(*) FROM users").fetchone() == (2,)


def test_a_hub_that_crashes_is_saved_on_the_node_of_its_volume(
    installed: Installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pod on another node would wait for the volume for ever: Multi-Attach."""
    # A second container, for the simulated nodes go by the images, and the pod of a backup has the hub's.
    template = {"spec": {"containers": [{"name": "crashes", "image": "crash.invalid/one:1"}]}}
    patch = {"spec": {"strategy": {"type": "Recreate", "rollingUpdate": None}, "template": template}}
    api = installed.local.api
    path = f"/apis/apps/v1/namespaces/{installed.namespace}/deployments/hub"
    api.call("PATCH", path, patch, content_type="application/strategic-merge-patch+json")

    def crashed() -> str | None:
        for pod in api.list("Pod", installed.namespace):
            if "CrashLoopBackOff" in str(pod.get("status")) and "hub-" in pod["metadata"]["name"]:
                return str(pod["spec"]["nodeName"])
        return None

    node = api.wait("the hub crashes", crashed)
    create, made = installed.connection.create, []

    def remembered(obj: dict[str, Any], namespace: str | None = None, **more: Any) -> dict[str, Any]:
        made.append(create(obj, namespace, **more))
        return made[-1]

    monkeypatch.setattr(installed.connection, "create", remembered)
    file = tmp_path / "b.tar.gz"
    back_up_cluster(installed.connection, installed.helm, installed.namespace, file)
    assert DATABASE in BackupReader(file).files()
    (pod,) = [one for one in made if one["kind"] == "Pod"]
    terms = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    (field,) = terms["nodeSelectorTerms"][0]["matchFields"]
    assert (field["key"], field["values"]) == ("metadata.name", [node])


def test_a_damaged_database_is_said_and_no_file_is_left(installed: Installed, tmp_path: Path) -> None:
    installed.database.write_bytes(b"SQLite format 3\0" + bytes(100))
    with pytest.raises(TidehubError, match="cannot be read in pod"):
        back_up_cluster(installed.connection, installed.helm, installed.namespace, tmp_path / "b.tar.gz")
    assert list(tmp_path.iterdir()) == []


def test_what_a_backup_holds(installed: Installed, tmp_path: Path) -> None:
    file = tmp_path / "b.tar.gz"
    back_up_cluster(installed.connection, installed.helm, installed.namespace, file)
    reader = BackupReader(file)
    files = reader.files()
    secrets = {one["metadata"]["name"]: one for one in json.loads(files["secrets.json"].content)}
    assert "hub.config.JupyterHub.cookie_secret" in secrets["hub"]["data"]
    assert json.loads(files["releases/jupyterhub/values.json"].content) == VALUES
    assert b"kind: Deployment" in files["releases/jupyterhub/manifest.yaml"].content
    assert json.loads(files["helm.json"].content)[0]["type"] == "helm.sh/release.v1"
    assert "cookie_secret" not in json.dumps(reader.manifest)


def test_an_empty_namespace_has_nothing_to_save(
    cluster: LocalCluster, namespace: str, helm_program: Path
) -> None:
    helm = HelmCommandLine(find_helm({"TIDEHUB_HELM": str(helm_program)}), kubeconfig=str(cluster.kubeconfig))
    with pytest.raises(TidehubError, match="nothing is installed in the namespace"):
        back_up_cluster(connect(str(cluster.kubeconfig)), helm, namespace, Path("/nonexistent/b.tar.gz"))
