"""What the last `tidehub up` of a state served, kept beyond its end: hints name it, so that they can be pasted, and an
`up` that names nothing never puts another site in its place.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

from tidehub.errors import TidehubError
from tidehub.local.places import Places, command
from tidehub.local.supervisor.platform import UpOptions
from tidehub.system.files import read_private, write_private


def remember(places: Places, serves: Mapping[str, Any]) -> None:
    """Keep the options in `serves` (as `Platform.serves`); on a full disk what was kept before stays."""
    if "options" in serves:
        with contextlib.suppress(TidehubError):
            write_private(places.last_up, json.dumps(serves["options"], indent=1) + "\n")


def last_options(places: Places) -> UpOptions | None:
    """The options, or None where nothing was served yet, or it cannot be read: then a hint says less."""
    try:
        text = read_private(places.last_up)
        return None if text is None else UpOptions.from_json(json.loads(text))
    except (TidehubError, ValueError, TypeError, AttributeError):
        return None


def up_again(places: Places, options: UpOptions | None) -> str:
    """The command that serves `options` again, ready to be pasted; the plain one for the small site."""
    words = [] if options is None else options.words()
    return command(places.state, "up", *(words if words != ["--built-in"] else ()))


def refuse_to_guess(places: Places) -> None:
    """Raises `TidehubError` where nothing names a site, and the state served the one of a file: without that, the small
    site would take over its users."""
    last = last_options(places)
    if last is not None and last.site_file is not None:
        raise TidehubError(
            f"{places.state} served {last.site_file} when it ran last, and no site is named now",
            expected="the site file, or --built-in for the small site",
            fix=f"to serve the same again: {up_again(places, last)}",
        )
