"""Environments, Node.js and the proxy of one machine. Only the standard library: the first set-up uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidehub.local.software.progress import Progress as Progress
    from tidehub.local.software.software import Environment as Environment
    from tidehub.local.software.software import Profile as Profile
    from tidehub.local.software.software import Software as Software

_HOMES = {
    "Environment": "software",
    "Profile": "software",
    "Progress": "progress",
    "Software": "software",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for only then: `./tidehub` starts through `layout`, which must stay quick."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
