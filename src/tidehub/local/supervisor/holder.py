"""Keeps the platform's listening sockets when the supervisor is killed: run by path with `python -I -S`.

Servers and clusters of users outlive a killed supervisor and go on sending their tokens to the hub, the gate and the
gateway. Were those ports free then, any user of the machine could take one and read along. So this process, in a
session of its own and with nothing to do, holds a second descriptor of each socket, accepts nothing, and gives them
to the next supervisor, over a socket in the private directory.

It ends when it is told to, and by itself when no supervisor is there and nothing of the users runs any more, when the
state directory is gone, or when a newer holder has taken its place. Only the standard library is imported: it stays
small, and an upgrade of tidehub may replace every module while it runs.

Arguments: the path of the socket on which it answers and that file's inode, the table of started processes, the
descriptors of the line to the supervisor and of the socket on which it answers, and `name=descriptor` for each socket
that it holds.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import sqlite3
import struct
import sys
from pathlib import Path

LOOK_EVERY = 2.0
"""Seconds between two looks for processes of users while no supervisor is there."""
ASK, END, LEAVE = b"?", b"e", b"l"
"""What a supervisor says: give me the sockets; end; I leave, and my parts have ended."""
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PEER = struct.Struct("3i")


def main() -> None:
    """Hold until there is no reason to."""
    path, inode, table = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    line = socket.socket(fileno=int(sys.argv[4]))
    door = socket.socket(fileno=int(sys.argv[5]))
    held = {name: int(number) for name, number in (word.split("=") for word in sys.argv[6:])}
    for number in IGNORED:
        # A signal to all processes of a user or a group must not free the ports while their servers run.
        signal.signal(number, signal.SIG_IGN)
    os.chdir("/")
    with contextlib.suppress(OSError):
        # When memory is short, the kernel looks elsewhere first (proc(5), oom_score_adj; root only).
        Path("/proc/self/oom_score_adj").write_text("-900")
    _Holder(path, inode, table, door, held).serve(line)


class _Holder:
    def __init__(
        self, path: Path, inode: int, table: Path, door: socket.socket, held: dict[str, int]
    ) -> None:
        self.path = path
        self.inode = inode
        self.table = table
        self.door = door
        self.held = held
        self.selector = selectors.DefaultSelector()
        self.supervised = 1

    def serve(self, line: socket.socket) -> None:
        self.selector.register(self.door, selectors.EVENT_READ)
        self.selector.register(line, selectors.EVENT_READ)
        while True:
            ready = self.selector.select(None if self.supervised else LOOK_EVERY)
            for key, _ in ready:
                one = key.fileobj
                assert isinstance(one, socket.socket)
                if one is self.door:
                    self._admit()
                elif not self._answer(one):
                    return
            if not ready and not self.supervised and not self._needed():
                return

    def _admit(self) -> None:
        try:
            one, _ = self.door.accept()
        except OSError:
            return
        _, uid, _ = _PEER.unpack(one.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        if uid not in (0, os.geteuid()):
            one.close()
            return
        # A supervisor that is about to take over counts as one: nothing is given up meanwhile.
        self.supervised += 1
        self.selector.register(one, selectors.EVENT_READ)

    def _answer(self, one: socket.socket) -> bool:
        """Do what a supervisor says; False when that is to end."""
        try:
            said = one.recv(1)
        except OSError:
            said = b""
        if said == ASK:
            with contextlib.suppress(OSError):
                socket.send_fds(one, [json.dumps(list(self.held)).encode()], list(self.held.values()))
            return True
        others = self.supervised - 1
        # Parts of a killed supervisor are killed by the kernel at the same moment; then the first look comes later.
        if said == END or (said == LEAVE and not others and not self._needed()):
            for descriptor in self.held.values():
                os.close(descriptor)
            return False
        # That its line closes tells a supervisor that it was heard.
        self.selector.unregister(one)
        one.close()
        self.supervised = others
        return True

    def _needed(self) -> bool:
        try:
            ours = self.path.lstat().st_ino == self.inode
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return ours and anything_runs(self.table)


def anything_runs(table: Path) -> bool:
    """Whether a process that was started for a user lives, or what it left; true when that cannot be known."""
    try:
        with contextlib.closing(
            sqlite3.connect(f"{table.as_uri()}?mode=ro", uri=True, timeout=1.0)
        ) as database:
            handles = [json.loads(text) for (text,) in database.execute("SELECT handle FROM launches")]
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return any(_runs(handle, boot) for handle in handles)
    except sqlite3.OperationalError:
        return table.exists()
    except (OSError, sqlite3.Error, ValueError, KeyError, TypeError):
        return True


def _runs(handle: dict[str, object], boot: str) -> bool:
    """`handle` is `isolation.launches.ProcessHandle` as it is written down."""
    if handle.get("boot") and handle["boot"] != boot:
        return False
    for pid, started in (("pid", "started"), ("keeper", "keeper_started")):
        if handle.get(pid) and _started(handle[pid]) == handle.get(started):
            return True
    groups = handle.get("cgroup")
    return any(_has_processes(group) for group in groups) if isinstance(groups, list | tuple) else False


def _started(pid: object) -> int | None:
    """Clock ticks from boot to the start of a process that lives (proc_pid_stat(5), fields 3 and 22)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZXx" else int(fields[19])


def _has_processes(group: object) -> bool:
    try:
        return bool(Path(str(group), "cgroup.procs").read_text().strip())
    except OSError:
        return False


if __name__ == "__main__":
    main()
