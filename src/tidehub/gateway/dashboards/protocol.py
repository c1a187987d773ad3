"""How the gate and the gateway speak of clusters, and prove who they are: both compute the same."""

from __future__ import annotations

import hashlib
import hmac

KEY_HEADER = "X-Tidehub-Dashboard-Key"
"""As in `local/gateway/preloads/dashboard_guard.py`, which can import nothing of ours."""

STATUS_ROUTE = "/api/tidehub/v1/clusters"
"""At the gateway: a user's own clusters."""
GATE_ROUTE = "/api/tidehub/v1/gate/clusters/{cluster_name}"
"""At the gateway, for the gate alone: one cluster (`telling.py`)."""
GATE_SCHEME = "tidehub-gate"
"""The word before the gate's token in `Authorization`."""


def derived(secret: str, purpose: str) -> str:
    """A secret of its own for each purpose (HMAC-SHA256)."""
    return hmac.new(secret.encode(), purpose.encode(), hashlib.sha256).hexdigest()


def dashboard_key(key_secret: str, cluster: str) -> str:
    """The key of one cluster's dashboards; gate and backend compute the same."""
    return derived(key_secret, f"cluster {cluster}")


def key_of_service(token: str) -> str:
    """Where gate and gateway share no secret but the token of the hub's service: the one that keys are made from."""
    return derived(token, "dashboard keys")


def gate_token(key_secret: str) -> str:
    """By which the gateway knows the gate; both compute the same."""
    return derived(key_secret, "the gate asks the gateway")
