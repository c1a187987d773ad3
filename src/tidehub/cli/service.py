"""`tidehub service`: the platform on this machine as a unit of systemd."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from tidehub.cli.console import make_say, print_lines
from tidehub.cli.lazy import SETTINGS, Command, Group
from tidehub.cli.options import BuiltIn, DemoLogin, Fit, MachineSite, Settings, State
from tidehub.cli.site_options import file_here, load_site_or_builtin, settings_of

if TYPE_CHECKING:
    from tidehub.local.service.installing import Service

app = typer.Typer(
    cls=Group,
    help="Start the platform at every boot, as a systemd service.",
    no_args_is_help=True,
    **SETTINGS,
)

OfUser = Annotated[
    bool, typer.Option("--user", help="A service of your own, without root, instead of the system's.")
]


@app.command(cls=Command)
def install(
    file: MachineSite = None,
    state: State = None,
    port: Annotated[
        int | None, typer.Option("--port", metavar="N", min=1, max=65535, help="Listen on this port.")
    ] = None,
    built_in: BuiltIn = False,
    demo_login: DemoLogin = False,
    fit: Fit = False,
    settings: Settings = None,
    user: OfUser = False,
    enable: Annotated[
        bool | None,
        typer.Option(
            "--enable/--no-enable",
            help="Start it now and at every boot. Without either, a terminal is asked, and nothing else starts it.",
        ),
    ] = None,
) -> None:
    """Write the unit; start it now and at every boot."""
    from tidehub.local.machine import refuse_unsupported
    from tidehub.local.service.installing import Service
    from tidehub.local.supervisor.status import is_running, platform_status

    service = Service.of(state, of_user=user)
    # A wrong site is said here, not in the journal.
    chosen = None if built_in else file_here(file)
    refuse_unsupported(load_site_or_builtin(chosen, settings_of(settings)).site)
    site = chosen and chosen.absolute()
    changed = service.install(
        [
            *(["--site", str(site)] if site else ["--built-in"]),
            *(["--port", str(port)] if port else []),
            *(["--demo-login"] if demo_login else []),
            *(["--fit"] if fit else []),
            *(word for setting in settings or () for word in ("--set", setting)),
        ],
        [site] if site else [],
    )
    print_lines([f"{service.file}:", "", *(service.text() or "").splitlines(), ""])
    say = make_say()
    for warning in service.warnings():
        say.warn(warning)
    active = service.manager.state(service.name).get("ActiveState") in ("active", "activating")
    if changed and active:
        say.note(f"It runs as it was before, until: {service.manager.command(f'restart {service.name}')}")
    if enable is None and sys.stdin.isatty():
        enable = typer.confirm(f"Start {service.name} now and at every boot?", default=True)
    if not enable:
        print_lines(
            [f"To start it now and at every boot: {service.manager.command(f'enable --now {service.name}')}"]
        )
        return
    if not active and is_running(platform_status(service.places)):
        from tidehub.errors import TidehubError
        from tidehub.local.places import command

        raise TidehubError(
            f"a platform runs already in {service.places.state}, and not as this service",
            fix=f"stop it, then start the service: {command(service.places.state, 'down')}"
            f" && {service.manager.command(f'enable --now {service.name}')}",
        )
    say.step(f"starting {service.name}")
    try:
        service.enable()
    finally:
        say.rest()
    print_lines(_state(service))


@app.command(cls=Command)
def show(state: State = None, user: OfUser = False) -> None:
    """Show the unit, and what systemd says of it.

    Exit code 1 when there is none.
    """
    from tidehub.local.service.installing import Service

    service = Service.of(state, of_user=user)
    text = service.text()
    if text is None:
        print_lines([f"No service is installed for {service.places.state}: there is no {service.file}."])
        raise typer.Exit(1)
    print_lines([f"{service.file}:", "", *text.splitlines(), "", *_state(service)])
    say = make_say()
    for warning in service.warnings():
        say.warn(warning)


@app.command(cls=Command)
def remove(state: State = None, user: OfUser = False) -> None:
    """Stop and disable the service, and remove its unit.

    Files, accounts, databases and software stay.
    """
    from tidehub.local.service.installing import Service

    service = Service.of(state, of_user=user)
    if service.remove():
        print_lines([f"{service.file} is removed. The state stays: {service.places.state}"])
    else:
        print_lines([f"No service is installed for {service.places.state}: there is no {service.file}."])


def _state(service: Service) -> list[str]:
    found = service.manager.state(service.name)
    line = f"{service.name} is {found.get('ActiveState', 'unknown')}"
    if found.get("SubState"):
        line += f" ({found['SubState']})"
    line += f", at boot: {found.get('UnitFileState') or 'unknown'}"
    return [line, *([found["StatusText"]] if found.get("StatusText") else [])]
