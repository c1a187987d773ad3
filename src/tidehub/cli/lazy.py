"""A group of commands whose modules are imported when they are asked for: a quick command stays quick."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperGroup
from typer.exceptions import Abort
from typer.main import get_command

SETTINGS: dict[str, Any] = {
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}
"""What every part of the command line has in common."""
_LONGEST = 1000
"""Characters of a command's first sentence."""


class Group(TyperGroup):
    """Commands below one name."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Whole sentences, on as many lines as they need: Click would cut each off at the end of its first line."""
        shown = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, command.get_short_help_str(_LONGEST)) for name, command in shown if command]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class LazyGroup(Group):
    """`homes` names each command's function or `typer.Typer`: `package.module:name`."""

    homes: ClassVar[Mapping[str, str]] = {}

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings | {"commands": _Commands(self.homes)})

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)

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
    alone.command(name)(found)
    return get_command(alone)
