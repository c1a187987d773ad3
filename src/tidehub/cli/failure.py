"""How a command that failed says so: in words on standard error, or with `--json` as one object on standard output."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from tidehub.cli.console import print_lines
from tidehub.errors import TidehubError


def wants_json(words: Sequence[str]) -> bool:
    """Whether this call asked for JSON; also where its words cannot be understood otherwise."""
    before = words[: words.index("--")] if "--" in words else words
    return "--json" in before


def failure_json(error: TidehubError) -> dict[str, Any]:
    """A fault for `--json`: these keys are in it for every command, and the single faults where there are several."""
    where = error.where
    found: dict[str, Any] = {
        "ok": False,
        "what": error.what,
        "where": str(where) if where else None,
        "expected": error.expected,
        "fix": error.fix,
    }
    problems = [one.as_dict() for one in getattr(error, "problems", ()) if hasattr(one, "as_dict")]
    return found | ({"problems": problems} if problems else {})


def tell(error: TidehubError, *, as_json: bool) -> None:
    """Say what went wrong, where the caller looks for it."""
    if as_json:
        import json

        print_lines([without_secrets(json.dumps(failure_json(error), indent=2))])
    else:
        print_lines([without_secrets(f"tidehub: {error}")], sys.stderr)


def without_secrets(text: str) -> str:
    """No message holds a secret; and if one ever did, what this run has read would still not show."""
    reading = sys.modules.get("tidehub.secrets.redaction")
    return str(reading.known.text(text)) if reading else text
