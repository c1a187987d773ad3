"""The client secret of a real identity provider: in the environment, or in the file beside the site file."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tidehub.errors import Place, UsageError

VARIABLE = "TIDEHUB_CLIENT_SECRET"


def secrets_file(site_file: Path) -> Path:
    """`tidehub.yaml` has its secrets in `tidehub.secrets.yaml` beside it."""
    return site_file.with_name(f"{site_file.stem}.secrets.yaml")


def read_client_secret(site_file: Path | None) -> str:
    """The client secret. Raises `UsageError` saying where it is expected; never repeats a value."""
    given = os.environ.get(VARIABLE, "").strip()
    if given:
        return given
    if site_file is None:
        raise UsageError(f"the client secret is missing; set {VARIABLE}")
    path = secrets_file(site_file)
    try:
        mode = path.stat().st_mode
    except OSError:
        raise UsageError(
            "the client secret of the identity provider is missing",
            expected=f"`client_secret: ...` in {path} (mode 0600), or the variable {VARIABLE}",
            fix="write it there, or try the site out with --demo-login",
        ) from None
    if stat.S_IMODE(mode) & 0o077:
        raise UsageError(
            "the secrets file can be read by others", where=Place(str(path)), fix=f"chmod 600 {path}"
        )
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        content = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError, OSError):
        raise UsageError("the secrets file cannot be read as YAML", where=Place(str(path))) from None
    value = content.get("client_secret") if isinstance(content, dict) else None
    if not isinstance(value, str) or not value or value.startswith("<"):
        raise UsageError(
            "the secrets file holds no client_secret",
            where=Place(str(path)),
            expected="client_secret: followed by the secret of the provider's registration",
        )
    return value
