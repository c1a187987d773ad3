"""What both sides have in common for the measurements."""

from __future__ import annotations

import abc
import contextlib
import os
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tidehub.checks.target import Target
from tidehub_bench.hub_client import Hub, User, answers
from tidehub_bench.processes import Programs

START_PATIENCE = 120.0
"""Seconds a side may take from exec to its login page."""


@dataclass(frozen=True)
class Began:
    """Seconds from exec until the login page came, and until Dask Gateway answered too."""

    login_page: float
    gateway: float


class Side(abc.ABC):
    """One of the two platforms. Started and stopped many times on the same state."""

    name: str
    address: str
    hub: Hub
    small_profile: str | None = None
    """The profile of whose servers most fit, where there is a choice."""

    def __init__(self, programs: Programs) -> None:
        self.programs = programs
        self.users: list[User] = []
        """Who uses it. No name is used on both sides: their processes are told apart by it."""

    @abc.abstractmethod
    async def prepare(self, run: str, users: int) -> None:
        """Make the state, with so many users, as after a first start. Their names hold `run`, and the side's name."""

    @abc.abstractmethod
    def launch(self) -> None:
        """Execute the programs and return at once."""

    @abc.abstractmethod
    def failed(self) -> str:
        """Why the programs cannot be expected to answer any more, or an empty text."""

    @abc.abstractmethod
    def gateway_health(self) -> str:
        """Address of Dask Gateway's health page; known once the login page answers."""

    @abc.abstractmethod
    def target(self) -> Target:
        """What a browser must know of it."""

    @abc.abstractmethod
    def watcher_token(self) -> str:
        """A token that may list all users and their servers."""

    @abc.abstractmethod
    async def stop(self) -> None:
        """Stop the programs and all that they started."""

    def user_names(self, run: str, users: int) -> list[str]:
        """The names of so many users."""
        return [f"{self.name}-{run}-{number:02}" for number in range(1, users + 1)]

    async def start(self) -> Began:
        """Start, and wait for login page and gateway."""
        began = time.monotonic()
        self.launch()
        await answers(f"{self.address}hub/login", START_PATIENCE, self.failed)
        login_page = time.monotonic() - began
        await answers(self.gateway_health(), START_PATIENCE, self.failed)
        return Began(login_page, time.monotonic() - began)


def free_ports(count: int) -> list[int]:
    """Ports of the loopback address that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def clean_environment(extra: Mapping[str, str], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment for both sides' programs: the same few variables, with the running Python's programs first."""
    kept = {
        name: environ[name]
        for name in (
            "HOME",
            "LANG",
            "LC_ALL",
            "TZ",
            "TMPDIR",
            "XDG_DATA_HOME",
            "TIDEHUB_SOFTWARE",
            "TIDEHUB_PYTHON",
        )
        if name in environ
    }
    path = f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {**kept, "PATH": path, **extra}
