"""Where everything of one platform lives. The only module that knows the names."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from functools import cached_property
from pathlib import Path
from typing import Self

from tidehub import program
from tidehub.errors import TidehubError
from tidehub.local.room import require_room
from tidehub.system import trash
from tidehub.system.directories import refuse_strange
from tidehub.system.files import (
    PASSABLE_DIRECTORY,
    PRIVATE_DIRECTORY,
    make_directory,
    os_fault,
    read_private,
    write_private,
)

LONGEST_RUN_DIRECTORY = 32
"""Bytes. A Unix socket's path holds 107 (unix(7), sun_path less the final zero), and 75 of them are for the
longest name below: `/u/70000/SERVER-NAME1/rt/kernel-UUID-ipc-NN`, a kernel's channel as jupyter_client names it."""

_UNMAPPED = 65534
"""The owner of directories from outside a user namespace (user_namespaces(7)): nobody in it can act as that user."""
_OWN_NAMES = {"private", "homes", "logs", "services", "lost+found"}
_ID = re.compile(r"[0-9a-f]{32}")


def default_state_dir() -> Path:
    """`/var/lib/tidehub` as root, else `tidehub` below `XDG_STATE_HOME` or `~/.local/state`.

    Source: XDG Base Directory Specification 0.8 (a relative `XDG_STATE_HOME` is to be ignored).
    """
    if os.geteuid() == 0:
        return Path("/var/lib/tidehub")
    chosen = os.environ.get("XDG_STATE_HOME", "")
    if chosen.startswith("/"):
        return Path(chosen) / "tidehub"
    try:
        return Path.home() / ".local" / "state" / "tidehub"
    except RuntimeError as error:
        raise TidehubError(
            "this user has no home directory", fix="name a directory with --state DIR"
        ) from error


def command(state: Path, *words: str | Path) -> str:
    """A command on this state as a user types it, ready to be pasted."""
    with contextlib.suppress(TidehubError):
        if state == default_state_dir():
            return program.command(*words)
    return program.command(*words, "--state", state)


def _refuse_file(place: Path) -> None:
    """Raises `TidehubError` where a file is in the place of a directory, or above it."""
    try:
        if not stat.S_ISDIR(place.stat().st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "")
    except NotADirectoryError as error:
        raise os_fault(error, place, "use") from error
    except OSError:
        return  # not there yet, or not to be seen: whoever needs it says so


class Places:
    """The directories and files of one platform; `of` touches nothing, `ensure` makes them."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.private = state / "private"
        """0700: databases, secrets, rendered configurations, lock."""
        self.homes = state / "homes"
        """0711: one directory a user, 0700, owned by the user."""
        self.logs = state / "logs"
        """0700: one file a part."""
        self.server_logs = self.logs / "servers"
        self.cluster_logs = self.logs / "clusters"
        self.services = state / "services"
        """0711: `config`, and the directory of each part that keeps something and does not run as the operator (0700,
        that part's user's: nobody else acts in it)."""

        self.hub_database = self.private / "hub.sqlite"
        self.hub_config = self.private / "hub.json"
        self.gateway_database = self.private / "gateway.sqlite"
        self.gateway_config = self.private / "gateway.json"
        self.ledger = self.private / "ledger.sqlite"
        self.users = self.private / "people.sqlite"
        self.secrets = self.private / "secrets.json"
        self.platform = self.private / "platform.json"
        self.lock = self.private / "lock"
        self.former = self.private / "former.json"
        self.last_up = self.private / "last-up.json"
        self.control = self.private / "control.sock"
        self.holder = self.private / "holder.sock"
        self.ports = self.private / "ports.json"
        self.front = self.private / "front.json"
        self.reserve = self.private / "reserve"
        """Room that is given back when the disk is full; see `room.py`."""
        self.disk_use = self.private / "disk-use.json"
        """What users' files take, as measured last; see `disk_use.py`."""
        self.id_file = self.private / "platform-id"

        self.service_config = self.services / "config"
        """0711, the operator's: what parts with a user of their own are told, each file for the group of its part."""
        self.identity_config = self.service_config / "identity.json"
        self.dashboards_config = self.service_config / "dashboards.json"
        self.gateway_proxy_config = self.service_config / "gateway-proxy.json"
        self.away_page = self.service_config / "away.html"
        self.proxy_extensions = tuple(
            self.service_config / f"{name}.cjs" for name in ("streams", "front", "cookies")
        )
        self.proxy_certificate = self.service_config / "certificate.pem"
        self.proxy_key = self.service_config / "key.pem"
        self.identity = self.services / "identity"
        """The one directory of a part: accounts, signing keys, sessions."""

        self.supervisor_log = self.logs / "supervisor.log"

    @classmethod
    def of(cls, state_dir: Path | str | None = None) -> Self:
        """The places below `state_dir` (default: `default_state_dir()`); makes nothing.

        Raises `TidehubError` for a path that no directory can have: every command says that, not that nothing is there.
        """
        chosen = default_state_dir() if state_dir is None else Path(state_dir)
        try:
            found = cls(chosen.expanduser().resolve())
            for place in (found.state, found.private):
                _refuse_file(place)
            return found
        except (OSError, RuntimeError) as error:
            raise TidehubError(
                f"cannot find {chosen}: {error}", fix="name another directory with --state"
            ) from error

    def __repr__(self) -> str:
        return f"Places({str(self.state)!r})"

    @property
    def exists(self) -> bool:
        """Whether a platform was ever set up here (and this user may see it)."""
        try:
            return self.id_file.is_file()
        except OSError:
            return False

    @cached_property
    def platform_id(self) -> str:
        """Eight hexadecimal digits that stay with this state when it is moved. Raises `TidehubError`."""
        text = read_private(self.id_file)
        if text is None:
            raise TidehubError(
                f"no platform was set up in {self.state}", fix=f"run: {command(self.state, 'up')}"
            )
        if not _ID.fullmatch(text.strip()):
            raise TidehubError(
                f"{self.id_file} is damaged",
                expected="32 hexadecimal digits",
                fix=f"restore it from a backup, or remove it and run `{command(self.state, 'up')}`, which says "
                "what a new one means",
            )
        return text.strip()[:8]

    @cached_property
    def run(self) -> Path:
        """0711: sockets; a short lower-case path outside the state. Raises `TidehubError`.

        The choice does not depend on what exists yet, so every command of the same user finds the same one.
        """
        for parent in _run_parents():
            path = parent / self.platform_id
            text = str(path)
            if text == text.lower() and len(os.fsencode(path)) <= LONGEST_RUN_DIRECTORY:
                return path
        raise TidehubError("no short lower-case directory for sockets", expected="/run or /tmp to be usable")

    @property
    def log_pipes(self) -> Path:
        """0700: the pipes that users' programs write their logs to."""
        return self.run / "logs"

    @property
    def proxy_run(self) -> Path:
        """0700, owned by the proxy's user: the socket of its API."""
        return self.run / "proxy"

    @property
    def proxy_api_socket(self) -> Path:
        return self.proxy_run / "api.sock"

    @property
    def inside(self) -> Path:
        """0711, the operator's: sockets on which the parts reach each other, each closed to users by its own mode."""
        return self.run / "parts"

    def inside_socket(self, part: str) -> Path:
        """The one of that part."""
        return self.inside / part

    def ensure(self, *, other_users: bool | None = None, with_room: bool = True) -> Self:
        """Make every directory with its mode, and the platform's id. Raises `TidehubError`, also where the disk is full
        and `with_room`.

        `other_users`: homes must be reachable by other uids (default: running as root).
        """
        self.require_usable(other_users=other_users)
        make_directory(self.state, PASSABLE_DIRECTORY)
        if with_room:
            require_room(self)
        make_directory(self.private, PRIVATE_DIRECTORY)
        for path in (self.homes, self.services, self.service_config):
            make_directory(path, PASSABLE_DIRECTORY)
        for path in (self.logs, self.server_logs, self.cluster_logs):
            make_directory(path, PRIVATE_DIRECTORY)
        trash.throw_drafts(self.homes)
        if read_private(self.id_file) is None:
            write_private(self.id_file, secrets.token_hex(16) + "\n")
        self._ensure_run()
        return self

    def require_usable(self, *, other_users: bool | None = None) -> None:
        """Raise `TidehubError` where `ensure` must not begin: in another user's place, among other files, or where
        `other_users` could not reach their homes. Makes nothing."""
        self._refuse_foreign()
        if os.geteuid() == 0 if other_users is None else other_users:
            self.require_own_parents()
            self._require_passable_parents()

    def remove_run(self) -> None:
        """Throw the sockets away after a clean stop; takes the time of one rename, whatever users put there."""
        with contextlib.suppress(TidehubError):  # the next start goes on with what is there
            trash.throw(self.run)
        self.sweep()

    def sweep(self) -> None:
        """Have removed in the background what was thrown away and not removed yet. Waits for nothing."""
        trash.sweep(trash.beside(self.run), self.homes / trash.NAME, self.services / "clusters" / trash.NAME)

    def _refuse_foreign(self) -> None:
        try:
            found = self.state.stat()
        except FileNotFoundError:
            return
        except OSError as error:
            raise os_fault(error, self.state, "look into") from error
        if not stat.S_ISDIR(found.st_mode):
            raise TidehubError(
                f"{self.state} is not a directory",
                expected="a directory, or nothing",
                fix="choose another --state",
            )
        if found.st_uid != os.geteuid():
            raise TidehubError(
                f"{self.state} belongs to uid {found.st_uid}, and you are uid {os.geteuid()}",
                expected="one user for one state, because its files belong to that user",
                fix="run as that user, or choose another directory with --state",
            )
        try:
            names = set(os.listdir(self.state))  # noqa: PTH208  (names, not paths)
        except OSError as error:
            raise os_fault(error, self.state, "read") from error
        foreign = sorted(names - _OWN_NAMES)
        if foreign and not self.exists:
            shown = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
            raise TidehubError(
                f"{self.state} holds other files ({shown})",
                expected="an empty or new directory, or the state of a platform",
                fix="choose another directory with --state",
            )

    def require_own_parents(self) -> None:
        """Raise `TidehubError` when another user could exchange a directory above the state.

        All that root does by path in the state rests on this.
        """
        for parent in reversed(self.state.parents):
            try:
                found = parent.stat(follow_symlinks=False)
            except FileNotFoundError:
                return
            except OSError as error:
                raise os_fault(error, parent, "look into") from error
            if found.st_uid not in (0, os.geteuid(), _UNMAPPED):
                problem, fix = f"belongs to uid {found.st_uid}", "run as that user"
            elif found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
                problem, fix = "can be written by every user", f"run: chmod o-w {parent}"
            else:
                continue
            raise TidehubError(
                f"{parent} {problem}, who could then exchange what lies in {self.state}",
                expected="every directory above the state to be written by you or root alone",
                fix=f"choose a place such as /var/lib/tidehub with --state, or {fix}",
            )

    def _require_passable_parents(self) -> None:
        for parent in reversed(self.state.parents):
            try:
                mode = parent.stat().st_mode
            except FileNotFoundError:
                return
            except OSError as error:
                raise os_fault(error, parent, "look into") from error
            if not mode & stat.S_IXOTH:
                raise TidehubError(
                    f"{parent} (mode {stat.S_IMODE(mode):04o}) lets no other user through, "
                    f"so users could not reach their homes in {self.homes}",
                    expected="every directory above the state to be passable (o+x)",
                    fix=f"choose a place such as /var/lib/tidehub with --state, or run: chmod o+x {parent}",
                )

    def _ensure_run(self) -> None:
        parent = self.run.parent
        # In /tmp anybody could have made it: it is not touched before it is known to be ours.
        with contextlib.suppress(FileNotFoundError):
            refuse_strange(
                parent,
                parent.lstat(),
                os.geteuid(),
                "directory for sockets",
                fix=f"have it removed: {parent}",
            )
        make_directory(parent, PASSABLE_DIRECTORY)
        make_directory(self.run, PASSABLE_DIRECTORY)
        make_directory(self.inside, PASSABLE_DIRECTORY)
        make_directory(self.log_pipes, PRIVATE_DIRECTORY)
        self.sweep()


def _run_parents() -> list[Path]:
    uid = os.geteuid()
    if uid == 0:
        return [Path("/run/tidehub"), Path("/tmp/tidehub-0")]
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    shared = Path(f"/tmp/tidehub-{uid}")
    # logind removes /run/user/UID at the last logout unless the user lingers, and a detached platform stays.
    if runtime.startswith("/") and lingers():
        return [Path(runtime) / "tidehub", shared]
    return [shared]


def lingers() -> bool:
    """Whether this user's systemd outlives their last logout (loginctl(1), enable-linger)."""
    with contextlib.suppress(OSError, KeyError):
        import pwd

        return Path("/var/lib/systemd/linger", pwd.getpwuid(os.geteuid()).pw_name).exists()
    return False
