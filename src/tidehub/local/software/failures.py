"""What a failed uv, pip or npm means for the person who waits."""

from __future__ import annotations

import re
from pathlib import Path

from tidehub.errors import TidehubError
from tidehub.local.process import ProgramFailed
from tidehub.local.software import directories

# What the three programs write; each alternative was seen from uv 0.13, pip 26 or npm 11.
_FULL = re.compile(r"No space left on device|Disk quota exceeded|ENOSPC|EDQUOT|os error 28\b", re.I)
_MISMATCH = re.compile(r"Hash mismatch|DO NOT MATCH THE HASHES|EINTEGRITY|HashMismatch|Digest mismatch", re.I)
_NETWORK = re.compile(
    r"error sending request|dns error|Could not connect|tcp connect error|connection (?:refused|reset|broken)"
    r"|NewConnectionError|Name or service not known|Temporary failure in name resolution"
    r"|Failed to (?:fetch|resolve)|timed? ?out|took longer than|Network is unreachable|offline"
    r"|ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH",
    re.I,
)
_CERTIFICATE = re.compile(r"certificate|CERT_|SSLError|UnknownIssuer", re.I)
_NO_SOLUTION = re.compile(r"No solution found|unsatisfiable|ResolutionImpossible|ERESOLVE", re.I)
_NO_WHEEL = re.compile(r"no usable wheels|building source distributions is disabled|has no wheels", re.I)

NEEDS = "the Python package index and the npm registry (about 400 MB, once; later starts need no network)"


class NetworkNeeded(TidehubError):
    """Something is missing and could not be fetched."""


def explain(error: ProgramFailed, doing: str, root: Path) -> TidehubError:
    """The error to show for `error`, which happened while `doing` (such as "Installing Node.js")."""
    text = f"{error}\n{error.output}"
    if _FULL.search(text):
        return directories.disk_full(root)
    if _MISMATCH.search(text):
        return TidehubError(
            f"{doing} failed: a downloaded file is not the one that the lock file names.\n{_quoted(error)}",
            expected="the hash recorded when this release set was tested",
            fix="check the package index or proxy that this machine uses; nothing of the download was kept",
        )
    if _NO_SOLUTION.search(text):
        return TidehubError(
            f"{doing} failed: the packages contradict each other or do not exist.\n{_quoted(error)}",
            fix="change the profile's packages; pins of the release set's own parts cannot be changed",
        )
    if _NO_WHEEL.search(text):
        return TidehubError(
            f"{doing} failed: a package has no wheel for this machine.\n{_quoted(error)}",
            fix="choose a version of the package that has one for this Python; nothing is compiled here",
        )
    if _CERTIFICATE.search(text):
        return NetworkNeeded(
            f"{doing} failed: the package index's certificate is not trusted.\n{_quoted(error)}",
            expected=f"a trusted connection to {NEEDS}",
            fix="name the file with your site's certificates: SSL_CERT_FILE=FILE NODE_EXTRA_CA_CERTS=FILE",
        )
    if _NETWORK.search(text):
        return NetworkNeeded(
            f"{doing} needs the network, and it does not answer:\n{_reason(error)}",
            expected=f"a connection to {NEEDS}",
            fix="connect this machine, or name a mirror (PIP_INDEX_URL, npm_config_registry) or a proxy "
            "(HTTPS_PROXY), and run the same command again: what was fetched is kept",
        )
    return TidehubError(f"{doing} failed: {error}")


def _reason(error: ProgramFailed) -> str:
    lines = error.output.splitlines() or [error.what]
    telling = next((line for line in lines if _NETWORK.search(line)), lines[-1]).strip()
    return f"    {telling[:200]}{'...' if len(telling) > 200 else ''}"


def _quoted(error: ProgramFailed) -> str:
    lines = error.output.splitlines()[-4:]
    return "\n".join(f"    {line}" for line in (lines or [error.what]))
