"""A storage class with real volumes on the node, as a cloud's driver makes them on its disks.

They are `local` volumes: the kubelet gives them their group (fsGroup) as it does with a block device's file system,
and hostPath volumes not. Each is root's with a lost+found, as a new ext4 is.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from cluster_api import Api, Object
from simulated_provider import SimulatedProvider

CLASS = "csi-cinder-sc-delete"
"""As on the OpenStack clusters of the EGI Federated Cloud."""


class NodeStorage(SimulatedProvider):
    """Volumes below `folder`, which the node knows as `inside`."""

    def __init__(self, api: Api, balancer: str, folder: Path, inside: Path, node: str) -> None:
        super().__init__(api, balancer)
        self._folder = folder
        self._inside = inside
        self._node = node

    def start(self) -> None:
        """Make the class and start watching."""
        self._folder.mkdir(exist_ok=True)
        self._api.apply(self.definition(CLASS, binds=True, expands=True, waits=False, default=False))
        super().start()

    def volume_source(self, claim: Object) -> Object:
        """A new directory."""
        name = claim["metadata"]["uid"]
        place = self._folder / name
        (place / "lost+found").mkdir(parents=True, exist_ok=True)
        place.chmod(0o755)
        (place / "lost+found").chmod(0o700)
        here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [self._node]}
        return {
            "local": {"path": str(self._inside / name)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        }

    def volume_gone(self, volume: Object) -> None:
        """Remove the directory."""
        shutil.rmtree(self._folder / Path(volume["spec"]["local"]["path"]).name, ignore_errors=True)
