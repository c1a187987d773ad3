"""What users choose and what they read when it is too much: one table for one machine and for Kubernetes."""

from __future__ import annotations

from typing import Any

SITE = """
site: {name: Testing, url: "https://hub.example.org"}
login:
  provider: oidc
  issuer: https://idp.example.org
  client_id: x
  allow: {everyone: true}
notebooks:
  profiles: [{name: Main, default: true, image: "quay.io/x/main:1"}, {name: Next, image: "quay.io/x/next:1"}]
dask:
  worker:
    cores: {min: 1, max: 2, default: 1}
    memory: {min: 4 GiB, max: 6 GiB, default: 4 GiB}
  scheduler: {cores: 1, memory: 2 GiB}
  cluster: {max_workers: 3, max_cores: 4, max_memory: 24 GiB}
  per_user: {max_clusters: 2, max_cores: 6, max_memory: 20 GiB}
"""
"""ProtoCoast's clusters: three workers, four cores, 24 GiB, a scheduler of 1 core and 2 GiB; and totals."""

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"worker_cores": 3}, "worker_cores is 3; this site allows 1 to 2 cores (dask.worker.cores)"),
    ({"worker_cores": 0}, "worker_cores is 0; this site allows 1 to 2 cores"),
    ({"worker_cores": 1.5}, "not a whole number"),
    ({"worker_cores": "2"}, "not a whole number"),
    ({"worker_cores": True}, "not a whole number"),
    ({"worker_cores": float("nan")}, "not a whole number"),
    ({"worker_cores": float("inf")}, "not a whole number"),
    ({"worker_memory": 9}, "worker_memory is 9 GiB; this site allows 4 GiB to 6 GiB (dask.worker.memory)"),
    ({"worker_memory": 3}, "worker_memory is 3 GiB; this site allows 4 GiB to 6 GiB"),
    ({"worker_memory": -1}, "worker_memory is -1; this site allows"),
    ({"worker_memory": "4 GiB"}, "not a number of GiB"),
    ({"worker_memory": float("nan")}, "not a number of GiB"),
    ({"worker_memory": 10**400}, "not a number of GiB"),
    ({"worker_memory": None}, "not a number of GiB"),
    (
        {"worker_threads": 8},
        "cluster option worker_threads does not exist; you may choose: worker_cores, worker_memory",
    ),
]
"""Choices at `SITE`, and what the refusal says."""

OVER_TOTALS: list[tuple[tuple[int, int, int], tuple[int, int, int], str, str]] = [
    ((2, 2, 1), (1, 1, 1), "dask.per_user.max_clusters", "You have 2 clusters, and this site allows 2"),
    ((1, 5, 1), (0, 2, 1), "dask.per_user.max_cores", "use 5 cores; this needs 2 cores more"),
    ((1, 5, 18), (0, 1, 4), "dask.per_user.max_memory", "2 GiB are left"),
]
"""Clusters, cores and GiB that a user has and wants at `SITE`; the limit in the way; what the refusal says."""
