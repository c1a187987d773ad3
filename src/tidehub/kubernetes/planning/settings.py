"""Files of settings that objects hold, such as a chart's values in its Secret. Pure."""

from __future__ import annotations

from functools import lru_cache
from typing import Any


@lru_cache(maxsize=32)
def read_settings(text: str) -> Any:
    """What a text says as YAML or JSON; None for what is neither. Nobody changes it: it is kept for the next time."""
    from tidehub.charts.documents import read_one

    try:
        return read_one(text)
    except ValueError:
        return None
