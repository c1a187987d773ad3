"""Whether anything stands behind a Service."""

from __future__ import annotations

from tidehub.kubernetes.preflight.model import Look


def ready_addresses(look: Look, namespace: str, service: str) -> list[str]:
    """Addresses behind a Service that are ready. Raises `ClusterProblem` where one may not look."""
    found = []
    for piece in look.all("discovery.k8s.io/v1", "EndpointSlice", namespace):
        if (piece["metadata"].get("labels") or {}).get("kubernetes.io/service-name") != service:
            continue
        for endpoint in piece.get("endpoints") or []:
            # An absent condition means ready: https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/
            if (endpoint.get("conditions") or {}).get("ready") is not False:
                found += [str(address) for address in endpoint.get("addresses") or []]
    return found
