"""Where a scheduler says that its dashboard is, and how the gate speaks to the gateway."""

from __future__ import annotations

import pytest

from tidehub.gateway.dashboards.protocol import dashboard_key, gate_token
from tidehub.local.gateway.processes import dashboard_of


@pytest.mark.parametrize(
    ("said", "followed"),
    [
        ("http://127.0.0.1:8787", "http://127.0.0.1:8787"),
        ("http://127.0.0.1:8787/status?x=1", "http://127.0.0.1:8787"),
        ("http://me:secret@127.0.0.1:8787", "http://127.0.0.1:8787"),
        ("http://[::1]:8787", "http://[::1]:8787"),
        ("http://127.0.0.1", ""),
        ("http://127.0.0.1:99999", ""),
        ("https://127.0.0.1:8787", ""),
        ("http://192.0.2.1:80", ""),
        ("http://127.0.0.1.example.org:80", ""),
        ("http://localhost:8787", ""),
        ("file:///etc/passwd", ""),
        ("http://[127.0.0.1:1", ""),
        ("", ""),
    ],
)
def test_only_an_address_of_this_machine_is_followed(said: str, followed: str) -> None:
    assert dashboard_of(said) == followed


def test_the_gates_token_is_no_clusters_key() -> None:
    assert gate_token("secret") not in {dashboard_key("secret", name) for name in ("", "the gate", "x")}
