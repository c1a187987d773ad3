"""A site of stand-in charts on the test cluster: rendered, deployed, looked at."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from local_cluster import LocalCluster
from standin_charts import StandinCharts

from tidehub.charts.fetch import ChartArchive
from tidehub.helm.command_line import HelmCommandLine
from tidehub.helm.program import find_helm
from tidehub.kubernetes.cluster.connection import connect
from tidehub.kubernetes.cluster.port import Cluster
from tidehub.kubernetes.deploying.record import Record, read_record
from tidehub.kubernetes.deploying.running import Options, Work
from tidehub.kubernetes.deploying.words import Commands
from tidehub.kubernetes.objects import Object
from tidehub.kubernetes.releases import Platform, Release
from tidehub.kubernetes.rendering.model import Rendered
from tidehub.kubernetes.rendering.render import render
from tidehub.secrets.secret import Secret
from tidehub.site.reading.load import load_preset

CURRENT = (("jupyterhub", "4.4.0"), ("dask-gateway", "2026.3.0"))
OLD = (("jupyterhub", "3.3.8"), ("dask-gateway", "2022.6.1"))
DASKHUB = (("daskhub", "2024.1.1"),)
QUICK = Options(timeout=45, check=False, poll=0.1, outage=3)
STORAGE = {"hub": {"db": {"pvc": {"storageClassName": "homes"}}}}


class Listener:
    """Remembers what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def step(self, text: str) -> None:
        self.said.append(f"step {text}")

    def done(self, text: str) -> None:
        self.said.append(f"done {text}")

    def note(self, text: str) -> None:
        self.said.append(f"note {text}")

    def warn(self, text: str) -> None:
        self.said.append(f"warn {text}")

    @property
    def text(self) -> str:
        return "\n".join(self.said)


@dataclass
class SiteOnCluster:
    """One namespace and what is wanted there. Everything is read anew for each call, as by a new process."""

    kubeconfig: Path
    namespace: str
    charts: Path
    program: Path
    local: LocalCluster | None = None
    options: Options = QUICK
    values: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Of a release, over those that make the stand-in fit the test cluster."""
    objects: tuple[Object, ...] = ()
    listener: Listener = field(default_factory=Listener)

    @classmethod
    def on(cls, cluster: LocalCluster, namespace: str, charts: StandinCharts, program: Path) -> SiteOnCluster:
        return cls(cluster.kubeconfig, namespace, charts.directory, program, cluster)

    def cluster(self, kubeconfig: Path | None = None, seconds: float = 10) -> Cluster:
        return connect(str(kubeconfig or self.kubeconfig), seconds=seconds)

    def helm(self, kubeconfig: Path | None = None) -> HelmCommandLine:
        return HelmCommandLine(
            find_helm({"TIDEHUB_HELM": str(self.program)}), kubeconfig=str(kubeconfig or self.kubeconfig)
        )

    def work(self, operation: str = "deploy", kubeconfig: Path | None = None, **options: Any) -> Work:
        return Work(
            self.cluster(kubeconfig),
            self.helm(kubeconfig),
            self.namespace,
            self.listener,
            replace(self.options, **options),
            Commands(operation),
        )

    def rendered(self, charts: Iterable[tuple[str, str]] = CURRENT, model: str = "split") -> Rendered:
        charts = tuple(charts)
        site = load_preset("laptop").site
        platform = Platform(
            site, self.namespace, "2026.11", model, tuple(self._release(*one) for one in charts), self.objects
        )
        archives = {
            name: ChartArchive(
                name, version, self.charts / f"{name}-{version}.tgz", f"sha-of-{name}-{version}"
            )
            for name, version in charts
        }
        cluster = self.cluster()
        return render(
            platform,
            archives,
            self.helm(),
            kube_version=cluster.version(),
            api_versions=cluster.api_versions(),
        )

    def record(self) -> Record:
        found = read_record(self.cluster(), self.namespace)
        assert found is not None
        return found

    def revisions(self) -> dict[str, int]:
        """Helm's newest revision of each release."""
        return {one.name: one.revision for one in self.helm().list(self.namespace)}

    def _release(self, chart: str, version: str) -> Release:
        given = dict(self.values.get(chart, {}))
        plain: dict[str, Any] = {}
        hidden: dict[str, Any] = {}
        if chart == "jupyterhub":
            plain, hidden = {**STORAGE}, {"proxy": {"secretToken": Secret("a" * 64)}}
        elif chart == "daskhub":
            plain, hidden = (
                {"jupyterhub": STORAGE},
                {"jupyterhub": {"proxy": {"secretToken": Secret("a" * 64)}}},
            )
        return Release(chart, chart, version, {**plain, **given}, hidden)


def put_database(cluster: LocalCluster, revision: str) -> None:
    """A hub's database of that schema on the hub's volume."""
    for one in cluster.hub_volume.iterdir():
        one.unlink()
    with closing(sqlite3.connect(cluster.hub_volume / "jupyterhub.sqlite")) as database, database:
        database.execute("CREATE TABLE alembic_version (version_num TEXT)")
        database.execute("INSERT INTO alembic_version VALUES (?)", (revision,))


def schema_on_volume(cluster: LocalCluster) -> str:
    """The schema of the database that is there now."""
    with closing(sqlite3.connect(cluster.hub_volume / "jupyterhub.sqlite")) as database:
        return str(database.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def home(user: str, storage_class: str = "homes") -> dict[str, Any]:
    """A PVC as KubeSpawner makes it."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": f"claim-{user}",
            "labels": {"app": "jupyterhub", "component": "singleuser-storage"},
            "annotations": {"hub.jupyter.org/username": user, "hub.jupyter.org/servername": ""},
        },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": storage_class,
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
