"""Starting people's programs as themselves, within limits, and knowing how they end."""

from __future__ import annotations

from .base import Ground, Isolation
from .bubblewrap import BubblewrapIsolation
from .choose import choose_isolation
from .launches import Launched
from .model import Ending, LaunchSpec, Limits, Person, Usage, size_words
from .people import DEFAULT_UIDS, proxy_uid, safe_slug, services_uid
from .process import ProcessHandle
from .root import RootIsolation
from .single import SingleIsolation

__all__ = [
    "DEFAULT_UIDS",
    "BubblewrapIsolation",
    "Ending",
    "Ground",
    "Isolation",
    "LaunchSpec",
    "Launched",
    "Limits",
    "Person",
    "ProcessHandle",
    "RootIsolation",
    "SingleIsolation",
    "Usage",
    "choose_isolation",
    "proxy_uid",
    "safe_slug",
    "services_uid",
    "size_words",
]
