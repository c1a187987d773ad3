"""A group of commands whose modules are imported when they are asked for: a quick command stays quick."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import Abort
from typer.main import get_command

from tidehub.cli.options import SITE_VARIABLE, SiteOption

SETTINGS: dict[str, Any] = {
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}
"""What every part of the command line has in common."""
_LONGEST = 1000
"""Characters of a command's first sentence."""


class Command(TyperCommand):
    """One command. Where it takes a site file (`options.SiteFile`), `--site` is another way to name the same."""

    def __init__(self, name: str | None, *, params: list[Any], **more: Any) -> None:
        self._site = next((one.name for one in params if one.envvar == SITE_VARIABLE), None)
        super().__init__(name, params=[*params, *(_site_option() if self._site else [])], **more)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        rest: list[str] = super().parse_args(ctx, args)
        if self._site is not None and (again := ctx.params.pop("site", None)) is not None:
            stated = ctx.get_parameter_source(self._site)
            if stated is not None and stated.name == "COMMANDLINE" and ctx.params[self._site] != again:
                ctx.fail("FILE and --site name two site files: give one")
            ctx.params[self._site] = again
        return rest


def _site_option() -> list[Any]:
    def template(site: SiteOption = None) -> None: ...

    alone = typer.Typer(**SETTINGS)
    alone.command()(template)
    return [one for one in get_command(alone).params if one.name == "site"]


class Group(TyperGroup):
    """Commands below one name."""

    def sections(self, ctx: Any) -> Mapping[str, list[str]]:
        """The commands of `--help` below their headings."""
        return {"Commands": self.list_commands(ctx)}

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Whole sentences below headings, all in one column; Click knows one list, and would cut each sentence off at
        the end of its first line."""
        width = max(map(len, self.list_commands(ctx)), default=0)
        for heading, names in self.sections(ctx).items():
            shown = [(name, self.get_command(ctx, name)) for name in names]
            with formatter.section(heading):
                formatter.write_dl(
                    [
                        (name.ljust(width), command.get_short_help_str(_LONGEST))
                        for name, command in shown
                        if command
                    ]
                )


class LazyGroup(Group):
    """`homes` names, below headings in the order of `--help`, each command's function or `typer.Typer`:
    `package.module:name`."""

    homes: ClassVar[Mapping[str, Mapping[str, str]]] = {}

    def __init__(self, **settings: Any) -> None:
        every = {name: home for below in self.homes.values() for name, home in below.items()}
        super().__init__(**settings | {"commands": _Commands(every)})

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)

    def sections(self, ctx: Any) -> Mapping[str, list[str]]:
        return {heading: list(below) for heading, below in self.homes.items()}

    def invoke(self, ctx: Any) -> Any:
        """Interrupted is told apart from a command that ends with 130 and has said why: typer makes both the same."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Abort from None

    def make_context(self, *about: Any, **more: Any) -> Any:
        try:
            return super().make_context(*about, **more)
        except KeyboardInterrupt:
            raise Abort from None


class _Commands(MutableMapping[str, Any]):
    def __init__(self, homes: Mapping[str, str]) -> None:
        self._homes = dict(homes)
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = _command(name, self._homes[name])
        return self._made[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._homes.setdefault(name, "")
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        del self._homes[name]
        self._made.pop(name, None)

    def __contains__(self, name: object) -> bool:
        return name in self._homes

    def __iter__(self) -> Iterator[str]:
        return iter(self._homes)

    def __len__(self) -> int:
        return len(self._homes)


def _command(name: str, home: str) -> Any:
    module, _, attribute = home.partition(":")
    found = getattr(import_module(module), attribute)
    if isinstance(found, typer.Typer):
        group = get_command(found)
        group.name = name
        return group
    alone = typer.Typer(**SETTINGS)
    alone.command(name, cls=Command)(found)
    return get_command(alone)
