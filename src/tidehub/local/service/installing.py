"""Writing, showing and removing the unit of one state."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tidehub.errors import TidehubError, UsageError
from tidehub.local.places import Places, default_state_dir, lingers
from tidehub.local.service.manager import STOP_SECONDS, Manager, user_name
from tidehub.local.service.unit import Unit, state_of, unit_name
from tidehub.local.software import own
from tidehub.system.files import make_parents, os_fault, read_private, write_private

_CARRIED = ("TIDEHUB_SOFTWARE", "TIDEHUB_PYTHON")
"""Of the shell's environment; anything else may hold secrets, and this file can be read by all."""
_OPEN_FILE = 0o644


@dataclass(frozen=True)
class Service:
    """The unit of one state, installed or not."""

    manager: Manager
    places: Places

    @classmethod
    def of(cls, state: Path | None, *, of_user: bool) -> Service:
        """Touches nothing. Raises `TidehubError` where no service can be installed."""
        return cls(Manager.here(of_user=of_user), Places.of(state))

    @property
    def name(self) -> str:
        return unit_name(self.places.state, Places.of(default_state_dir()).state)

    @property
    def file(self) -> Path:
        return self.manager.directory / self.name

    def text(self) -> str | None:
        """What is installed; None when nothing is. Raises `TidehubError` for a unit that is another's."""
        found = read_private(self.file)
        if found is None:
            return None
        state = state_of(found)
        if state != str(self.places.state):
            whose = "was not written by `tidehub service install`" if state is None else f"is that of {state}"
            raise TidehubError(
                f"{self.file} {whose}",
                expected=f"a unit for the state {self.places.state}, or no file",
                fix=f"move it away, and run: {self.manager.command('daemon-reload')}",
            )
        return found

    def install(self, arguments: Sequence[str], paths: Sequence[Path]) -> bool:
        """Write the unit and have systemd read it; whether that changed anything. Raises `TidehubError`."""
        command = program()
        unit = Unit(
            state=self.places.state,
            command=command,
            arguments=arguments,
            environment={name: os.environ[name] for name in _CARRIED if os.environ.get(name)},
            of_user=self.manager.of_user,
            paths=paths,
        )
        text = unit.text()
        before = self.text()
        if before == text and self.manager.state(self.name).get("NeedDaemonReload") == "no":
            return False
        if before != text:
            try:
                make_parents(self.file)
            except OSError as error:
                raise os_fault(error, self.file.parent, "make") from error
            write_private(self.file, text, mode=_OPEN_FILE)
        self.manager.call("daemon-reload")
        return True

    def enable(self) -> None:
        """Have it started at every boot, and now; returns when the platform is ready. Raises `TidehubError`."""
        self.manager.call("enable", self.name)
        # No deadline: a first start brings software, and systemd itself waits for as long.
        try:
            self.manager.call("start", self.name, seconds=24 * 3600)
        except TidehubError as error:
            raise TidehubError(
                f"{self.name} is enabled and did not start: {error.what}",
                fix=f"look at: journalctl {'--user ' if self.manager.of_user else ''}--unit {self.name}",
            ) from error

    def remove(self) -> bool:
        """Stop, disable and remove the unit, and nothing else; False when there is none. Raises `TidehubError`."""
        if self.text() is None:
            return False
        self.manager.call("stop", self.name, seconds=STOP_SECONDS)
        self.manager.call("disable", self.name)
        try:
            self.file.unlink(missing_ok=True)
        except OSError as error:
            raise os_fault(error, self.file, "remove") from error
        self.manager.call("daemon-reload")
        # A failure of before is still remembered by name; there may be none.
        self.manager.call("reset-failed", self.name, check=False)
        return True

    def warnings(self) -> list[str]:
        """What the operator should know before this unit starts."""
        found = []
        if self.manager.of_user and not lingers():
            found.append(
                "your systemd starts with your first login and ends about 10 s after your last logout, and this"
                f" service with it, unless you run: loginctl enable-linger {user_name()}"
            )
        if not self.manager.of_user:
            found += [
                f"{path} belongs to uid {uid}, who can thereby change what this service runs as root"
                for path, uid in _others(Path(program()[0]))
            ]
        return found


def program() -> list[str]:
    """How the unit names this tidehub: the checkout's own program, or that of the environment it is installed in.

    Never this process' Python: a checkout's changes with every version.
    """
    if own.dependencies() is not None:
        checkout = own.checkout_program()
        if checkout is not None:
            return [str(checkout)]
        raise UsageError(
            "the service would not find this tidehub again: it was not started by the program of its checkout",
            fix="run ./tidehub in the checkout that the service should use",
        )
    installed = Path(sys.prefix) / "bin" / "tidehub"
    if os.access(installed, os.X_OK):
        return [str(installed)]
    return [sys.executable, "-I", "-m", "tidehub"]


def _others(path: Path) -> list[tuple[Path, int]]:
    """The first of a path and the directories above it that another user than root can change."""
    for place in (path, *path.parents):
        found = place.stat()
        if found.st_uid != 0 or (found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX):
            return [(place, found.st_uid)]
    return []
