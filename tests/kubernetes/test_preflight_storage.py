"""Preflight against a real API server: storage classes and PVCs. Each test makes one defect."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from preflight_fixtures import provider, ready, ready_cluster, registry  # noqa: F401
from preflight_site import CLASS, ReadySite, made, owned, unique

_DEFAULT = "storageclass.kubernetes.io/is-default-class"
_API = "storage.k8s.io/v1"


def test_a_storage_class_that_is_not_there(ready: ReadySite) -> None:  # noqa: F811
    _use(ready, "no-such-class")
    ready.only(
        "storage-class",
        "problem",
        "the StorageClass no-such-class was not found, for the PVC hub-db-dir and homes",
        f"there is {CLASS}",
    )


def test_no_default_storage_class(ready: ReadySite) -> None:  # noqa: F811
    _use(ready, None)
    with _no_default(ready):
        ready.only("storage-default", "problem", "no StorageClass is the default one", "stay Pending")


def test_two_default_storage_classes(ready: ReadySite) -> None:  # noqa: F811
    _use(ready, None)
    with _no_default(ready):
        ready.create(_class(unique("one"), default=True), _class(unique("two"), default=True))
        ready.only("storage-default", "warning", "several StorageClasses are the default one", "newest")


def test_volumes_that_cannot_grow(ready: ReadySite) -> None:  # noqa: F811
    name = unique("fixed")
    ready.create(_class(name, allowVolumeExpansion=False))
    _use(ready, name)
    ready.only("storage-expansion", "warning", name, "cannot grow")


def test_a_driver_that_is_not_installed(ready: ReadySite) -> None:  # noqa: F811
    name = unique("cinder")
    ready.create(_class(name, provisioner="cinder.csi.openstack.org"))
    _use(ready, name)
    ready.only("storage-provisioner", "problem", "cinder.csi.openstack.org", "is not installed")


def test_a_driver_that_is_installed(ready: ReadySite) -> None:  # noqa: F811
    name, driver = unique("cinder"), f"{unique('csi')}.csi.example.org"
    ready.create(_class(name, provisioner=driver), made(_API, "CSIDriver", driver, spec={}))
    _use(ready, name)
    assert ready.troubles() == {}


def test_volumes_made_by_hand(ready: ReadySite) -> None:  # noqa: F811
    name = unique("local")
    ready.create(_class(name, provisioner="kubernetes.io/no-provisioner"))
    _use(ready, name)
    ready.only("storage-provisioner", "problem", "made by hand, and 0 are free")


def test_volumes_made_in_the_wrong_zone(ready: ReadySite) -> None:  # noqa: F811
    name = unique("early")
    ready.create(_class(name, volumeBindingMode="Immediate"))
    _use(ready, name)
    nodes = [one["metadata"]["name"] for one in ready.api.list("Node")][:2]
    zone = "topology.kubernetes.io/zone"
    try:
        for number, node in enumerate(nodes):
            ready.api.patch("Node", node, {"metadata": {"labels": {zone: f"zone-{number}"}}})
        ready.only("storage-binding", "warning", "zone-0", "zone-1", "WaitForFirstConsumer")
    finally:
        for node in nodes:
            ready.api.patch("Node", node, {"metadata": {"labels": {zone: None}}})


def test_a_pvc_of_another_class(ready: ReadySite) -> None:  # noqa: F811
    _pvc(ready, storageClassName="older-class")
    ready.only(
        "pvc-class", "problem", "hub-db-dir has the StorageClass older-class", f"the site says {CLASS}"
    )


def test_a_pvc_that_would_shrink(ready: ReadySite) -> None:  # noqa: F811
    _pvc(ready, resources={"requests": {"storage": "5Gi"}})
    ready.only("pvc-size", "problem", "has 5 GiB, and the site says 1 GiB", "do not shrink")


def test_a_pvc_that_would_grow(ready: ReadySite) -> None:  # noqa: F811
    _pvc(ready, resources={"requests": {"storage": "512Mi"}})
    ready.only("pvc-size", "warning", "would grow from 512 MiB to 1 GiB")


def test_a_pvc_whose_volume_is_gone(ready: ReadySite) -> None:  # noqa: F811
    pvc = owned(copy.deepcopy(ready.object("PersistentVolumeClaim")), "jupyterhub", ready.namespace)
    pvc["spec"]["volumeName"] = "gone"
    pvc["metadata"]["annotations"]["pv.kubernetes.io/bind-completed"] = "yes"
    ready.create(pvc)
    ready.api.wait("it is lost", lambda: _phase(ready) == "Lost")
    ready.only("pvc-lost", "problem", "the PersistentVolume of the PVC hub-db-dir is gone")


def test_homes_of_another_class(ready: ReadySite) -> None:  # noqa: F811
    home = copy.deepcopy(ready.object("PersistentVolumeClaim"))
    home["metadata"] = {"name": "claim-anna", "labels": {"component": "singleuser-storage"}}
    home["spec"]["storageClassName"] = "older-class"
    ready.create(home)
    ready.only("homes-class", "warning", "1 of 1 homes have another StorageClass (older-class)")


def _use(ready: ReadySite, name: str | None) -> None:  # noqa: F811
    """The site and its PVCs name this class."""
    spec = ready.object("PersistentVolumeClaim")["spec"]
    for section in (ready.values["notebooks"]["home"], ready.values["hub"]["database"]):
        section.pop("storage_class")
        if name is not None:
            section["storage_class"] = name
    spec.pop("storageClassName")
    if name is not None:
        spec["storageClassName"] = name


def _class(name: str, *, default: bool = False, **changes: Any) -> dict[str, Any]:
    fields = {
        "provisioner": "example.org/disks",
        "allowVolumeExpansion": True,
        "volumeBindingMode": "WaitForFirstConsumer",
    }
    annotations = {_DEFAULT: "true"} if default else {}
    return made(_API, "StorageClass", name, meta={"annotations": annotations}, **{**fields, **changes})


def _pvc(ready: ReadySite, **changes: Any) -> None:  # noqa: F811
    pvc = owned(copy.deepcopy(ready.object("PersistentVolumeClaim")), "jupyterhub", ready.namespace)
    pvc["spec"] |= changes
    ready.create(pvc)


def _phase(ready: ReadySite) -> str:  # noqa: F811
    found = ready.api.get("PersistentVolumeClaim", "hub-db-dir", ready.namespace) or {}
    return str(found.get("status", {}).get("phase"))


@contextmanager
def _no_default(ready: ReadySite) -> Iterator[None]:  # noqa: F811
    """Whatever other tests have made the default is not, for a while."""
    marked = [
        one["metadata"]["name"]
        for one in ready.api.list("StorageClass", version=_API)
        if (one["metadata"].get("annotations") or {}).get(_DEFAULT) == "true"
    ]
    try:
        for name in marked:
            ready.api.patch(
                "StorageClass", name, {"metadata": {"annotations": {_DEFAULT: "false"}}}, version=_API
            )
        yield
    finally:
        for name in marked:
            ready.api.patch(
                "StorageClass", name, {"metadata": {"annotations": {_DEFAULT: "true"}}}, version=_API
            )
