"""What the unit says. Nothing here touches the machine.

Sources: systemd.unit(5), systemd.service(5), systemd.kill(5), systemd.resource-control(5).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tidehub.errors import INTERRUPTED, USAGE, UsageError
from tidehub.local.isolation.cgroup_files import PLATFORM_MEMORY, PLATFORM_WEIGHT
from tidehub.local.isolation.cgroups import SLICE

STOP_SECONDS = 150
"""`up` gives users' programs 30 s and then its parts theirs; what is left after this is killed."""
START_LIMIT, START_LIMIT_MINUTES = 6, 10
RESTART_SECONDS = 10
_MARK = re.compile(r"^# Written by `tidehub service install` for the state (.+)\.$", re.MULTILINE)
_LONGEST_NAME = 200


@dataclass(frozen=True)
class Unit:
    """One platform's unit. `command` is the program and its first words, `arguments` those of `up` besides --state."""

    state: Path
    command: Sequence[str]
    arguments: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    of_user: bool = False
    paths: Sequence[Path] = ()
    """Directories and files besides the state whose file systems must be mounted before the start."""

    def text(self) -> str:
        """The whole file."""
        words = [*self.command, "up", "--state", str(self.state), *self.arguments]
        again = [*self.command, "reload", "--state", str(self.state)]
        mounts = " ".join(quoted(str(path)) for path in (self.state, *self.paths))
        edit = f"systemctl {'--user ' if self.of_user else ''}edit"
        lines = [
            f"# Written by `tidehub service install` for the state {printable(self.state)}.",
            f"# The next one replaces it: settings of your own belong into a drop-in ({edit}).",
            "[Unit]",
            f"Description=JupyterHub and Dask Gateway, {printable(self.state)}".replace("%", "%%"),
        ]
        if not self.of_user:
            lines += ["Wants=network-online.target", "After=network-online.target"]
        lines += [
            f"RequiresMountsFor={mounts}",
            "# A port that another program has, or a full disk, is not tried for ever.",
            f"StartLimitIntervalSec={START_LIMIT_MINUTES}min",
            f"StartLimitBurst={START_LIMIT}",
            "",
            "[Service]",
            "Type=notify",
            "NotifyAccess=main",
            *(f"Environment={quoted(f'{name}={value}')}" for name, value in self.environment.items()),
            f"ExecStart={_command_line(words)}",
            "# Applies a changed site file or tidehub to the running platform; nobody's work ends.",
            f"ExecReload={_command_line(again)}",
            "# A first start brings software, and says in the status how far it is.",
            "TimeoutStartSec=infinity",
            "# `up` alone gets the signal, and stops everything in order.",
            "KillMode=mixed",
            f"TimeoutStopSec={STOP_SECONDS}",
            "# After a crash the next start takes users' servers over. Wrong usage is not retried.",
            "Restart=on-failure",
            f"RestartSec={RESTART_SECONDS}",
            f"RestartPreventExitStatus={USAGE}",
            f"SuccessExitStatus={INTERRUPTED}",
            "# Limits are in control groups that the platform makes below the unit, and in its users' scope beside it.",
            f"Slice={SLICE}",
            "Delegate=yes",
            "OOMPolicy=continue",
            "TasksMax=infinity",
            f"CPUWeight={PLATFORM_WEIGHT[0]}",
            f"MemoryMin={PLATFORM_MEMORY[0] >> 20}M",
            f"MemoryLow={PLATFORM_MEMORY[1] >> 20}M",
            "",
            "[Install]",
            f"WantedBy={'default' if self.of_user else 'multi-user'}.target",
        ]
        return "\n".join(lines) + "\n"


def _command_line(words: Sequence[str]) -> str:
    # Variables are expanded in a command's arguments, and nowhere else.
    return " ".join([quoted(words[0]), *(quoted(word).replace("$", "$$") for word in words[1:])])


def unit_name(state: Path, default: Path) -> str:
    """`tidehub.service` for the default state; another one's path is in the name of its unit."""
    if state == default:
        return "tidehub.service"
    slug = re.sub(r"[^A-Za-z0-9]+", "-", str(state)).strip("-")
    return f"tidehub-{slug[-_LONGEST_NAME:].strip('-') or 'state'}.service"


def state_of(text: str) -> str | None:
    """The state for which `tidehub service install` wrote this unit; None when it did not write it."""
    found = _MARK.search(text)
    return found[1] if found else None


def printable(path: Path) -> str:
    """A path as it stands in a comment: one line. Raises `UsageError` for one that systemd cannot be given."""
    text = str(path)
    if not text.isprintable():
        raise UsageError(
            f"{text!r} has characters that a systemd unit cannot hold",
            expected="a path of printable characters",
            fix="choose another directory or file",
        )
    return text


def quoted(word: str) -> str:
    """One word of a unit's line: nothing in it is expanded or split. Raises `UsageError`."""
    if not word.isprintable():
        raise UsageError(
            f"{word!r} has characters that a systemd unit cannot hold",
            expected="printable characters",
            fix="put the value into the site file",
        )
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return escaped if re.fullmatch(r"[A-Za-z0-9_@%+=:,./-]+", escaped) else f'"{escaped}"'
