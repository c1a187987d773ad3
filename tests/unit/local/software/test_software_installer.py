from __future__ import annotations

from pathlib import Path

import pytest

from tidehub.local.process import ProgramFailed
from tidehub.local.software.installer import NetworkNeeded, explain

ROOT = Path("/")
# Endings of real runs of uv, pip and npm.
NO_NAMES = (
    "cause: Failed to fetch: https://index/simple/x/\n  dns error: failed to lookup address information"
)
PIP_NO_NAMES = (
    "WARNING: Retrying (Retry(total=0)) after connection broken by 'NameResolutionError(\"Failed to resolve\")'\n"
    "ERROR: No matching distribution found for uv==0.13.9"
)
NPM_REFUSED = "npm error code ECONNREFUSED\nnpm error network request to http://127.0.0.1:9/ failed"
UV_HASH = "error: Failed to download `x==1`\n  Caused by: Hash mismatch for `x==1`\n\nExpected:\n  sha256:0"
NPM_HASH = "npm error code EINTEGRITY\nnpm error sha512-x integrity checksum failed"
FULL = "error: failed to write to file: No space left on device (os error 28)"
CONTRADICTION = "  x No solution found when resolving dependencies:\n  because you require x==4 and x==5"
NO_WHEEL = "error: x==1 has no usable wheels and building source distributions is disabled"
UNTRUSTED = "error sending request\n  invalid peer certificate: UnknownIssuer"


def told(output: str) -> str:
    return str(
        explain(ProgramFailed("uv failed with exit code 1", code=1, output=output), "Installing it", ROOT)
    )


@pytest.mark.parametrize(
    ("output", "says", "remedy"),
    [
        (NO_NAMES, "needs the network", "PIP_INDEX_URL"),
        (PIP_NO_NAMES, "needs the network", "HTTPS_PROXY"),
        (NPM_REFUSED, "needs the network", "npm_config_registry"),
        (UV_HASH, "not the one that the lock file names", "package index"),
        (NPM_HASH, "not the one that the lock file names", "package index"),
        (FULL, "is full", "make room"),
        (CONTRADICTION, "contradict each other", "profile's packages"),
        (NO_WHEEL, "no wheel for this machine", "choose a version"),
        (UNTRUSTED, "certificate is not trusted", "SSL_CERT_FILE"),
    ],
)
def test_each_failure_is_named_with_its_remedy(output: str, says: str, remedy: str) -> None:
    message = told(output)
    assert says in message
    assert remedy in message.partition("to do:")[2]


def test_network_trouble_is_one_line() -> None:
    assert isinstance(explain(ProgramFailed("x", code=1, output=PIP_NO_NAMES), "It", ROOT), NetworkNeeded)
    assert "ERROR: No matching" not in told(PIP_NO_NAMES)


def test_what_is_not_understood_is_shown_whole() -> None:
    assert "strange thing" in told("strange thing")
