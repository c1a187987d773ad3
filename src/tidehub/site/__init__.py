"""The site: what a community states about its platform, read from one file.

`load_site`, `builtin_site`, `Site` and `SiteError` are offered here; their modules are imported when first used,
because policy modules import `tidehub.site.model` alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidehub.site.model import Site
    from tidehub.site.problems import Problem, SiteError
    from tidehub.site.reading.load import builtin_site, load_site

__all__ = ["Problem", "Site", "SiteError", "builtin_site", "load_site"]

_HOMES = {
    "Problem": "problems",
    "Site": "model",
    "SiteError": "problems",
    "builtin_site": "reading.load",
    "load_site": "reading.load",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
