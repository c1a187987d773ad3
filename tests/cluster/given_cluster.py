"""A cluster that somebody has, as far as it can do what `LocalCluster` does; what it cannot is skipped."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest
from cluster_api import Api, Object

WISH = "TIDEHUB_TEST_CLUSTER"


class GivenCluster:
    """The cluster of `KUBECONFIG`, as its current context; its user must be an administrator."""

    given = True
    """Whether it is somebody else's."""

    def __init__(self) -> None:
        self.kubeconfig = Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")
        self.api = Api(self.kubeconfig)

    @property
    def nodes_are_simulated(self) -> bool:
        """Whether pods only pretend to run, so that images need not exist."""
        return bool(self.api.list("Node", selector="type=kwok"))

    @property
    def url(self) -> str:
        """The server's address."""
        return self.api.url

    @property
    def versions(self) -> dict[str, str]:
        """Of `kubernetes` only."""
        return {"kubernetes": self.api.call("GET", "/version")["gitVersion"]}

    def apply(
        self, objects: str | Mapping[str, Any] | Iterable[Mapping[str, Any]], namespace: str = ""
    ) -> None:
        """Server-side apply, forced."""
        self.api.apply(objects, namespace)

    def storage_class(self, name: str, binds: bool = True, **_: bool) -> None:
        """Only a class that is there."""
        if not binds or self.api.get("StorageClass", name, version="storage.k8s.io/v1") is None:
            self._not_here("simulated storage")

    @property
    def audit_log(self) -> Path:
        """Not to be had."""
        self._not_here("the audit log")

    @property
    def hub_volume(self) -> Path:
        """Not to be had."""
        self._not_here("commands in simulated pods")

    def audit_events(self, since: float = 0.0) -> list[Object]:
        """Not to be had."""
        self._not_here("the audit log")

    def writes(self, since: float = 0.0) -> list[Object]:
        """Not to be had."""
        self._not_here("the audit log")

    def freeze(self) -> None:
        """Not to be done."""
        self._not_here("a server that may hang")

    thaw = freeze

    def kill_api(self) -> None:
        """Not to be done."""
        self._not_here("a server that may vanish")

    start_api = kill_api

    def kubeconfig_for(self, user: str, groups: Sequence[str] = ()) -> Path:
        """Not to be had: no key of its authority."""
        self._not_here("client certificates")

    def write_pod_log(self, text: str) -> None:
        """Not to be done."""
        self._not_here("simulated pods")

    def log_tails(self) -> str:
        """Nothing."""
        return ""

    def _not_here(self, what: str) -> NoReturn:
        pytest.skip(f"needs {what}: the project's own cluster (unset {WISH})")
