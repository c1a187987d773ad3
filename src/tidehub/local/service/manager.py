"""The machine's systemd: where its units lie, and `systemctl`."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tidehub import program
from tidehub.errors import TidehubError, UsageError

SECONDS = 60.0
STOP_SECONDS = 300.0
_BOOTED = Path("/run/systemd/system")
"""Is there where systemd is PID 1 (sd_booted(3))."""


@dataclass(frozen=True)
class Manager:
    """The system's manager, or that of the user who asks."""

    of_user: bool
    directory: Path

    @classmethod
    def here(cls, *, of_user: bool) -> Manager:
        """Raises `TidehubError` where there is none, and for whom it does not work."""
        if not _BOOTED.is_dir() or shutil.which("systemctl") is None:
            raise TidehubError(
                "systemd does not run on this machine, so there is nothing to install a service into",
                expected="a machine or virtual machine whose first process is systemd",
                fix=f"have `{program.command('up')}` started by what starts programs here; in a container it is "
                "the main program",
            )
        root = os.geteuid() == 0
        if of_user and root:
            raise UsageError("a service of root is a system service", fix="leave --user out")
        if not of_user and not root:
            raise UsageError(
                "only root may install a system service",
                fix="run the same command with sudo, or install one of your own with --user",
            )
        if not of_user:
            return cls(False, Path("/etc/systemd/system"))
        manager = cls(True, _config_home() / "systemd" / "user")
        manager._require_answer()
        return manager

    def call(self, *words: str, seconds: float = SECONDS, check: bool = True) -> str:
        """What `systemctl WORDS` prints. Raises `TidehubError` with what it says when it fails."""
        argv = ["systemctl", *(["--user"] if self.of_user else []), "--no-pager", *words]
        try:
            done = subprocess.run(
                argv,
                capture_output=True,
                text=True,
                errors="replace",
                stdin=subprocess.DEVNULL,
                env=self._environment(),
                timeout=seconds,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise TidehubError(
                f"`{' '.join(argv)}` did not end: {error}", fix="look at: systemctl status"
            ) from error
        if check and done.returncode != 0:
            raise TidehubError(
                f"`{' '.join(argv)}` failed: {done.stderr.strip() or f'exit code {done.returncode}'}"
            )
        return done.stdout.strip()

    def state(self, unit: str) -> dict[str, str]:
        """What systemd says of a unit that may not be there."""
        names = ("LoadState", "UnitFileState", "ActiveState", "SubState", "StatusText", "NeedDaemonReload")
        lines = self.call("show", f"--property={','.join(names)}", unit).splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def command(self, words: str) -> str:
        """The same for a user to type."""
        return f"systemctl {'--user ' if self.of_user else ''}{words}"

    def _environment(self) -> dict[str, str]:
        environment = dict(os.environ)
        if self.of_user:
            # `su` and cron leave it out; the user's manager is there where the user lingers or is logged in.
            environment.setdefault("XDG_RUNTIME_DIR", f"/run/user/{os.geteuid()}")
        return environment

    def _require_answer(self) -> None:
        try:
            self.call("show-environment")
        except TidehubError as error:
            raise TidehubError(
                f"your own systemd does not answer: {error.what}",
                expected="a login session of yours, on the console or over SSH; `su` alone does not start one",
                fix=f"log in as {user_name()}, or have root run: loginctl enable-linger {user_name()}",
            ) from error


def user_name() -> str:
    """The name of the user who asks, or the number of one without an entry."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _config_home() -> Path:
    chosen = os.environ.get("XDG_CONFIG_HOME", "")
    return Path(chosen) if chosen.startswith("/") else Path.home() / ".config"
