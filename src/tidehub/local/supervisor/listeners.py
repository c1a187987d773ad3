"""The listening sockets of one platform: made once, given to the parts, kept by a holder beside the supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tidehub.errors import TidehubError
from tidehub.listening import BACKLOG_INSIDE, inside_name
from tidehub.local.front.ports import first_address, listen_on
from tidehub.local.places import Places, command
from tidehub.local.supervisor import holder
from tidehub.local.supervisor.state import is_ours, reachable
from tidehub.system.files import os_fault

_PROGRAM = Path(holder.__file__)
_MOST = 64
_PATIENCE = 10.0
_PAUSE = 0.5
"""Seconds before a lost holder is replaced: one that cannot run must not be started in a tight loop."""


class Listeners:
    """Sockets by name. `keep` before any part starts; `leave` when all parts have ended."""

    def __init__(self, places: Places, shelter: Callable[[int], bool] = lambda pid: False) -> None:
        """`shelter` takes the holder's pid and moves it to where the end of the platform's unit does not reach it."""
        self._places = places
        self._shelter = shelter
        self._sockets: dict[str, socket.socket] = {}
        self._inside: dict[str, socket.socket] = {}
        self._before: socket.socket | None = None
        self._line: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def recover(self) -> None:
        """Take over what the holder of a killed supervisor has. Raises `TidehubError` when it does not answer."""
        one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        one.settimeout(_PATIENCE)
        try:
            with reachable(self._places.holder) as name:
                one.connect(name)
            if not is_ours(one):
                raise PermissionError(1, "it belongs to another user")
            one.sendall(holder.ASK)
            text, descriptors, _, _ = socket.recv_fds(one, 65536, _MOST)
            sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
            self._sockets = {
                name: found
                for name, found in zip(json.loads(text or b"[]"), sockets, strict=True)
                if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            }
            self._before = one
        except (FileNotFoundError, ConnectionError):
            one.close()
        except (OSError, ValueError) as error:
            one.close()
            raise TidehubError(
                f"the process that holds this platform's ports does not answer: {error}",
                fix=f"find it by `ps -ef | grep {self._places.holder}`, end it with SIGKILL, "
                f"and run `{command(self._places.state, 'up')}` again",
            ) from error

    def __getitem__(self, name: str) -> socket.socket:
        return self._sockets[name]

    def port(self, name: str) -> int | None:
        """The port of a socket that is there, or None."""
        found = self._sockets.get(name)
        return None if found is None else int(found.getsockname()[1])

    def open(self, name: str, address: str, port: int) -> int:
        """Have `name` listen there, by the socket that is there already or a new one; returns the port.

        Raises what `listen_on` does. A socket on another address is no longer wanted, whoever else holds it.
        """
        before = self._sockets.get(name)
        if before is not None:
            if before.getsockname()[:2] == first_address(address, port):
                return port
            del self._sockets[name]
            with before, contextlib.suppress(OSError):
                before.shutdown(socket.SHUT_RDWR)
        self._sockets[name] = made = listen_on(address, port)
        return int(made.getsockname()[1])

    def open_inside(self, part: str, owner: tuple[int, int] | None) -> None:
        """Have `part` also listen on a Unix socket (`tidehub.inside`) that root and `owner`, a uid and the members of a
        group, can connect to; None: we ourselves. Raises `TidehubError`.

        No holder keeps these: nobody else can make a socket there, and only parts connect, which end with us.
        """
        path = self._places.inside_socket(part)
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            path.unlink(missing_ok=True)
            made.bind(str(path))
            # In this order: until the last step only root gets in.
            path.chmod(0o600)
            if owner is not None:
                os.chown(path, *owner)
                path.chmod(0o660)
            made.listen(BACKLOG_INSIDE)
        except OSError as error:
            made.close()
            raise os_fault(error, path, "listen on") from error
        self._inside[part] = made

    def of_part(self, part: str) -> dict[str, socket.socket]:
        """Its port and its Unix socket, under the names by which it asks for them (`tidehub.listening`)."""
        found = {part: self._sockets.get(part), inside_name(part): self._inside.get(part)}
        return {name: one for name, one in found.items() if one is not None}

    def keep(self) -> None:
        """Start the holder, which takes the place of an earlier one. Raises `TidehubError`."""
        self._line, theirs = socket.socketpair()
        path = self._places.holder
        fresh = path.with_suffix(".new")
        try:
            with theirs, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
                fresh.unlink(missing_ok=True)
                with reachable(fresh) as name:
                    door.bind(name)
                fresh.chmod(0o600)
                door.listen(8)
                self._process = self._start(fresh.lstat().st_ino, theirs, door)
                self.shelter()
                # Only now is it the holder to ask: at every moment there is one, whenever we are killed.
                fresh.rename(path)
        except OSError as error:
            raise os_fault(error, path, "listen on") from error
        self._say(self._before, holder.END)
        self._before = None

    def shelter(self) -> bool:
        """Move the holder to where users' programs live, once that is there; whether it was."""
        return self._process is not None and self._shelter(self._process.pid)

    async def stay_kept(self) -> None:
        """Start another holder whenever it is lost (memory was short, somebody killed it), until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            if self._line is None:
                await asyncio.sleep(_PAUSE)
                self.keep()
                continue
            gone = asyncio.Event()
            loop.add_reader(self._line, gone.set)
            try:
                await gone.wait()
            finally:
                loop.remove_reader(self._line)
            # It says nothing by itself, so that was the end of the line.
            self._line.close()
            self._line = None

    def _start(self, inode: int, line: socket.socket, door: socket.socket) -> subprocess.Popen[bytes]:
        held = [f"{name}={one.fileno()}" for name, one in self._sockets.items()]
        passed = [line.fileno(), door.fileno(), *(one.fileno() for one in self._sockets.values())]
        words = [self._places.holder, inode, self._places.users, line.fileno(), door.fileno(), *held]
        # It has them blocked until it ignores them itself: its first moments must not free the ports either.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, holder.IGNORED)
        try:
            return subprocess.Popen(
                [sys.executable, "-I", "-S", str(_PROGRAM), *(str(word) for word in words)],
                env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=passed,
                # Its own session: neither a terminal's end nor a signal to the supervisor's group reaches it.
                start_new_session=True,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def leave(self, *, nothing_runs: bool) -> None:
        """Close them all. The holder keeps them for what still runs; with `nothing_runs` it ends, and waits for it."""
        for one in (*self._sockets.values(), *self._inside.values()):
            one.close()
        self._sockets, self._inside = {}, {}
        self._say(self._before, holder.LEAVE)
        self._say(self._line, holder.END if nothing_runs else holder.LEAVE)
        self._before = self._line = None
        if self._process is not None and nothing_runs:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_PATIENCE)
            self._places.holder.unlink(missing_ok=True)

    def hand_over(self) -> None:
        """Have the holder keep all of them for the program that this process is about to become: its line stays open
        across execve(2). Call it before `leave`.
        """
        if self._line is not None:
            os.set_inheritable(self._line.detach(), True)
            self._line = None

    @staticmethod
    def _say(line: socket.socket | None, word: bytes) -> None:
        """Say it, and wait until it was done: the holder closes the line."""
        if line is not None:
            with contextlib.suppress(OSError), line:
                line.settimeout(_PATIENCE)
                line.sendall(word)
                line.recv(1)
