"""Progress as users read it: what a long piece of work is told to speak with, on one machine and on a cluster."""

from __future__ import annotations

from typing import Protocol


class Say(Protocol):
    """Nothing secret goes in, but `Platform.closing_lines`."""

    def step(self, text: str) -> None:
        """What is being done now; replaces the last step. May be called often (a download's progress)."""

    def done(self, text: str) -> None:
        """Something is finished."""

    def note(self, text: str) -> None:
        """Something to know."""

    def warn(self, text: str) -> None:
        """Something that the user should act on."""


class Quiet:
    """Says nothing."""

    def step(self, text: str) -> None: ...
    def done(self, text: str) -> None: ...
    def note(self, text: str) -> None: ...
    def warn(self, text: str) -> None: ...
