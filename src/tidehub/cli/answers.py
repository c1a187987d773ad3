"""`--json`: what a command did or found, as one object on standard output."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tidehub.cli.console import print_lines
from tidehub.cli.failure import without_secrets


def print_json(facts: Mapping[str, Any], *, code: int = 0) -> None:
    """Print the answer of a command that ends with the exit code `code`.

    `ok` is its first key, as in the object of a failure (`failure.failure_json`): false where the exit code is not 0,
    unless the command says itself what is all right (`validate --strict` fails for a file that can be used).
    """
    print_lines([without_secrets(json.dumps({"ok": code == 0, **facts}, indent=2))])


def print_json_line(facts: Mapping[str, Any]) -> None:
    """Print one of many objects, each in a line of its own: for what has no end, as a log."""
    print_lines([without_secrets(json.dumps(facts))])
