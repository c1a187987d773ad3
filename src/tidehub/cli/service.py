"""`tidehub service`: the platform on this machine as a unit of systemd."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from tidehub.cli.console import make_say, print_lines
from tidehub.cli.lazy import SETTINGS, Group
from tidehub.cli.options import DemoLogin, Fit, MachineSite, Settings, State
from tidehub.cli.site_options import load_site_or_builtin, settings_of

if TYPE_CHECKING:
    from tidehub.local.service.installing import Service

app = typer.Typer(
    cls=Group,
    help="Run the platform of this machine as a service of systemd, which starts it at every boot.",
    no_args_is_help=True,
    **SETTINGS,
)

OfUser = Annotated[
    bool, typer.Option("--user", help="A service of your own, without root, instead of the system's.")
]


@app.command()
def install(
    site: MachineSite = None,
    state: State = None,
    port: Annotated[
        int | None, typer.Option("--port", metavar="N", min=1, max=65535, help="Listen on this port.")
    ] = None,
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
    """Write the unit, show it, and have it started now and at every boot."""
    from tidehub.local.machine import refuse_unsupported
    from tidehub.local.service.installing import Service
    from tidehub.local.supervisor.status import is_running, platform_status

    service = Service.of(state, of_user=user)
    # A wrong site is said here, not in the journal.
    refuse_unsupported(load_site_or_builtin(site, settings_of(settings)).site)
    file = site and site.absolute()
    changed = service.install(
        [
            *(["--site", str(file)] if file else []),
            *(["--port", str(port)] if port else []),
            *(["--demo-login"] if demo_login else []),
            *(["--fit"] if fit else []),
            *(word for setting in settings or () for word in ("--set", setting)),
        ],
        [file] if file else [],
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


@app.command()
def show(state: State = None, user: OfUser = False) -> None:
    """Show the unit and what systemd says of it; exit code 1 when there is none."""
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


@app.command()
def remove(state: State = None, user: OfUser = False) -> None:
    """Stop and disable the service and remove its unit. Files, accounts, databases and software stay."""
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
