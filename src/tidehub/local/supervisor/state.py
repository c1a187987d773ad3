"""`platform.json`: what runs now, for users, for `status` after a crash, and for the next start."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tidehub import __version__
from tidehub.errors import TidehubError
from tidehub.local.places import command
from tidehub.system.files import read_private, write_private
from tidehub.system.processes import boot_id, start_ticks

KEPT = "kept"
"""What `state` says when the parts have been stopped and users' servers and clusters go on without them."""


@dataclass(frozen=True)
class PlatformState:
    """The file's content. `started`: the start of `pid` in clock ticks since boot; `since`: epoch seconds."""

    pid: int
    started: int
    since: float
    state: str
    address: str = ""
    version: str = __version__
    parts: Sequence[dict[str, object]] = ()
    gaps: Sequence[str] = ()
    groups: Sequence[Sequence[str]] = ()
    """The control groups of the parts, each by its directories."""
    run: str = ""
    boot: str = ""
    """The kernel's boot id; empty in what an earlier version wrote."""
    extra: dict[str, object] = field(default_factory=dict)

    @property
    def alive(self) -> bool:
        """Whether that very process still runs."""
        return not self.before_reboot and start_ticks(self.pid) == self.started

    @property
    def before_reboot(self) -> bool:
        """Whether the machine was started anew since: then no process of that run is left."""
        return bool(self.boot and boot_id() and self.boot != boot_id())


def own_state(*, state: str, since: float | None = None, **more: object) -> PlatformState:
    """The state of this process."""
    pid = os.getpid()
    return PlatformState(
        pid=pid,
        started=start_ticks(pid) or 0,
        boot=boot_id(),
        since=time.time() if since is None else since,
        state=state,
        **more,  # type: ignore[arg-type]
    )


def write_state(path: Path, content: PlatformState) -> None:
    write_private(path, json.dumps(content.__dict__, indent=2) + "\n")


def read_state(path: Path) -> PlatformState | None:
    """None when nothing runs, or it was stopped cleanly. Raises `TidehubError` when damaged."""
    text = read_private(path)
    if text is None:
        return None
    try:
        content = json.loads(text)
        known = {name: content[name] for name in PlatformState.__dataclass_fields__ if name in content}
        found = PlatformState(**known)
        if not (isinstance(found.pid, int) and isinstance(found.started, int)):
            raise TypeError("pid and started must be numbers")
        if not all(isinstance(text, str) for text in (found.state, found.address, found.run, found.boot)):
            raise TypeError("state, address, run and boot must be text")
        return found
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise TidehubError(
            f"{path} is damaged: {error}",
            fix=f"remove it: it only tells what runs. Then: {command(path.parent.parent, 'status')}",
        ) from error


def forget_state(path: Path) -> None:
    """Remove it after a clean stop."""
    path.unlink(missing_ok=True)
