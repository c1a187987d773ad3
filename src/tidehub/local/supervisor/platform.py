"""What the supervisor needs from whoever assembles a platform, and what it says on the way."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tidehub.local.secrets import Secret
from tidehub.local.supervisor.component import Component


class Say(Protocol):
    """Progress for a user. Nothing secret goes in, but `Platform.closing_lines`."""

    def step(self, text: str) -> None:
        """What is being done now; replaces the last step. May be called often (a download's progress)."""

    def done(self, text: str) -> None:
        """Something is finished."""

    def note(self, text: str) -> None:
        """Something to know."""

    def warn(self, text: str) -> None:
        """Something that the user should act on."""


class Silent:
    """A `Say` that says nothing; a class below it says some of it."""

    def step(self, text: str) -> None: ...
    def done(self, text: str) -> None: ...
    def note(self, text: str) -> None: ...
    def warn(self, text: str) -> None: ...


@dataclass(frozen=True)
class UpOptions:
    """The options of `tidehub up` that concern the platform."""

    site_file: Path | None = None
    port: int | None = None
    demo_login: bool = False
    demo_login_on_public_address: bool = False
    fit: bool = False
    settings: tuple[tuple[str, Any], ...] = ()
    """Keys of the site and the values that replace the file's (`--set`)."""

    def to_json(self) -> dict[str, Any]:
        """Plain values; see `from_json`."""
        return {
            **asdict(self),
            "site_file": None if self.site_file is None else str(self.site_file),
            "settings": [list(one) for one in self.settings],
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> UpOptions:
        """What `to_json` gave. Raises `TypeError` for something else."""
        file, settings = found.get("site_file"), found.get("settings", [])
        return cls(
            **{
                **found,
                "site_file": None if file is None else Path(file),
                "settings": tuple((str(key), value) for key, value in settings),
            }
        )

    def over(self, before: UpOptions) -> UpOptions:
        """These options where they are given, and those of before where they are not."""
        return UpOptions(
            site_file=self.site_file or before.site_file,
            port=before.port if self.port is None else self.port,
            demo_login=self.demo_login or before.demo_login,
            demo_login_on_public_address=self.demo_login_on_public_address
            or before.demo_login_on_public_address,
            fit=self.fit or before.fit,
            settings=self.settings or before.settings,
        )

    def words(self) -> list[str]:
        """The same on the command line of `tidehub up`."""
        flags = ("demo_login", "demo_login_on_public_address", "fit")
        return [
            *(["--site", str(self.site_file)] if self.site_file else []),
            *(["--port", str(self.port)] if self.port is not None else []),
            *(f"--{name.replace('_', '-')}" for name in flags if getattr(self, name)),
            *(word for key, value in self.settings for word in ("--set", f"{key}={json.dumps(value)}")),
        ]


async def _observe_nothing() -> Mapping[str, object]:
    return {}


async def _nothing_to_stop(grace: float) -> None:
    return None


def _nothing_to_give_back(nothing_runs: bool) -> None:
    return None


def _nothing_to_hand_over() -> None:
    return None


def _say_nothing() -> Sequence[str]:
    return ()


@dataclass(frozen=True)
class Platform:
    """One assembled platform."""

    components: Sequence[Component]
    address: str
    """Where users go, a URL."""
    gaps: Sequence[str] = ()
    """What this machine cannot enforce, one line each."""
    secrets: Sequence[Secret] = ()
    """Kept out of every log."""
    before_stop: Callable[[float], Awaitable[None]] = _nothing_to_stop
    """Ends users' servers and clusters within so many seconds, kills what is left; the parts still run.

    Called at every stop that a user asked for, not after a failed start. Called again with 0 when the
    user hurries. It must not need the hub: the parts may be down.
    """
    after_stop: Callable[[bool], None] = _nothing_to_give_back
    """Called when all parts have ended, also after a failed start; true when nothing of the users runs any more."""
    observe: Callable[[], Awaitable[Mapping[str, object]]] = _observe_nothing
    """For `status`: JSON-able keys such as `servers` and `clusters`."""
    serves: Mapping[str, Any] = field(default_factory=dict)
    """What it serves, in JSON's types: `changes.Served`. Empty where it cannot be changed while it runs."""
    again: Callable[[Mapping[str, Any], Say], Platform] | None = None
    """Makes the same platform for something else to serve, while this one runs; called in another thread."""
    hand_over: Callable[[], None] = _nothing_to_hand_over
    """Called when the parts have ended, before this program becomes another one that goes on with the same state."""
    tidy: Callable[[], Sequence[str]] = _say_nothing
    """Removes what is of no use any more and says what that was; called in another thread, now and then."""
    closing_lines: Callable[[], Sequence[str]] = _say_nothing
    """What a user reads when all is ready: accounts with passwords, where the state lives, how to stop.

    It goes to the terminal only, never to a log.
    """


Prepare = Callable[[Say], Platform]
"""Makes the platform: brings software, renders configurations, raises `TidehubError`. May take minutes."""
