"""The jsonschema library, without the two seconds that it can take to load."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

_GRAMMAR = "rfc3987_syntax"


@cache
def validators() -> Any:
    """The module `jsonschema.validators`.

    Where the optional package rfc3987_syntax is installed (jupyter-events brings it), jsonschema loads it at once, and
    that builds a parser of internationalised addresses: 1.8 s. No chart's schema uses that format, and jsonschema
    does without where the import fails.
    """
    hidden = _GRAMMAR not in sys.modules
    if hidden:
        sys.modules[_GRAMMAR] = None  # type: ignore[assignment]
    try:
        import jsonschema.validators as found
    finally:
        if hidden:
            del sys.modules[_GRAMMAR]
    return found
