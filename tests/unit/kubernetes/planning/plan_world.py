"""A cluster and a Helm in memory, as far as a plan asks them."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from tidehub.charts.fetch import ChartArchive
from tidehub.helm.engine import Applied, ReleaseRecord, Revision
from tidehub.helm.problems import HelmProblem, ReleaseNotFound
from tidehub.kubernetes.cluster.port import ClusterProblem, Reason, ServedKind
from tidehub.kubernetes.deploying.record import Record
from tidehub.kubernetes.deploying.record import config_map as record_map
from tidehub.kubernetes.deploying.steps.releases import wanted_state
from tidehub.kubernetes.objects import ObjectId, identify, write_manifest
from tidehub.kubernetes.planning.model import Plan
from tidehub.kubernetes.planning.plan import plan
from tidehub.kubernetes.releases import Platform, Release
from tidehub.kubernetes.rendering.model import Rendered, RenderedRelease
from tidehub.site.model import Site
from tidehub.site.reading.load import load_preset

Object = dict[str, Any]
NAMESPACE = "hub"
KINDS = {
    "v1": ("ConfigMap", "Namespace", "PersistentVolumeClaim", "Secret", "Service", "ServiceAccount"),
    "apps/v1": ("Deployment", "StatefulSet"),
    "networking.k8s.io/v1": ("Ingress", "NetworkPolicy"),
    "apiextensions.k8s.io/v1": ("CustomResourceDefinition",),
}


class MemoryCluster:
    """Objects by id. Every write without `dry_run` fails the test."""

    name = "memory"

    def __init__(self, objects: Iterable[Object] = (), kinds: Mapping[str, tuple[str, ...]] = KINDS) -> None:
        self.objects: dict[ObjectId, Object] = {}
        self.kinds = dict(kinds)
        self.refusals: dict[tuple[str, str], ClusterProblem] = {}
        """By verb and the object's name."""
        self.asked: list[tuple[str, str]] = []
        self._lock = threading.Lock()
        self.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}, *objects)

    def put(self, *objects: Object) -> None:
        for obj in objects:
            live = deepcopy(obj)
            live["metadata"].setdefault("uid", "1")
            self.objects[identify(live, NAMESPACE)] = live

    def refuse(self, verb: str, name: str, what: str, reason: Reason = "invalid") -> None:
        self.refusals[verb, name] = ClusterProblem(what, reason=reason)

    def served(self) -> tuple[ServedKind, ...]:
        return tuple(
            ServedKind(version, kind, f"{kind.lower()}s", True)
            for version, kinds in self.kinds.items()
            for kind in kinds
        )

    def get(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> Object | None:
        self._ask("get", name)
        found = self.objects.get(ObjectId(api_version, kind, namespace, name))
        return None if found is None else deepcopy(found)

    def find(self, api_version: str, kind: str, namespace: str | None = None, **_: Any) -> list[Object]:
        self._ask("find", kind)
        return [
            deepcopy(obj)
            for id, obj in self.objects.items()
            if (id.api_version, id.kind) == (api_version, kind) and namespace in (None, id.namespace)
        ]

    def create(self, obj: Object, namespace: str | None = None, *, dry_run: bool = False) -> Object:
        assert dry_run
        self._ask("create", obj["metadata"]["name"])
        return deepcopy(obj)

    def apply(
        self, obj: Object, namespace: str | None = None, *, dry_run: bool = False, force: bool = False
    ) -> Object:
        assert dry_run and force
        self._ask("apply", obj["metadata"]["name"])
        return _patched(self.objects.get(identify(obj, NAMESPACE), {}), obj)

    def patch(
        self,
        api_version: str,
        kind: str,
        name: str,
        patch: Object,
        namespace: str | None = None,
        *,
        dry_run: bool = False,
    ) -> Object:
        assert dry_run
        self._ask("patch", name)
        return _patched(self.objects[ObjectId(api_version, kind, namespace, name)], patch)

    def delete(
        self, api_version: str, kind: str, name: str, namespace: str | None = None, *, dry_run: bool = False, **_: Any
    ) -> bool:  # fmt: skip
        assert dry_run
        self._ask("delete", name)
        return True

    def _ask(self, verb: str, name: str) -> None:
        with self._lock:
            self.asked.append((verb, name))
        if problem := self.refusals.get((verb, name)):
            raise problem


class MemoryHelm:
    """Releases with their manifests."""

    def __init__(self) -> None:
        self.records: dict[str, ReleaseRecord] = {}
        self.manifests: dict[tuple[str, int | None], str] = {}
        self.revisions: dict[str, tuple[Revision, ...]] = {}
        self.server_render = ""
        """What a render against the cluster gives."""
        self.asked_server: list[str] = []
        self.problem: HelmProblem | None = None

    def has(
        self, name: str, objects: Iterable[Object], *, chart: str = "", version: str = "4.4.0", status: str = "deployed"
    ) -> None:  # fmt: skip
        self.records[name] = ReleaseRecord(name, NAMESPACE, 1, status, chart or name, version, "5.5.0")
        self.manifests[name, None] = write_manifest(objects)

    def upgrade_install(
        self, chart: Path, values: Mapping[str, Any], *, release: str, dry_run: str = "none", **_: Any
    ) -> Applied:
        assert dry_run == "server"
        self.asked_server.append(release)
        if self.problem is not None:
            raise self.problem
        return Applied(self.records[release], self.server_render)

    def list(self, namespace: str) -> tuple[ReleaseRecord, ...]:
        return tuple(self.records.values())

    def history(self, release: str, namespace: str) -> tuple[Revision, ...]:
        return self.revisions.get(release, ())

    def manifest(self, release: str, namespace: str, revision: int | None = None) -> str:
        if (release, revision) not in self.manifests:
            raise ReleaseNotFound(f"no release {release}")
        return self.manifests[release, revision]


class World:
    """One site of one release, `jupyterhub`, as it is and as it should be."""

    def __init__(
        self, *, model: str = "split", version: str = "4.4.0", secrets: Mapping[str, Any] | None = None
    ) -> None:
        self.cluster = MemoryCluster()
        self.helm = MemoryHelm()
        self.model = model
        self.version = version
        self.secrets = dict(secrets or {})
        self.values: dict[str, Any] = {}
        self.record = Record()
        self.own: list[Object] = []
        self.crds: list[Object] = []
        self.hooks: list[Object] = []

    def deployed(self, *objects: Object, version: str = "4.4.0", chart: str = "jupyterhub") -> None:
        """These were installed by tidehub's last deployment, and are live as it made them."""
        release = Release("jupyterhub", chart, version, self.values, self.secrets)
        self.record = Record(releases=(wanted_state(RenderedRelease(release, archive(version), objects)),))
        self.cluster.put(record_map(self.record, NAMESPACE))
        self.helm.has("jupyterhub", objects, chart=chart, version=version)
        self.cluster.put(*(helms(obj) for obj in objects))

    def rendered(self, *objects: Object) -> Rendered:
        release = Release("jupyterhub", "jupyterhub", self.version, self.values, self.secrets)
        platform = Platform(site(), NAMESPACE, "2026.11", self.model, (release,), tuple(self.own))
        made = RenderedRelease(release, archive(self.version), objects, tuple(self.hooks), tuple(self.crds))
        return Rendered(platform, (made,), tuple(self.own), "v1.34.0")

    def plan(
        self, *objects: Object, looked_up: Iterable[Object] | None = None, adopt: Iterable[str] = ()
    ) -> Plan:
        """`looked_up` is the render with what the chart finds in the cluster; without, it looks nothing up."""
        self.helm.server_render = write_manifest(objects if looked_up is None else looked_up)
        return plan(self.rendered(*objects), self.cluster, self.helm, adopt=adopt)  # type: ignore[arg-type]


def archive(version: str) -> ChartArchive:
    return ChartArchive("jupyterhub", version, Path("jupyterhub.tgz"), "0" * 64)


def site() -> Site:
    return load_preset("protocoast", overrides=(("site.url", "https://hub.example.org"),), environ={}).site


def helms(obj: Object, release: str = "jupyterhub", namespace: str = NAMESPACE) -> Object:
    """The object with Helm's marks."""
    live = deepcopy(obj)
    meta = live["metadata"]
    meta["labels"] = {**meta.get("labels", {}), "app.kubernetes.io/managed-by": "Helm"}
    meta["annotations"] = {
        **meta.get("annotations", {}),
        "meta.helm.sh/release-name": release,
        "meta.helm.sh/release-namespace": namespace,
    }
    return live


def config_map(name: str = "hub", **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def secret(name: str = "hub", **data: str) -> Object:
    coded = {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": coded}


def hub_values(chart: str = "4.4.0", **sections: Any) -> Object:
    """The jupyterhub chart's Secret with its values."""
    about = {"Name": "jupyterhub", "Version": chart}
    values = {"Chart": about, "hub": {}, "singleuser": {"storage": {"type": "dynamic"}}, **sections}
    return secret("hub", **{"values.yaml": json.dumps(values)})


def pvc(
    name: str = "hub-db-dir", size: str = "1Gi", storage_class: str | None = "fast", **annotations: str
) -> Object:
    spec: Object = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    if storage_class:
        spec["storageClassName"] = storage_class
    meta: Object = {"name": name, "labels": {"component": "hub"}}
    if annotations:
        meta["annotations"] = {
            "helm.sh/resource-policy" if key == "policy" else key: value for key, value in annotations.items()
        }
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec}


def deployment(
    name: str = "hub",
    component: str = "hub",
    image: str = "hub:1",
    app: str = "jupyterhub",
    checksum: str = "a",
) -> Object:
    labels = {"app": app, "component": component}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"component": component}},
            "template": {
                "metadata": {"labels": labels, "annotations": {"checksum/secret": checksum}},
                "spec": {"containers": [{"name": component, "image": image}]},
            },
        },
    }  # fmt: skip


def crd(plural: str, group: str, *versions: str, **annotations: str) -> Object:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}", **({"annotations": annotations} if annotations else {})},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": plural.capitalize(), "plural": plural},
            "versions": [{"name": name, "served": True, "storage": True, "schema": {}} for name in versions],
        },
    }


def _patched(obj: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return deepcopy(patch)
    result = dict(obj) if isinstance(obj, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _patched(result.get(key), value)
    return result
