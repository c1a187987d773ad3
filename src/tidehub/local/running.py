"""The running platform of a state directory, as other commands find it."""

from __future__ import annotations

from tidehub.errors import Place, TidehubError
from tidehub.local.addresses import LOOPBACK
from tidehub.local.front.ports import has_listener
from tidehub.local.hub.settings import HubSettings
from tidehub.local.places import Places, command
from tidehub.local.supervisor.last_up import last_options, up_again
from tidehub.local.supervisor.state import read_state
from tidehub.system.files import read_private


def running_settings(places: Places) -> HubSettings:
    """What the hub of the running platform was told. Raises `TidehubError` when nothing runs there."""
    if not places.exists:
        raise TidehubError(
            f"no platform was set up in {places.state}", fix=f"run: {command(places.state, 'up')}"
        )
    state = read_state(places.platform)
    if state is None or not state.alive:
        raise TidehubError(
            f"the platform in {places.state} is not running",
            fix=f"run: {up_again(places, last_options(places))}",
        )
    text = read_private(places.hub_config)
    if text is None:
        raise TidehubError(
            f"the platform in {places.state} has not finished starting",
            fix=f"look at: {command(places.state, 'status')}",
        )
    try:
        return HubSettings.model_validate_json(text)
    except ValueError as error:
        raise TidehubError(
            "the hub's settings are damaged, or were written by another version of tidehub",
            where=Place(str(places.hub_config)),
            fix=f"run: {command(places.state, 'down')}, then {command(places.state, 'up')}",
        ) from error


def refuse_strangers(places: Places, port: int) -> None:
    """Raise `TidehubError` unless `port` is held by the supervisor of this state: secrets may be sent there.

    The supervisor has the sockets of all parts open for as long as it lives.
    """
    state = read_state(places.platform)
    if state is None or not state.alive or not has_listener(state.pid, port, LOOPBACK):
        raise TidehubError(
            f"the platform in {places.state} does not listen on port {port}",
            expected="a port that its supervisor holds; another program could read what is sent there",
            fix=f"look at: {command(places.state, 'status')}",
        )
