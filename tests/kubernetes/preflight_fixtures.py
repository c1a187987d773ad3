"""Fixtures of the preflight tests: a cluster that is ready, and a site on it. Imported by each test module."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cluster_programs
import pytest
from cluster_api import Refused
from local_cluster import LocalCluster
from preflight_servers import LocalProvider, LocalRegistry
from preflight_site import ADDRESS, ReadySite, crd, elsewhere, ready_objects, unique

_GATEWAY = "gateway.networking.k8s.io"
_KINDS = (
    crd("cert-manager.io", "v1", kind="ClusterIssuer", plural="clusterissuers"),
    crd(_GATEWAY, "v1", kind="GatewayClass", plural="gatewayclasses"),
    crd(_GATEWAY, "v1", kind="Gateway", plural="gateways"),
    crd(_GATEWAY, "v1", kind="HTTPRoute", plural="httproutes"),
)
_EXTENSIONS = "apiextensions.k8s.io/v1"


@pytest.fixture(scope="module")
def ready_cluster(cluster: Any) -> Iterator[LocalCluster]:
    """The shared cluster with classes, an issuer and a name service; they go after the module's tests."""
    if not isinstance(cluster, LocalCluster):
        pytest.skip("these tests change what a whole cluster shares")
    api = cluster.api
    api.apply(_KINDS)
    for kind in _KINDS:
        name, spec = kind["metadata"]["name"], kind["spec"]
        api.wait(f"{name} is served", lambda spec=spec: _is_served(api, spec))  # type: ignore[misc]
    space = unique("elsewhere")
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}})
    made = [*ready_objects(), elsewhere(space)]
    api.apply(made)
    status = {"status": {"loadBalancer": {"ingress": [{"ip": ADDRESS}]}}}
    api.patch("Ingress", "other", status, space, version="networking.k8s.io/v1", part="status")
    yield cluster
    for one in reversed(made):
        api.delete(
            one["kind"],
            one["metadata"]["name"],
            one["metadata"].get("namespace", ""),
            version=one["apiVersion"],
        )
    api.delete("Namespace", space)
    for kind in _KINDS:
        api.delete("CustomResourceDefinition", kind["metadata"]["name"], version=_EXTENSIONS)
    for kind in _KINDS:
        name = kind["metadata"]["name"]
        api.wait(
            f"{name} is gone",
            lambda name=name: api.get("CustomResourceDefinition", name, version=_EXTENSIONS) is None,  # type: ignore[misc]
        )


@pytest.fixture
def registry() -> Iterator[LocalRegistry]:
    """A container registry."""
    found = LocalRegistry()
    yield found
    found.stop()


@pytest.fixture
def provider() -> Iterator[LocalProvider]:
    """An identity provider."""
    found = LocalProvider()
    yield found
    found.stop()


@pytest.fixture
def ready(
    ready_cluster: LocalCluster,
    namespace: str,
    tmp_path: Path,
    registry: LocalRegistry,
    provider: LocalProvider,
) -> Iterator[ReadySite]:
    """A site that everything is ready for."""
    programs = cluster_programs.find()
    assert programs is not None
    api = ready_cluster.api
    api.wait("the namespace has its account", lambda: api.get("ServiceAccount", "default", namespace))
    site = ReadySite(ready_cluster, namespace, tmp_path, registry, provider, Path(shutil.which("true") or ""))
    site.helm = programs.helm(4)
    yield site
    site.clean()


def _is_served(api: Any, spec: dict[str, Any]) -> bool:
    try:
        found = api.call("GET", f"/apis/{spec['group']}/v1")["resources"]
    except Refused:
        return False
    return any(one["kind"] == spec["names"]["kind"] for one in found)
