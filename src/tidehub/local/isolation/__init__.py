"""Starting users' programs as themselves, within limits, and knowing how they end."""

from __future__ import annotations

from .base import Isolation
from .bubblewrap import BubblewrapIsolation
from .choose import SingleIsolation, choose_isolation
from .launches import Launched, ProcessHandle
from .model import Ending, LaunchSpec, Limits, Usage, User
from .root import RootIsolation
from .trees import Ground
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
]
