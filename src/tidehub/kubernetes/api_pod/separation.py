"""Each cluster's own network policy: its pods reach each other, and nobody else's reach them. Pure.

A policy compares labels with fixed values, so pods of one cluster can be told from another's only by a policy for
each. `values/network.py` closes what this opens.
"""

from __future__ import annotations

from typing import Any


def cluster_policy(cluster: dict[str, Any]) -> dict[str, Any]:
    """The policy of a DaskCluster object, which goes with it: Kubernetes deletes it when its owner is gone."""
    meta = cluster["metadata"]
    theirs = {"matchLabels": {"gateway.dask.org/cluster": meta["labels"]["gateway.dask.org/cluster"]}}
    owner = {name: cluster[name] for name in ("apiVersion", "kind")}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": f"dask-{meta['name']}",
            "labels": meta["labels"],
            "ownerReferences": [{**owner, "name": meta["name"], "uid": meta["uid"]}],
        },
        "spec": {
            "podSelector": theirs,
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": theirs}]}],
        },
    }
