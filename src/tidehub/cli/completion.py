"""`tidehub completion`: what a shell needs to complete commands, options, keys, parts and secrets' names."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from tidehub.cli.console import print_lines
from tidehub.program import COMPLETES


class Shell(StrEnum):
    """The shells that are tested."""

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

    print_lines([get_completion_script(prog_name="tidehub", complete_var=COMPLETES, shell=shell.value)])


def prepare() -> None:
    """Make typer answer shells in the way in which its own scripts ask."""
    from typer._completion_classes import completion_init

    completion_init()
