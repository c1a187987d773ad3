"""A site that a test cluster is ready for, item by item, so that a test shows what one defect changes."""

from __future__ import annotations

import copy
import json
import secrets
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cluster_api import Api
from local_cluster import LocalCluster
from preflight_servers import LocalProvider, LocalRegistry, LoopbackNetwork

from tidehub.charts.fetch import ChartArchive
from tidehub.kubernetes.cluster.connection import connect
from tidehub.kubernetes.preflight.model import Context, Finding, Look
from tidehub.kubernetes.preflight.run import preflight
from tidehub.kubernetes.releases import Platform, Release
from tidehub.kubernetes.rendering.model import Rendered, RenderedRelease
from tidehub.site.reading.load import load

Object = dict[str, Any]
HOST = "hub.example.org"
ADDRESS = "192.0.2.80"
CLASS = "preflight-homes"
INGRESS = "preflight"
ISSUER = "preflight-issuer"
SIZES = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"cpu": "1", "memory": "512Mi"}}


def site_values(namespace: str, image: str) -> dict[str, Any]:
    """What the site file says."""
    return {
        "site": {"name": "Coast", "url": f"https://{HOST}/"},
        "login": {
            "provider": "oidc",
            "issuer": "https://login.example.org",
            "client_id": "hub",
            "allow": {"users": ["anna"]},
        },
        "notebooks": {
            "cpu": {"guarantee": 0.5, "limit": 2},
            "memory": {"guarantee": "1 GiB", "limit": "2 GiB"},
            "home": {"size": "10 GiB", "storage_class": CLASS},
            "profiles": [{"name": "Main", "default": True, "image": image}],
        },
        "hub": {"database": {"size": "1 GiB", "storage_class": CLASS}},
        "kubernetes": {
            "namespace": namespace,
            "exposure": {"kind": "ingress", "class": INGRESS, "issuer": ISSUER},
        },
    }


def objects(hub_image: str) -> list[Object]:
    """Objects as the chart of a hub has them, few and small."""
    labels = {"app": "jupyterhub", "component": "hub"}
    container = {"name": "hub", "image": hub_image, "resources": SIZES}
    pod = {"metadata": {"labels": labels}, "spec": {"serviceAccountName": "hub", "containers": [container]}}
    rbac = "rbac.authorization.k8s.io"
    pvc = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": CLASS,
        "resources": {"requests": {"storage": "1Gi"}},
    }
    backend = {"service": {"name": "proxy-public", "port": {"name": "http"}}}
    rule = {"host": HOST, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
    return [
        made("v1", "ServiceAccount", "hub"),
        made("v1", "Secret", "hub", stringData={"values.yaml": "{}"}),
        made("v1", "PersistentVolumeClaim", "hub-db-dir", spec=pvc),
        made(
            "v1",
            "Service",
            "proxy-public",
            spec={"ports": [{"name": "http", "port": 80}], "selector": labels},
        ),
        made(
            f"{rbac}/v1",
            "Role",
            "hub",
            rules=[
                {"apiGroups": [""], "resources": ["pods", "endpoints"], "verbs": ["get", "create", "delete"]}
            ],
        ),
        made(
            f"{rbac}/v1",
            "RoleBinding",
            "hub",
            roleRef={"apiGroup": rbac, "kind": "Role", "name": "hub"},
            subjects=[{"kind": "ServiceAccount", "name": "hub"}],
        ),
        made(
            "apps/v1",
            "Deployment",
            "hub",
            spec={"replicas": 1, "selector": {"matchLabels": labels}, "template": pod},
        ),
        made(
            "networking.k8s.io/v1",
            "Ingress",
            "jupyterhub",
            spec={"ingressClassName": INGRESS, "rules": [rule]},
        ),
    ]


def made(api_version: str, kind: str, name: str, **rest: Any) -> Object:
    """An object."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": name, **rest.pop("meta", {})},
        **rest,
    }


def crd(group: str, *versions: str, kind: str = "DaskCluster", plural: str = "daskclusters") -> Object:
    """A CRD that accepts any fields, the last version stored."""
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    approved = {"api-approved.kubernetes.io": "unapproved, test"} if group.endswith(".k8s.io") else {}
    return made(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        f"{plural}.{group}",
        meta={"annotations": approved},
        spec={
            "group": group,
            "scope": "Cluster" if kind in ("ClusterIssuer", "GatewayClass") else "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"},
            "versions": [
                {"name": one, "served": True, "storage": one == versions[-1], "schema": schema}
                for one in versions
            ],
        },
    )


@dataclass
class ReadySite:
    """One namespace of a cluster that has everything the site needs."""

    cluster: LocalCluster
    namespace: str
    folder: Path
    registry: LocalRegistry
    provider: LocalProvider
    helm: Path
    network: LoopbackNetwork = field(init=False)
    values: dict[str, Any] = field(init=False)
    objects: list[Object] = field(init=False)
    crds: list[Object] = field(default_factory=list)
    hooks: list[Object] = field(default_factory=list)
    kubernetes: str = ">=1.28.0-0"
    """The range of the chart."""
    kubeconfig: Path = field(init=False)
    _made: list[Object] = field(default_factory=list)

    def __post_init__(self) -> None:
        packages = {"jupyterhub": "5.5.4", "distributed": "2026.8.0", "dask": "2026.8.0"}
        image = self.registry.add(
            "coast/notebook:2026.11", installed=packages, architectures=("amd64", "arm64")
        )
        hub = self.registry.add("jupyterhub/k8s-hub:4.4.0")
        self.values, self.objects = site_values(self.namespace, image), objects(hub)
        self.kubeconfig = self.cluster.kubeconfig
        self.network = LoopbackNetwork(
            {self.provider.issuer: f"http://{self.provider.host}"}, {HOST: (ADDRESS,)}
        )

    @property
    def api(self) -> Api:
        """The administrator's client."""
        return self.cluster.api

    def create(self, *objects: Object) -> None:
        """Makes objects that go when the test ends, in this namespace where they name none."""
        for one in objects:
            self.api.create(one, self.namespace)
            self._made.append(one)

    def clean(self) -> None:
        """Takes away what `create` made."""
        for one in reversed(self._made):
            where = one["metadata"].get("namespace") or self.namespace
            finalizers = (one["metadata"].get("finalizers")) or []
            kind, name, version = one["kind"], one["metadata"]["name"], one["apiVersion"]
            if finalizers and self.api.get(kind, name, where, version=version):
                self.api.patch(kind, name, {"metadata": {"finalizers": None}}, where, version=version)
            self.api.delete(kind, name, where, version=version)
        self._made.clear()

    def object(self, kind: str) -> Object:
        """The rendered object of a kind, to be changed."""
        return next(one for one in self.objects if one["kind"] == kind)

    def context(self, **changes: Any) -> Context:
        """What items are given."""
        file = self.folder / "tidehub.yaml"
        file.write_text(json.dumps(self.values))
        site = load(file, environ={}).site
        connection = connect(str(self.kubeconfig), seconds=10)
        platform = Platform(site, self.namespace, "2026.11", "split", (_release(),), ())
        archive = ChartArchive("jupyterhub", "4.4.0", self._chart(), "0" * 64)
        rendered = Rendered(
            platform,
            (RenderedRelease(_release(), archive, tuple(self.objects), tuple(self.hooks), tuple(self.crds)),),
            kube_version=connection.version(),
        )
        context = Context(
            site=site,
            network=self.network,
            look=Look(connection),
            rendered=rendered,
            site_file=file,
            environ={"TIDEHUB_HELM": str(self.helm), **_SECRETS},
        )
        return replace(context, **changes)

    def findings(self, **changes: Any) -> list[Finding]:
        """What preflight finds."""
        return preflight(self.context(**changes), seconds=60)

    def troubles(self, **changes: Any) -> dict[str, Finding]:
        """What is not in order, by item."""
        return {one.item: one for one in self.findings(**changes) if one.state != "ok"}

    def only(self, item: str, state: str, *words: str, **changes: Any) -> Finding:
        """The one thing that is not in order; it must be this one, and say these words."""
        troubles = self.troubles(**changes)
        assert set(troubles) == {item}, [
            (one.item, one.state, one.what, one.evidence) for one in troubles.values()
        ]
        found = troubles[item]
        assert found.state == state, found
        assert found.fix, found
        told = "\n".join((found.what, found.fix, *found.evidence))
        assert [word for word in words if word not in told] == [], told
        return found

    def _chart(self) -> Path:
        folder = self.folder / "chart"
        folder.mkdir(exist_ok=True)
        chart = {"apiVersion": "v2", "name": "jupyterhub", "version": "4.4.0", "kubeVersion": self.kubernetes}
        (folder / "Chart.yaml").write_text(json.dumps(chart))
        return folder


def ready_objects() -> list[Object]:
    """What the cluster as a whole has to have."""
    nginx = {"controller": "example.org/ingress"}
    status = {"conditions": [{"type": "Ready", "status": "True"}]}
    return [
        made(
            "storage.k8s.io/v1",
            "StorageClass",
            CLASS,
            provisioner="example.org/disks",
            allowVolumeExpansion=True,
            volumeBindingMode="WaitForFirstConsumer",
        ),
        made("networking.k8s.io/v1", "IngressClass", INGRESS, spec=nginx),
        made("cert-manager.io/v1", "ClusterIssuer", ISSUER, spec={}, status=status),
        made(
            "v1",
            "Service",
            "kube-dns",
            meta={"namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}},
            spec={"ports": [{"port": 53}], "clusterIP": "None"},
        ),
        _endpoints("kube-dns", "kube-system"),
    ]


def elsewhere(namespace: str) -> Object:
    """An Ingress of somebody else, which shows the address of the class."""
    backend = {"service": {"name": "other", "port": {"number": 80}}}
    rule = {
        "host": "other.example.org",
        "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]},
    }
    return made(
        "networking.k8s.io/v1",
        "Ingress",
        "other",
        meta={"namespace": namespace},
        spec={"ingressClassName": INGRESS, "rules": [rule]},
    )


def release_record(
    name: str, chart: str, version: str, status: str, namespace: str, manifest: str = ""
) -> Object:
    """Helm's record of a release, as a Secret."""
    import base64
    import gzip

    record = {
        "name": name,
        "namespace": namespace,
        "version": 1,
        "info": {"status": status},
        "chart": {"metadata": {"name": chart, "version": version}},
        "manifest": manifest,
    }
    packed = base64.b64encode(gzip.compress(json.dumps(record).encode()))
    labels = {"owner": "helm", "name": name, "version": "1", "status": status}
    return made(
        "v1",
        "Secret",
        f"sh.helm.release.v1.{name}.v1",
        meta={"labels": labels},
        type="helm.sh/release.v1",
        data={"release": base64.b64encode(packed).decode()},
    )


def owned(obj: Mapping[str, Any], release: str, namespace: str) -> Object:
    """The object as a release's."""
    found = copy.deepcopy(dict(obj))
    annotations = {"meta.helm.sh/release-name": release, "meta.helm.sh/release-namespace": namespace}
    meta = found["metadata"]
    meta["annotations"] = {**(meta.get("annotations") or {}), **annotations}
    meta["labels"] = {**(meta.get("labels") or {}), "app.kubernetes.io/managed-by": "Helm"}
    return found


def unique(prefix: str) -> str:
    """A name that no other test has."""
    return f"{prefix}-{uuid.uuid4().hex[:6]}"


def _endpoints(service: str, namespace: str, addresses: Sequence[str] = ("10.244.9.9",)) -> Object:
    return made(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        f"{service}-1",
        meta={"namespace": namespace, "labels": {"kubernetes.io/service-name": service}},
        addressType="IPv4",
        endpoints=[{"addresses": list(addresses), "conditions": {"ready": True}}],
        ports=[{"port": 53}],
    )


def _release() -> Release:
    return Release(
        "jupyterhub", "jupyterhub", "4.4.0", {"singleuser": {"cloudMetadata": {"blockWithIptables": False}}}
    )


_SECRETS = {"TIDEHUB_SECRET_CLIENT_SECRET": secrets.token_urlsafe(24)} | {
    f"TIDEHUB_SECRET_{name}": secrets.token_hex(32)
    for name in ("HUB_COOKIE_SECRET", "HUB_CRYPT_KEY", "PROXY_AUTH_TOKEN", "GATEWAY_TOKEN")
}
