"""Kubernetes objects as they are written: reading manifests, and what tells one object from another. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from io import StringIO
from typing import Any

from tidehub.errors import TidehubError

Object = dict[str, Any]
"""One Kubernetes object, as in its YAML."""

HOOK = "helm.sh/hook"
"""Annotation of what Helm runs around an installation and does not count among a release's objects."""
USERNAME = "hub.jupyter.org/username"
"""Annotation of users' pods and PVCs (KubeSpawner, `common_annotations`)."""
SERVER_NAME = "hub.jupyter.org/servername"
"""The same with the server's name, where it has one."""
SET_ASIDE = "tidehub/set-aside"
"""Annotation of a home that the hub mounts no more, with the time (`homes`)."""
HUB_SECRET = "hub"
"""The jupyterhub chart's Secret with its values."""
DASK_CLUSTERS = (("gateway.dask.org/v1alpha1", "DaskCluster"), ("kubernetes.dask.org/v1", "DaskCluster"))
"""Clusters of Dask Gateway, and of the Dask operator."""
SERVER, HOME = "singleuser-server", "singleuser-storage"
"""Labels `component` of users' pods and PVCs (KubeSpawner)."""
CLUSTER_KINDS = frozenset(
    {
        "APIService", "ClusterIssuer", "ClusterRole", "ClusterRoleBinding", "CSIDriver", "CustomResourceDefinition",
        "GatewayClass", "IngressClass", "MutatingWebhookConfiguration", "Namespace", "Node", "PersistentVolume",
        "PriorityClass", "RuntimeClass", "StorageClass", "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding", "ValidatingWebhookConfiguration",
    }
)  # fmt: skip
"""Kinds without a namespace, of those that the charts and tidehub have to do with."""


@dataclass(frozen=True, order=True)
class ObjectId:
    """Which object it is: the same id is the same object, whatever its fields say."""

    api_version: str
    kind: str
    namespace: str | None
    name: str

    @property
    def group(self) -> str:
        """The API group; empty for the core."""
        return self.api_version.rpartition("/")[0]

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


Key = tuple[str, str, str | None, str]
"""An object whatever version of its group it is written in: group, kind, namespace, name."""


def key_of(id: ObjectId) -> Key:
    """What stays the same when a chart writes an object in another version of its group."""
    return id.group, id.kind, id.namespace, id.name


def identify(obj: Object, namespace: str) -> ObjectId:
    """The id of an object that is created in `namespace` where it names none."""
    meta = obj.get("metadata") or {}
    kind = str(obj.get("kind", ""))
    where = None if kind in CLUSTER_KINDS else str(meta.get("namespace") or namespace)
    return ObjectId(str(obj.get("apiVersion", "")), kind, where, str(meta.get("name", "")))


def read_manifest(text: str) -> list[Object]:
    """The objects of a manifest, lists unfolded, in their order. Raises `TidehubError` for what is not an object."""
    from tidehub.charts.documents import read_all

    try:
        # At C speed: a hub's manifest is a quarter of a megabyte.
        documents = read_all(text)
    except ValueError as error:
        raise TidehubError(f"the manifest is not YAML: {error}") from None
    found: list[Object] = []
    for document in documents:
        found += _unfolded(document)
    return found


def write_manifest(objects: Iterable[Object]) -> str:
    """The objects as YAML documents, the same text for the same objects: keys sorted, order kept."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.width = 4096
    yaml.sort_base_mapping_type_on_output = True  # type: ignore[assignment]
    stream = StringIO()
    for obj in objects:
        stream.write("---\n")
        yaml.dump(obj, stream)
    return stream.getvalue()


def is_hook(obj: Object) -> bool:
    """Whether Helm runs it around an installation and keeps no account of it afterwards."""
    return HOOK in ((obj.get("metadata") or {}).get("annotations") or {})


def _unfolded(document: Any) -> list[Object]:
    if document is None:
        return []
    if not isinstance(document, dict) or not document.get("kind") or not document.get("apiVersion"):
        raise TidehubError(
            "the manifest holds something that is not Kubernetes object",
            expected="documents with apiVersion, kind and metadata",
        )
    if document["kind"] == "List":
        return [obj for item in document.get("items") or [] for obj in _unfolded(item)]
    return [document]
