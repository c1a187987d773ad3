"""`tidehub reload`: have the running platform serve what its site file says now."""

from __future__ import annotations

from tidehub.cli.options import AsJson, State


def reload(state: State = None, as_json: AsJson = False) -> None:
    """Apply the changed site file to the running platform; nobody's server or cluster ends by that.

    What needs a restart of theirs is said, by name. The same as `tidehub up` without other options, but only where a
    platform runs.
    """
    from tidehub.cli.up import change
    from tidehub.errors import TidehubError
    from tidehub.local.applying import Running
    from tidehub.local.places import Places, command
    from tidehub.local.supervisor.platform import UpOptions

    places = Places.of(state)
    running = Running.on(places)
    if running is None:
        raise TidehubError(
            f"no platform runs in {places.state}",
            expected="a running platform, whose site file has changed",
            fix=f"start it, with its options: {command(places.state, 'up')}",
        )
    change(running, UpOptions(), as_json=as_json)
