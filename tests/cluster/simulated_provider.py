"""What a provider adds to a cluster, without disks and routers.

Makes, grows and removes the volumes of claims, and gives load balancers their address.
"""

from __future__ import annotations

import threading
from typing import Any

import urllib3
from cluster_api import Api, Object, Refused

PROVISIONER = "simulated.tidehub.test"
NOBODY = "nobody.tidehub.test"
"""The provisioner of classes whose claims stay pending."""
BALANCER = "192.0.2.10"
"""The address of load balancers."""
NO_ADDRESS = "tidehub.test/no-address"
"""A service with this annotation waits for its address in vain."""
_ASKED = "volume.kubernetes.io/storage-provisioner"
_NODE = "volume.kubernetes.io/selected-node"


class SimulatedProvider:
    """Watches claims and volumes in two threads until `stop`."""

    def __init__(self, api: Api, balancer: str = BALANCER) -> None:
        self._api = api
        self._balancer = balancer
        self._ending = threading.Event()

    def start(self) -> None:
        """Start watching."""
        reactions = {
            "PersistentVolumeClaim": self._claim,
            "PersistentVolume": self._volume,
            "Service": self._service,
        }
        for kind, react in reactions.items():
            threading.Thread(
                target=self._follow, args=(kind, react), daemon=True, name=f"simulated {kind}"
            ).start()

    def stop(self) -> None:
        """Stop reacting; the threads are daemons and end with their watch."""
        self._ending.set()

    def definition(self, name: str, binds: bool, expands: bool, waits: bool, default: bool) -> Object:
        """The object of a storage class."""
        annotations = {"storageclass.kubernetes.io/is-default-class": "true"} if default else {}
        return {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": name, "annotations": annotations},
            "provisioner": PROVISIONER if binds else NOBODY,
            "allowVolumeExpansion": expands,
            "volumeBindingMode": "WaitForFirstConsumer" if waits else "Immediate",
            "reclaimPolicy": "Delete",
        }

    def _follow(self, kind: str, react: Any) -> None:
        while not self._ending.is_set():
            try:
                for change, one in self._api.watch(kind):
                    if self._ending.is_set():
                        return
                    if change in ("ADDED", "MODIFIED"):
                        react(one)
            except (Refused, urllib3.exceptions.HTTPError, OSError, ValueError):
                # The API server is away for a test's sake; a new watch begins with all that exists.
                self._ending.wait(0.2)

    def _claim(self, claim: Object) -> None:
        metadata, phase = claim["metadata"], claim.get("status", {}).get("phase")
        annotations = metadata.get("annotations", {})
        if annotations.get(_ASKED) != PROVISIONER or metadata.get("deletionTimestamp"):
            return
        if phase == "Bound":
            self._grow(claim)
        elif phase == "Pending" and (not self._waits(claim) or _NODE in annotations):
            self._provision(claim)

    def _waits(self, claim: Object) -> bool:
        found = self._api.get("StorageClass", claim["spec"]["storageClassName"], version="storage.k8s.io/v1")
        return found is not None and found.get("volumeBindingMode") == "WaitForFirstConsumer"

    def _provision(self, claim: Object) -> None:
        metadata, spec = claim["metadata"], claim["spec"]
        volume = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {
                "name": f"pvc-{metadata['uid']}",
                "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER},
            },
            "spec": {
                "capacity": {"storage": spec["resources"]["requests"]["storage"]},
                "accessModes": spec["accessModes"],
                "persistentVolumeReclaimPolicy": "Delete",
                "storageClassName": spec["storageClassName"],
                "volumeMode": spec.get("volumeMode", "Filesystem"),
                "claimRef": {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "name": metadata["name"],
                    "namespace": metadata["namespace"],
                    "uid": metadata["uid"],
                },
                **self.volume_source(claim),
            },
        }
        try:
            self._api.create(volume)
        except Refused as refusal:
            if refusal.status != 409:  # the claim was seen twice
                raise

    def volume_source(self, claim: Object) -> Object:
        """What the volume of a claim is: these fields of its `spec`."""
        return {"csi": {"driver": PROVISIONER, "volumeHandle": claim["metadata"]["uid"]}}

    def volume_gone(self, volume: Object) -> None:
        """The volume's object was deleted, and so must be what it holds."""

    def _grow(self, claim: Object) -> None:
        wanted = claim["spec"]["resources"]["requests"]["storage"]
        if claim["status"].get("capacity", {}).get("storage") == wanted:
            return
        name, namespace = claim["metadata"]["name"], claim["metadata"]["namespace"]
        self._api.patch(
            "PersistentVolume", claim["spec"]["volumeName"], {"spec": {"capacity": {"storage": wanted}}}
        )
        status = {"status": {"capacity": {"storage": wanted}}}
        self._api.patch("PersistentVolumeClaim", name, status, namespace, part="status")

    def _volume(self, volume: Object) -> None:
        ours = volume["metadata"].get("annotations", {}).get("pv.kubernetes.io/provisioned-by") == PROVISIONER
        deletes = volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete"
        if ours and deletes and volume.get("status", {}).get("phase") == "Released":
            self._api.delete("PersistentVolume", volume["metadata"]["name"])
            self.volume_gone(volume)

    def _service(self, service: Object) -> None:
        metadata = service["metadata"]
        if service["spec"].get("type") != "LoadBalancer" or NO_ADDRESS in metadata.get("annotations", {}):
            return
        if not service.get("status", {}).get("loadBalancer", {}).get("ingress"):
            status = {"status": {"loadBalancer": {"ingress": [{"ip": self._balancer}]}}}
            self._api.patch("Service", metadata["name"], status, metadata["namespace"], part="status")
