"""Which addresses are this machine's own, and that asking costs no other module of tidehub."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tidehub.loopback import is_loopback


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("Hub.LocalHost", True),
        ("127.0.0.1", True),
        ("127.3.2.1", True),
        ("::1", True),
        ("[::1]", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:192.0.2.1", False),
        ("localhost.example.org", False),
        ("127.0.0.1.example.org", False),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.1", False),
        ("", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_the_identity_provider_asks_without_the_site() -> None:
    script = (
        "import sys, tidehub.identity.config; print([m for m in sys.modules if m.startswith('tidehub.site')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
        capture_output=True,
        timeout=60,
    )
    assert done.stdout.strip() == b"[]"
