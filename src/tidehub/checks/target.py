"""The platform that is asked, whichever machine or cluster it runs on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Account:
    """A demo account. The password never prints."""

    name: str
    password: str = field(repr=False)


class Logs(Protocol):
    """Where the platform's parts write, since this check began."""

    def matter(self, parts: Iterable[str], words: Iterable[str]) -> list[str]:
        """The lines of these parts (`hub`, `gateway`, `servers`, ...) that tell of faults or of these words."""
        ...


class NoLogs:
    """A platform whose logs cannot be read from here."""

    def matter(self, parts: Iterable[str], words: Iterable[str]) -> list[str]:
        return []


@dataclass(frozen=True)
class Target:
    """What a check must know beforehand. Everything else it finds out as a user would."""

    address: str
    """Public address with base path, ending in `/`."""
    accounts: tuple[Account, ...] = ()
    """Demo accounts of members, the preferred one first; none with a real identity provider."""
    token: str | None = field(default=None, repr=False)
    """A user's hub API token, instead of a login."""
    certificate: Path | None = None
    """The platform's own certificate chain, trusted beside what the machine trusts."""
    profiles: tuple[str, ...] = ()
    """Slugs of the profiles that the site promises the user."""
    default_profile: str = ""
    workers: int = 2
    """How many Dask workers to ask for; 0 where the user may have no Dask clusters."""
    fitting: Callable[[str], int] | None = None
    """How many of them the machine can hold beside a server of this profile; None where that is not known."""
    logs: Logs = field(default_factory=NoLogs)
    scrub: Callable[[str], str] = str
    """Removes secrets from a text."""
    for_user: Callable[[Mapping[str, Any]], Target] | None = None
    """What the site promises one user, by the hub's record of them; none where it promises everybody the same."""
