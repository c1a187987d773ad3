"""Complete sites to start from. `init --preset` writes them, `preset:` in a site file builds on them.

The files of `examples/` are copies of these, byte for byte. `laptop` is the site of a bare `tidehub up`.
"""

from __future__ import annotations

from pathlib import Path

NAMES = ("laptop", "egi-pangeo", "protocoast")


def text_of(name: str) -> str:
    """The site file of a preset, with its comments. Raises `KeyError` for an unknown name."""
    if name not in NAMES:
        raise KeyError(name)
    return (Path(__file__).parent / f"{name}.yaml").read_text(encoding="utf-8")
