"""`tidehub completion`: what a shell needs to complete commands, options, keys, parts and secrets' names."""

from __future__ import annotations

import re
import shlex
from enum import StrEnum
from typing import Annotated

import typer

from tidehub.cli.console import print_lines
from tidehub.program import COMPLETES, found_everywhere


class Shell(StrEnum):
    """The shells that are tested, each by a Tab in it."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Annotated[Shell, typer.Argument(help="Your shell.")]) -> None:
    """Print the completion script for bash, zsh or fish.

    For bash, in ~/.bashrc: eval "$(tidehub completion bash)"

    For zsh, in ~/.zshrc, after compinit: eval "$(tidehub completion zsh)"

    For fish: tidehub completion fish > ~/.config/fish/completions/tidehub.fish
    """
    from typer._completion_shared import get_completion_script

    script = get_completion_script(prog_name=_NAME, complete_var=COMPLETES, shell=shell.value)
    print_lines([_CALL.sub(lambda _: shlex.quote(found_everywhere()), script)])


_NAME = "tidehub"
_CALL = re.compile(rf"(?<= ){_NAME}(?=\)|\"$)", re.MULTILINE)
"""Where typer's scripts for zsh and fish call the program: by a name that the shell does not find in a checkout. The
script for bash calls what was typed."""


def prepare() -> None:
    """Make typer answer shells in the way in which its own scripts ask."""
    from typer._completion_classes import completion_init

    completion_init()
