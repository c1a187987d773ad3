"""`tidehub up` and `tidehub reload`: the platform on this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidehub.cli.answers import print_json
from tidehub.cli.console import ConsoleSay, make_say, print_lines
from tidehub.cli.failure import tell
from tidehub.cli.options import BuiltIn, DemoLogin, Fit, MachineSite, Settings, State, json_of
from tidehub.cli.site_options import file_here, load_site_or_builtin, settings_of
from tidehub.errors import INTERRUPTED, TidehubError

if TYPE_CHECKING:
    from tidehub.local.applying import Running
    from tidehub.local.places import Places
    from tidehub.local.supervisor.platform import Platform, Say, UpOptions


def up(
    file: MachineSite = None,
    state: State = None,
    port: Annotated[
        int | None,
        typer.Option("--port", metavar="N", min=0, max=65535, help="Listen on this port (0: any free one)."),
    ] = None,
    built_in: BuiltIn = False,
    demo_login: DemoLogin = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return when everything is ready; the platform keeps running.")
    ] = False,
    fit: Fit = False,
    settings: Settings = None,
    accept_missing: Annotated[
        list[str] | None,
        typer.Option(
            "--accept-missing",
            metavar="NAME",
            help="Start without this part of the state, which is missing: platform-id, secrets.json, "
            "people.sqlite, hub.sqlite or homes. Can be given more than once.",
        ),
    ] = None,
    demo_login_on_public_address: Annotated[
        bool,
        typer.Option(
            "--demo-login-on-public-address",
            help="Serve the demo accounts beyond this machine: whoever reads a password may enter.",
        ),
    ] = False,
    as_json: Annotated[bool, json_of("where it serves, or what was changed")] = False,
) -> None:
    """Start the platform on this machine, or apply changes.

    Ctrl-C stops it, a second Ctrl-C at once; with --detach, `tidehub down` does. If it already runs, it is changed to
    what the site and the options now say; options that are not given stay as they are. No server or cluster is ended
    by that.
    """
    from tidehub.local.machine import refuse_unsupported
    from tidehub.local.missing import refuse_missing
    from tidehub.local.places import Places
    from tidehub.local.supervisor.last_up import refuse_to_guess
    from tidehub.local.supervisor.platform import UpOptions

    changed = settings_of(settings)
    stated = None if built_in else file
    from tidehub.local.isolation.systemd import ends_with_logout, enter_scope
    from tidehub.local.supervisor.state import held_by_another
    from tidehub.system.notify import is_awaited

    places = Places.of(state)
    # What runs goes on with its site unless another one is named: this directory's may be another platform's.
    runs = places.exists and held_by_another(places.lock) and not is_awaited()
    here = None if built_in else file_here(None)
    chosen = stated if runs else stated or here
    if chosen is None and not runs and not built_in:
        refuse_to_guess(places)
    options = UpOptions(
        # Absolute, because a detached platform stands elsewhere.
        site_file=chosen and chosen.absolute(),
        port=port,
        demo_login=demo_login,
        demo_login_on_public_address=demo_login_on_public_address,
        fit=fit,
        settings=changed,
    )
    with _going_back(places):
        # Read before anything is made, so that a wrong one leaves nothing behind.
        loaded = load_site_or_builtin(chosen, changed)
        refuse_unsupported(loaded.site)
        gone = refuse_missing(
            places, accept_missing or (), own_hub_database=loaded.site.machine.database_url is None
        )
        # Whatever the caller's, and detached or not: nothing is open to others unless its mode says so.
        os.umask(0o077)
        if runs:
            # Imported here alone: what it imports may start threads, and those do not survive the birth of a daemon.
            from tidehub.local.applying import Running

            if (running := Running.on(places)) is not None:
                _change(running, options, as_json=as_json, here=here)
                return
        places.ensure()
        enter_scope(places.platform_id)
        say = make_say()
        if ends_with_logout():
            from tidehub.local.service.manager import user_name

            say.warn(
                "this platform runs below a systemd of your own, which ends about 10 s after your last logout, and"
                f" everybody's servers with it, unless you run: loginctl enable-linger {user_name()}"
            )
        for part in gone:
            say.warn(f"{part.name} is missing and is created again: {part.meaning}")
        for warning in loaded.warnings:
            if warning.severity == "note":
                say.note(str(warning))
            else:
                say.warn(warning.unmarked())
        try:
            go = _detached if detach else _attached
            code = go(places, options, say, as_json=as_json)
        finally:
            say.rest()
        raise typer.Exit(code)


def reload(
    state: State = None,
    as_json: Annotated[bool, json_of("what was changed, and which parts were restarted")] = False,
) -> None:
    """Apply the changed site file to the running platform.

    No server or cluster is ended by that. Those that need a restart are named. The same as `tidehub up` without other
    options, but only where a platform runs.
    """
    from tidehub.local.applying import Running
    from tidehub.local.places import Places
    from tidehub.local.supervisor.last_up import last_options, up_again
    from tidehub.local.supervisor.platform import UpOptions

    places = Places.of(state)
    running = Running.on(places)
    if running is None:
        raise TidehubError(
            f"no platform runs in {places.state}",
            expected="a running platform, whose site file has changed",
            fix=f"start it: {up_again(places, last_options(places))}",
        )
    _change(running, UpOptions(), as_json=as_json)


@contextlib.contextmanager
def _going_back(places: Places) -> Iterator[None]:
    """What took the place of a running platform, and cannot start, gives it back to what served before: also where it
    has a fault of its own.
    """
    try:
        yield
    except typer.Exit:
        raise
    except Exception as error:
        from tidehub.local.supervisor.changing import Successor

        former = Successor.former(places)
        if former is None:
            raise
        told = (
            str(error) if isinstance(error, TidehubError) else f"not started, an unexpected error: {error!r}"
        )
        print_lines([f"tidehub: {told}", "The previous platform is served again."], sys.stderr)
        former.become()


def _change(running: Running, options: UpOptions, *, as_json: bool, here: Path | None = None) -> None:
    """Change a platform that runs, and say what was changed. `here` is this directory's site file."""
    say = make_say()
    serves = running.serves.options.get("site_file")
    if here is not None and options.site_file is None and serves != str(here.absolute()):
        from tidehub.local.places import command

        say.note(
            f"It goes on with {serves or 'the built-in site'}. "
            f"To serve the site file of this directory: {command(running.places.state, 'up', here)}"
        )
    try:
        done = running.apply(options, say)
    finally:
        say.rest()
    if as_json:
        print_json(done.to_json())
    elif done.plan.empty and not done.parts:
        print_lines([f"Nothing has changed. The platform runs at {done.address} (process {done.pid})."])
    else:
        parts = ", ".join(done.parts) or "none"
        print_lines(
            [
                f"The platform was changed and keeps running at {done.address} (process {done.pid}).",
                f"Restarted parts: {parts}.",
            ]
        )


def _started(places: Places, pid: int, address: str) -> dict[str, Any]:
    """For `--json`: no passwords, which `status` shows."""
    return {"started": True, "pid": pid, "address": address, "state": str(places.state)}


def _attached(places: Places, options: UpOptions, say: ConsoleSay, *, as_json: bool = False) -> int:
    from tidehub.local.platform import prepare
    from tidehub.local.supervisor.detach import DAEMON
    from tidehub.local.supervisor.session import run
    from tidehub.system.notify import READY, STOPPING, ToldToManager, is_awaited, notify, status

    def ready(platform: Platform) -> None:
        say.rest()
        if as_json:
            print_json(_started(places, os.getpid(), platform.address))
        elif DAEMON not in os.environ:
            print_lines([*platform.closing_lines(), "or with Ctrl-C here."])
        notify(READY, status(f"serves {platform.address}"))

    if not is_awaited():
        code = run(places, prepare(places, options), say, ready)
        if as_json and code == INTERRUPTED:  # before it was ready
            tell(TidehubError("interrupted"), as_json=True)
        return code
    # SIGTERM is a request to stop also in the moments in which the session has no handler of its own.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        run(places, prepare(places, options), ToldToManager(say), ready)
    # It was asked to stop. A manager takes a start that ends before it is ready, and an exit code of 1 because
    # something had to be killed, for failures, and would start anew what was stopped by `tidehub down`.
    # Two messages: of one, systemd takes the last word alone.
    notify(READY)
    notify(STOPPING)
    return 0


def _detached(places: Places, options: UpOptions, say: ConsoleSay, *, as_json: bool = False) -> int:
    from tidehub.local.supervisor.detach import detach
    from tidehub.local.supervisor.session import run

    def body(told: Say, ready: Callable[[Platform], None]) -> int:
        # Imported in the daemon: what it imports may start threads, and those do not survive its birth.
        from tidehub.local.platform import prepare

        return run(places, prepare(places, options), told, ready)

    lines = detach(body, say, places.supervisor_log)
    say.rest()
    if as_json:
        from tidehub.local.supervisor.status import platform_status

        found = platform_status(places)
        print_json(_started(places, int(str(found["pid"])), str(found["address"])))
    else:
        print_lines(lines)
    return 0
