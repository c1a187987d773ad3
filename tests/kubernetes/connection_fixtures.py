"""What the tests of the cluster connection share. Imported by each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from local_cluster import LocalCluster

from tidehub.kubernetes.cluster.connection import Connection, connect
from tidehub.kubernetes.cluster.port import ClusterProblem

Object = dict[str, Any]
Change = Callable[[Object], Any]


@pytest.fixture
def server(cluster: Any) -> LocalCluster:
    """The project's own cluster: these tests stop it, and write kubeconfigs for it."""
    if not isinstance(cluster, LocalCluster):
        pytest.skip("these tests stop the API server")
    return cluster


@pytest.fixture
def connected(server: LocalCluster) -> Iterator[Connection]:
    """The administrator's connection."""
    found = connect(str(server.kubeconfig), seconds=10)
    yield found
    found.close()


def problem_of(call: Callable[[], Any]) -> ClusterProblem:
    with pytest.raises(ClusterProblem) as raised:
        call()
    return raised.value
