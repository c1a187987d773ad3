"""Parts of a state that are gone while others are there: `up` makes none of them anew without being told to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tidehub.errors import TidehubError, UsageError
from tidehub.local.isolation.users import Users
from tidehub.local.places import Places, command

NAMES = ("platform-id", "secrets.json", "people.sqlite", "hub.sqlite", "homes")
"""What `--accept-missing` may name."""


@dataclass(frozen=True)
class Missing:
    """One part that is gone. `meaning`: what making it anew would do, a sentence."""

    name: str
    meaning: str


def missing_parts(places: Places, *, own_hub_database: bool) -> list[Missing]:
    """What this state has lost; nothing for one that was never set up. `own_hub_database`: it is not on PostgreSQL."""
    users = _users(places)
    homes = _has_entries(places)
    hub = places.hub_database.exists()
    others = places.secrets.exists() or places.users.exists() or hub or homes
    found = []
    if others and not places.id_file.exists():
        found.append(
            Missing(
                "platform-id",
                "the platform would no longer be the one that the users' uids on this machine were reserved for, and "
                "could not find control groups and sockets of what still runs",
            )
        )
    if not places.secrets.exists() and (hub or places.gateway_database.exists()):
        found.append(
            Missing(
                "secrets.json",
                "all keys would be new: everybody is signed out, running clusters are lost, and what is encrypted in "
                "the databases cannot be read any more",
            )
        )
    if not places.users.exists() and homes:
        found.append(
            Missing(
                "people.sqlite",
                "nobody would know which uid owns which home: users would get new uids and empty homes, and a uid "
                "could be given to another user, who could then read the first one's files",
            )
        )
    if own_hub_database and not hub and (users or homes):
        found.append(
            Missing(
                "hub.sqlite",
                "users, groups, shares and tokens of the hub would be gone, names could pass to other users of the "
                "identity provider, and running servers would be ended",
            )
        )
    if users and not homes:
        found.append(Missing("homes", f"{users} users would find empty homes in {places.homes}"))
    return found


def refuse_missing(places: Places, accepted: Iterable[str], *, own_hub_database: bool) -> list[Missing]:
    """What is missing and accepted, to be told. Raises `TidehubError` when something is missing and not accepted, and
    `UsageError` for a name that is not one of `NAMES`.
    """
    accepted = set(accepted)
    unknown = sorted(accepted - set(NAMES))
    if unknown:
        raise UsageError(f"{unknown[0]!r} is not a part of a state", expected=f"one of {', '.join(NAMES)}")
    found = missing_parts(places, own_hub_database=own_hub_database)
    refused = [part for part in found if part.name not in accepted]
    if refused:
        flags = [word for part in refused for word in ("--accept-missing", part.name)]
        raise TidehubError(
            "; ".join(f"{part.name} is missing in {places.state}: {part.meaning}" for part in refused),
            expected="the state as the last run left it",
            fix=f"restore it from a backup ({command(places.state, 'restore', 'BACKUP')}). To begin anew "
            f"without it: {command(places.state, 'up', *flags)}",
        )
    return found


def _users(places: Places) -> int:
    """How many users the table of users knows; 0 where it cannot be read, which is told elsewhere."""
    if not places.users.exists():
        return 0
    try:
        with Users(places.users, homes=places.homes).database.reading() as table:
            return int(table.execute("SELECT count(*) FROM people WHERE removed = 0").fetchone()[0])
    except TidehubError:
        return 0


def _has_entries(places: Places) -> bool:
    try:
        return any(places.homes.iterdir())
    except OSError:
        return False
