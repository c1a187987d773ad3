"""`tidehub service`: the platform on this machine as a unit of systemd."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidehub.cli.answers import print_json
from tidehub.cli.console import make_say, print_lines
from tidehub.cli.lazy import SETTINGS, Command, Group
from tidehub.cli.options import BuiltIn, DemoLogin, Fit, MachineSite, Settings, State, json_of
from tidehub.cli.site_options import file_here, load_site_or_builtin, settings_of
from tidehub.errors import FAILED, TidehubError

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
    as_json: Annotated[bool, json_of("the unit, and what systemd reports about it")] = False,
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
    if not as_json:
        print_lines([f"{service.file}:", "", *(service.text() or "").splitlines(), ""])
    say = make_say()
    for warning in service.warnings():
        say.warn(warning)
    active = service.manager.state(service.name).get("ActiveState") in ("active", "activating")
    if changed and active:
        say.note(f"It runs as it was before, until: {service.manager.command(f'restart {service.name}')}")
    if enable is None and sys.stdin.isatty() and not as_json:
        enable = typer.confirm(f"Start {service.name} now and at every boot?", default=True)
    if not enable:
        starts = service.manager.command(f"enable --now {service.name}")
        if as_json:
            print_json(_facts(service) | {"changed": changed, "starts_with": starts})
        else:
            print_lines([f"To start it now and at every boot: {starts}"])
        return
    if not active and is_running(platform_status(service.places)):
        from tidehub.local.places import command

        raise TidehubError(
            f"a platform already runs in {service.places.state}, and not as this service",
            fix=f"stop it, then start the service: {command(service.places.state, 'down')}"
            f" && {service.manager.command(f'enable --now {service.name}')}",
        )
    say.step(f"starting {service.name}")
    try:
        service.enable()
    finally:
        say.rest()
    if as_json:
        print_json(_facts(service) | {"changed": changed})
    else:
        print_lines(_state(service))


@app.command(cls=Command)
def show(
    state: State = None,
    user: OfUser = False,
    as_json: Annotated[bool, json_of("the unit, and what systemd reports about it")] = False,
) -> None:
    """Show the unit and what systemd reports about it.

    Exit code 1 when there is none.
    """
    from tidehub.local.service.installing import Service

    service = Service.of(state, of_user=user)
    text = service.text()
    if as_json:
        code = FAILED if text is None else 0
        print_json(_facts(service), code=code)
        raise typer.Exit(code)
    if text is None:
        print_lines([_none(service)])
        raise typer.Exit(FAILED)
    print_lines([f"{service.file}:", "", *text.splitlines(), "", *_state(service)])
    say = make_say()
    for warning in service.warnings():
        say.warn(warning)


@app.command(cls=Command)
def remove(
    state: State = None,
    user: OfUser = False,
    as_json: Annotated[bool, json_of("whether there was one")] = False,
) -> None:
    """Stop and disable the service, and remove its unit.

    Files, accounts, databases and software stay.
    """
    from tidehub.local.service.installing import Service

    service = Service.of(state, of_user=user)
    removed = service.remove()
    if as_json:
        print_json({"removed": removed, "file": str(service.file), "state": str(service.places.state)})
    elif removed:
        print_lines([f"{service.file} is removed. The state stays: {service.places.state}"])
    else:
        print_lines([_none(service)])


def _none(service: Service) -> str:
    return f"No service is installed for {service.places.state}: there is no {service.file}."


def _facts(service: Service) -> dict[str, Any]:
    """For `--json`: the unit and what systemd says of it."""
    text = service.text()
    found = service.manager.state(service.name) if text is not None else {}
    return {
        "installed": text is not None,
        "name": service.name,
        "file": str(service.file),
        "state": str(service.places.state),
        "unit": text,
        "active": found.get("ActiveState"),
        "substate": found.get("SubState"),
        "at_boot": found.get("UnitFileState"),
        "status": found.get("StatusText") or None,
        "warnings": service.warnings() if text is not None else [],
    }


def _state(service: Service) -> list[str]:
    found = service.manager.state(service.name)
    line = f"{service.name} is {found.get('ActiveState', 'unknown')}"
    if found.get("SubState"):
        line += f" ({found['SubState']})"
    line += f", at boot: {found.get('UnitFileState') or 'unknown'}"
    return [line, *([found["StatusText"]] if found.get("StatusText") else [])]
