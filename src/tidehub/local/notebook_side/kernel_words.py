"""Tells a person in the notebook when memory was the reason for a kernel's end.

Runs in the notebook server, with the profile's environment only. Without it JupyterLab says "the kernel appears to
have died", and nobody knows why. The cell that was running gets the reason as its last output.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, ClassVar

from jupyter_server.services.kernels.connection.base import deserialize_msg_from_ws_v1
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection


def memory_events_file(
    cgroups: Path = Path("/proc/self/cgroup"), mounts: Path = Path("/proc/self/mountinfo")
) -> Path | None:
    """The kernel's file that counts memory kills of this process' group, cgroup v1 or v2; None where there is none."""
    named = os.environ.get("TIDEHUB_MEMORY_EVENTS")
    if named and os.access(named, os.R_OK):
        return Path(named)
    try:
        own: dict[str, str] = {}
        for line in cgroups.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            own |= dict.fromkeys(controllers.split(","), path)
        lines = [line.split() for line in mounts.read_text().splitlines()]
    except (OSError, ValueError):
        return None
    for fields in lines:
        end = fields.index("-")
        kind, options, root, mount = fields[end + 1], fields[end + 3].split(","), fields[3], fields[4]
        if kind == "cgroup" and "memory" in options and "memory" in own:
            found = Path(mount, os.path.relpath(own["memory"], root), "memory.oom_control")
        elif kind == "cgroup2" and "" in own:
            found = Path(mount, os.path.relpath(own[""], root), "memory.events")
        else:
            continue
        # Not Path.exists: that raises where a directory on the way is closed to us, and no server would start.
        if os.access(found, os.R_OK):
            return found
    return None


def memory_kills(events: Path | None) -> int:
    """How many processes of this group were killed for memory so far."""
    if events is None:
        return 0
    try:
        for line in events.read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    except (OSError, ValueError):
        pass
    return 0


def words(limit: str | None) -> str:
    """The sentence for the person; `limit` is the server's limit in bytes as the hub tells it."""
    size = ""
    if limit and limit.isdigit():
        whole = int(limit)
        size = f" of {whole / 2**30:.3g} GiB" if whole >= 2**30 else f" of {whole / 2**20:.4g} MiB"
    return (
        f"\nThe kernel was stopped because this server used more than its memory limit{size}. "
        "Variables are lost, files are kept. Load less at once, close other notebooks, or use a Dask cluster.\n"
    )


class WordsOnMemoryKill(ZMQChannelsWebsocketConnection):  # type: ignore[misc]
    """jupyter_server's kernel connection, which also explains a restart that memory caused."""

    _events: ClassVar[Path | None] = memory_events_file()
    _kills_seen: ClassVar[dict[str, int]] = {}
    _running_cell: dict[str, Any] | None = None

    def connect(self) -> Any:
        type(self)._kills_seen.setdefault(self.kernel_id, memory_kills(self._events))
        return super().connect()

    def handle_incoming_message(self, incoming_msg: Any) -> None:
        try:
            self._remember(incoming_msg)
        except Exception:
            self.log.debug("could not read a kernel message", exc_info=True)
        super().handle_incoming_message(incoming_msg)

    def _remember(self, message: Any) -> None:
        if self.subprotocol == "v1.kernel.websocket.jupyter.org":
            channel, parts = deserialize_msg_from_ws_v1(message)
            header = self.session.unpack(parts[0])
        elif isinstance(message, str):
            whole = json.loads(message)
            channel, header = whole.get("channel"), whole.get("header", {})
        else:
            return
        if channel == "shell" and header.get("msg_type") == "execute_request":
            self._running_cell = header

    def on_kernel_restarted(self) -> None:
        kills = memory_kills(self._events)
        if kills > self._kills_seen.get(self.kernel_id, 0):
            self.log.warning("kernel %s was killed for memory", self.kernel_id)
            if self._running_cell is not None:
                # Before the status message: JupyterLab forgets the running cell when it reads that.
                self.write_stderr(words(os.environ.get("MEM_LIMIT")), self._running_cell)
        type(self)._kills_seen[self.kernel_id] = kills
        super().on_kernel_restarted()
