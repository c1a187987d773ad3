"""The logs of a platform by the names that users use. Secrets of the platform never show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tidehub.errors import TidehubError, UsageError
from tidehub.local.places import Places, command
from tidehub.local.secrets import stored_values
from tidehub.secrets.redaction import Redactor
from tidehub.system.files import os_fault


def log_files(places: Places) -> dict[str, Path]:
    """Every log by the name a user uses: `hub`, `servers/alice/default`, `clusters/...`. Raises `TidehubError`."""
    if not places.logs.is_dir():
        raise TidehubError(
            f"no platform was set up in {places.state}", fix=f"run: {command(places.state, 'up')}"
        )
    try:
        found = sorted(places.logs.glob("*.log"))
        below = sorted([*places.server_logs.rglob("*.log"), *places.cluster_logs.rglob("*.log")])
    except OSError as error:
        raise os_fault(error, places.logs, "read") from error
    return {str(path.relative_to(places.logs).with_suffix("")): path for path in [*found, *below]}


def choose(places: Places, part: str | None) -> dict[str, Path]:
    """The logs of `part`, of all below it (`servers`), or of every part of the platform. Raises `UsageError`."""
    files = log_files(places)
    if part is None:
        return {name: path for name, path in files.items() if "/" not in name}
    wanted = part.removesuffix(".log").strip("/")
    if wanted in files:
        return {wanted: files[wanted]}
    chosen = {name: path for name, path in files.items() if name.startswith(f"{wanted}/")}
    if not chosen and wanted in ("servers", "clusters"):
        raise TidehubError(
            f"no log of {wanted} in {places.logs}: none has been started, or its logs have expired"
        )
    if not chosen:
        raise UsageError(
            f"there is no log of {part!r} in {places.logs}",
            expected=", ".join(files) or "no logs yet",
        )
    return chosen


def redactor(places: Places) -> Callable[[bytes], bytes]:
    """Hides the platform's secrets, also in logs that other programs wrote."""
    return Redactor(stored_values(places.secrets))
