"""A notebook's side of Dask, run by the notebook environment's Python: one cluster for each line on standard input.

For every line read, `GatewayCluster()`, `scale(2)` and a first task are timed and written as one line of JSON. The
addresses and the token come from the environment, as in a notebook.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from dask_gateway import Gateway, GatewayCluster
from distributed import Client

WORKERS = 2
PATIENCE = 120

# A Gateway that is collected as garbage on its own event loop's thread waits for itself for ever (dask-gateway
# 2026.3), so every object stays referenced until the end.
kept: list[Any] = []


def one_cluster(gateway: Gateway) -> dict[str, float]:
    """Seconds from the call to each step of a new cluster's life; `total` ends with the first task's result."""
    began = time.monotonic()
    cluster: GatewayCluster = gateway.new_cluster(shutdown_on_close=True)
    kept.append(cluster)
    made = time.monotonic()
    cluster.scale(WORKERS)
    client: Client = cluster.get_client()
    kept.append(client)
    client.wait_for_workers(WORKERS, timeout=PATIENCE)
    joined = time.monotonic()
    if client.submit(sum, [1, 2, 3]).result(timeout=PATIENCE) != 6:
        raise RuntimeError("the first task came back wrong")
    computed = time.monotonic()
    client.close()
    cluster.close(shutdown=True)
    return {
        "new_cluster": made - began,
        "workers": joined - made,
        "task": computed - joined,
        "total": computed - began,
        "close": time.monotonic() - computed,
    }


def main() -> None:
    gateway = Gateway()
    kept.append(gateway)
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        try:
            answer: dict[str, Any] = one_cluster(gateway)
        except Exception as error:
            answer = {"failure": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


main()
