"""`plan`: the new render against the live cluster and the last releases. It asks much and writes nothing."""

from __future__ import annotations

from collections.abc import Iterable

from tidehub.helm.engine import Helm
from tidehub.kubernetes.cluster.port import Cluster
from tidehub.kubernetes.planning.compare import compare_with_cluster
from tidehub.kubernetes.planning.model import Plan
from tidehub.kubernetes.rendering.model import Rendered


def plan(
    rendered: Rendered, cluster: Cluster, helm: Helm, *, threads: int = 16, adopt: Iterable[str] = ()
) -> Plan:
    """What a deployment of `rendered` that takes over what `adopt` names would change in the cluster.

    Every question is a read, or a write with `dryRun=All`. What the server refuses is a finding of the plan; a server
    that cannot be asked raises `ClusterProblem`, and Helm's own failures raise `HelmProblem`.
    """
    return compare_with_cluster(rendered, cluster, helm, threads, frozenset(adopt))
