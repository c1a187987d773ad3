"""New values for the platform's own secrets, on a state where that is safe now."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tidehub import program
from tidehub.errors import TidehubError
from tidehub.local.hub.forget_tokens import forget_tokens
from tidehub.local.places import Places, command
from tidehub.local.secrets import change_secrets, load_secrets, made_at
from tidehub.local.supervisor.state import KEPT, hold
from tidehub.local.supervisor.status import is_running, platform_status
from tidehub.secrets.changes import Rotated, require_accepted
from tidehub.secrets.declared import Declared, Kept, find, kept_by
from tidehub.secrets.secret import Secret
from tidehub.secrets.store import MOST_OLD
from tidehub.system.files import read_private


@dataclass(frozen=True)
class StateSecret:
    """One secret of a state, without its value."""

    declared: Declared
    values: int
    """1, and one for each old key that still decrypts."""
    made: datetime | None


def state_secrets(places: Places) -> list[StateSecret]:
    """What a state keeps. Raises `TidehubError` when no platform was set up there, or the file is damaged."""
    _require_set_up(places)
    secrets, made = load_secrets(places.secrets), made_at(places.secrets)
    return [StateSecret(one, len(secrets.ring(one.name)), made.get(one.name)) for one in kept_by(Kept.STATE)]


def rotate_in_state(
    places: Places, name: str, *, accept: str | None = None, forget_old: bool = False
) -> Rotated:
    """A new value for one of the platform's own secrets.

    A key whose old value stays second may be replaced at any time: it is read at the next start. Any other is refused
    while the platform runs, and after a crash that left users' processes behind. Raises `UsageError` (no such
    secret, a price that was not accepted), `TidehubError`.
    """
    declared = find(name, Kept.STATE)
    again = program.command("secrets", "rotate", name, "--state", places.state)
    require_accepted(declared, accept, again, forget_old=forget_old)
    _require_set_up(places)
    load_secrets(places.secrets)
    if declared.rotation.keeps_old and not forget_old:
        return _replace(places, declared, keep=MOST_OLD)
    _require_stopped(places, declared)
    with hold(places.lock):
        if declared.hub_service:
            old = load_secrets(places.secrets).ring(name)
            forget_tokens(_hub_database(places), old)
        return _replace(places, declared, keep=0)


def _replace(places: Places, declared: Declared, *, keep: int) -> Rotated:
    make = declared.shape.make
    assert make is not None, "a state holds only what is made here"
    kept: list[Secret] = []

    def change(values: Mapping[str, list[Secret]]) -> Mapping[str, list[Secret]]:
        kept[:] = values[declared.name][:keep]
        return {declared.name: [Secret(make()), *kept]}

    change_secrets(places.secrets, change)
    return Rotated(declared, str(places.secrets), len(kept))


def _require_set_up(places: Places) -> None:
    status = platform_status(places)  # says it when this user may not look
    if status["state"] == "none" or not Path(places.secrets).exists():
        raise TidehubError(f"no platform was set up in {places.state}", fix="name its directory with --state")


def _require_stopped(places: Places, declared: Declared) -> None:
    status = platform_status(places)
    if is_running(status):
        raise TidehubError(
            f"the platform in {places.state} runs, and its parts share {declared.name}",
            expected="a stopped platform: a part that starts anew would have another value than the rest",
            fix=f"run: {command(places.state, 'down')}, rotate, then {command(places.state, 'up')}",
        )
    if status["state"] in ("crashed", KEPT):
        raise TidehubError(
            f"users' servers and clusters of {places.state} may still run, and use {declared.name}",
            fix=f"run {command(places.state, 'up')}, which takes them over, then "
            f"{command(places.state, 'down')}, then rotate",
        )


def _hub_database(places: Places) -> str:
    """The address of the hub's database, as the hub was last told."""
    try:
        url = json.loads(read_private(places.hub_config) or "{}").get("database_url")
    except (ValueError, AttributeError):
        url = None
    return url if isinstance(url, str) else f"sqlite:///{places.hub_database}"
