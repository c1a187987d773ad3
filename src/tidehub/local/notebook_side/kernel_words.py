"""Tells a user in the notebook when memory was the reason for the end of a kernel, or of a process that it started.

Runs in the notebook server, with the profile's environment only. Without it JupyterLab says "the kernel appears to
have died", and nobody knows why; and of a killed child of a kernel, such as a worker of `multiprocessing`, nothing is
said at all: the cell waits for ever or fails without a reason. The cell that was running gets the reason as output.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakSet

from jupyter_server.services.kernels.connection.base import deserialize_msg_from_ws_v1
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from tornado.ioloop import PeriodicCallback

LOOK = 2.0
"""Seconds between two looks at the counter while a notebook is open: a cell may wait for ever for a killed process."""
SHORT = 64
"""Bytes. `{"execution_state": "idle"}` is shorter; longer messages are not looked into."""


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
    """What the user reads whose kernel was killed; `limit` is the server's limit in bytes as the hub tells it."""
    return (
        f"\nThe kernel was stopped because this server used more than its memory limit{_size(limit)}. "
        "Variables are lost, files are kept. Load less at once, close other notebooks, or use a Dask cluster.\n"
    )


def child_words(limit: str | None) -> str:
    """The same for a killed process that a kernel or another program of the server had started."""
    return (
        f"\nA process was killed because this server used more than its memory limit{_size(limit)}. The kernel goes "
        "on, and its variables are kept. A cell that waits for that process has to be interrupted. "
        "Start fewer processes, load less at once, or use a Dask cluster.\n"
    )


def _size(limit: str | None) -> str:
    if not limit or not limit.isdigit():
        return ""
    whole = int(limit)
    return f" of {whole / 2**30:.3g} GiB" if whole >= 2**30 else f" of {whole / 2**20:.4g} MiB"


class WordsOnMemoryKill(ZMQChannelsWebsocketConnection):  # type: ignore[misc]
    """jupyter_server's kernel connection, which also explains what memory ended.

    The counter is that of the whole server. A kill is told once: for a kernel by its restart, and for any other
    process in the cells that run, or before the end of the cell during which it happened.
    """

    _events: ClassVar[Path | None] = memory_events_file()
    _kills_seen: ClassVar[dict[str, int]] = {}
    _kills_told: ClassVar[int] = memory_kills(_events)
    _open: ClassVar[WeakSet[Any]] = WeakSet()
    _looking: ClassVar[PeriodicCallback | None] = None
    _running_cell: dict[str, Any] | None = None

    def connect(self) -> Any:
        type(self)._kills_seen.setdefault(self.kernel_id, memory_kills(self._events))
        self._open.add(self)
        if self._looking is None and self._events is not None:
            looking = PeriodicCallback(type(self)._look, LOOK * 1000)
            looking.start()
            type(self)._looking = looking
        return super().connect()

    def disconnect(self) -> None:
        self._open.discard(self)
        if not self._open and self._looking is not None:
            self._looking.stop()
            type(self)._looking = None
        super().disconnect()

    def handle_outgoing_message(self, stream: Any, outgoing_msg: list[Any]) -> None:
        # Before the end of the cell: JupyterLab drops what comes later.
        cell = self._running_cell
        if self._events is not None and cell is not None and _ends(cell, outgoing_msg):
            try:
                self._look(ending=self)
            except Exception:
                self.log.debug("could not look at memory kills", exc_info=True)
        super().handle_outgoing_message(stream, outgoing_msg)

    @classmethod
    def _look(cls, ending: Any = None) -> None:
        """Tell of processes that were killed since the last look, in all cells that run; that of `ending` ends now."""
        kills = memory_kills(cls._events)
        if kills <= cls._kills_told or not all(one.kernel_runs() for one in cls._open):
            return  # nothing, or a kernel: its restart tells of it
        running = [one for one in cls._open if one is ending or one.cell_runs()]
        # Several windows may show one notebook; the cell is that of the one which sent it.
        cells = {one.kernel_id: one for one in running if one._running_cell is not None}
        if not cells:
            return  # told when the next cell ends: without one nobody would read it
        cls._kills_told = kills
        cls._kills_seen.update(dict.fromkeys(cls._kills_seen, kills))
        for one in cells.values():
            one.write_stderr(child_words(os.environ.get("MEM_LIMIT")), one._running_cell)

    def kernel_runs(self) -> bool:
        """Whether the kernel's process lives, as far as that can be seen without waiting."""
        process = getattr(getattr(self.kernel_manager, "provisioner", None), "process", None)
        return process is None or process.poll() is None

    def cell_runs(self) -> bool:
        """Whether the kernel is at work, by what jupyter_server last heard of it."""
        return getattr(self.kernel_manager, "execution_state", "") == "busy"

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
        type(self)._kills_told = kills
        super().on_kernel_restarted()


def _ends(cell: dict[str, Any], message: list[Any]) -> bool:
    """Whether a message from a kernel is the one that ends the cell: by its last parts, which are the header of what it
    answers, metadata and content (Jupyter's messaging protocol 5.4, "The wire protocol")."""
    if len(message) < 3 or len(message[-1]) >= SHORT or b'"idle"' not in bytes(message[-1]):
        return False
    return str(cell.get("msg_id")).encode() in bytes(message[-3])
