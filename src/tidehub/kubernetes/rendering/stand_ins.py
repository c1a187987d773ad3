"""Words in the place of secrets: a site is rendered for reading without its secrets being there, or seen."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidehub.secrets.charts import chart_values
from tidehub.secrets.declared import BY_NAME
from tidehub.secrets.secret import Secret
from tidehub.secrets.site_secrets import SecretsError, needed
from tidehub.secrets.sources import Found, Resolved, resolve
from tidehub.secrets.store import beside
from tidehub.site.model import Site


def stand_in_values(
    site_file: Path, site: Site, environ: Mapping[str, str] = os.environ
) -> dict[str, dict[str, Any]]:
    """As `secrets.charts.chart_values`, every secret by its name: `<gateway_token>`. None has to be there.

    Raises `SecretsError` for a secrets file that cannot be read: it may hold values of charts that nobody else knows.
    """
    resolved = resolve(site_file, environ)
    wrong = [problem for problem in resolved.problems if problem.severity == "error"]
    if wrong:
        raise SecretsError(wrong)
    names = [*(declared.name for declared in needed(site)), *resolved.found]
    found = {
        name: Found(BY_NAME[name], (Secret(f"<{name}>"),), "file", str(beside(site_file))) for name in names
    }
    overrides = {chart: _named(values, f"overrides.{chart}") for chart, values in resolved.overrides.items()}
    return chart_values(Resolved(file=resolved.file, found=found, overrides=overrides))


@dataclass(frozen=True)
class SecretValue:
    """A secret among a release's values: where, and what it is called."""

    path: str
    name: str
    purpose: str | None
    """As the rest of a sentence that begins with "it"; None for what only the secrets file's `overrides` know."""


def secret_values(values: Any, path: str = "") -> Iterator[SecretValue]:
    """The secrets in values that `stand_in_values` made, in their order."""
    if isinstance(values, Secret):
        name = values.reveal().strip("<>")
        declared = BY_NAME.get(name)
        yield SecretValue(path, name, declared.purpose if declared else None)
    elif isinstance(values, Mapping):
        for key, value in values.items():
            yield from secret_values(value, f"{path}.{key}" if path else str(key))
    elif isinstance(values, list):
        for index, value in enumerate(values):
            yield from secret_values(value, f"{path}[{index}]")


def _named(values: Any, path: str) -> Any:
    if isinstance(values, Mapping):
        return {key: _named(value, f"{path}.{key}") for key, value in values.items()}
    if isinstance(values, list):
        return [_named(value, f"{path}[{index}]") for index, value in enumerate(values)]
    return Secret(f"<{path}>") if isinstance(values, Secret) else values
