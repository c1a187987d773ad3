"""Starting users' programs as themselves, within limits, and knowing how they end."""

from __future__ import annotations

from .base import Ground, Isolation
from .bubblewrap import BubblewrapIsolation
from .choose import choose_isolation
from .launches import Launched
from .model import Ending, LaunchSpec, Limits, Usage, User, size_words
from .process import ProcessHandle
from .root import RootIsolation
from .single import SingleIsolation
from .users import DEFAULT_UIDS, proxy_uid, safe_slug, services_uid

__all__ = [
    "DEFAULT_UIDS",
    "BubblewrapIsolation",
    "Ending",
    "Ground",
    "Isolation",
    "LaunchSpec",
    "Launched",
    "Limits",
    "ProcessHandle",
    "RootIsolation",
    "SingleIsolation",
    "Usage",
    "User",
    "choose_isolation",
    "proxy_uid",
    "safe_slug",
    "services_uid",
    "size_words",
]
