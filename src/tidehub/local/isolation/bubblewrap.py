"""Unprivileged: every program in a sandbox of its own, though all of them run under one uid."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tidehub import program
from tidehub.errors import TidehubError
from tidehub.local.logs.lines import last_lines
from tidehub.local.logs.pipes import settle
from tidehub.printable import printable
from tidehub.system.files import PASSABLE_DIRECTORY, make_directory
from tidehub.system.processes import children_of, read_stat, send

from .accounts import ALONE, Accounts
from .base import Isolation
from .cgroup_files import Group
from .homes import USERS
from .model import LaunchSpec
from .sandbox import GROUP, INFO, PASSWD, View, sandbox_argv, trial_argv, visible
from .spawning import Gate, StartError
from .trees import Ground

TRIAL_SECONDS = 20.0
MEMORY_EVENTS = "TIDEHUB_MEMORY_EVENTS"
"""Names the kernel's file that counts memory kills; `notebook_side.kernel_words` reads it."""
INSTALL = "install bubblewrap (Debian, Ubuntu: sudo apt install bubblewrap), or run tidehub as root"


@dataclass(frozen=True)
class Obstacle:
    """Why sandboxes do not work here, and what the operator can do."""

    what: str
    fix: str


class BubblewrapIsolation(Isolation):
    """Users share our uid and are kept apart by mount, pid and ipc namespaces."""

    kind = "bubblewrap"
    holds_tree = True

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground)
        found = shutil.which("bwrap")
        if found is None:
            raise TidehubError("bubblewrap is not installed", fix=INSTALL)
        self._program = found

    def _view(self, spec: LaunchSpec) -> View:
        # What is hidden is covered, and a place to be covered has to exist.
        users = make_directory(self.ground.run / USERS, PASSABLE_DIRECTORY)
        view = View(
            home=spec.user.home,
            run=self.run_directory(spec.user),
            temporary=self._temporary(spec),
            cwd=spec.cwd,
            hidden=(
                self.ground.private,
                self.ground.homes,
                self.ground.logs,
                users,
                self.ground.log_pipes,
            ),
            readable=tuple(spec.readable),
            writable=tuple(spec.writable),
        )
        home = spec.user.home.resolve()
        secret = [self.ground.private.resolve(), self.ground.homes.resolve()]
        for path in (*view.readable, *view.writable):
            if not path.exists():
                raise StartError(
                    f"{path} does not exist", fix=f"set up the software again: {program.command('up')}"
                )
            real = path.resolve()
            if not real.is_relative_to(home) and any(real.is_relative_to(hidden) for hidden in secret):
                raise StartError(f"{path} is inside what must stay hidden from users")
        for path in view.writable:
            if any(hidden.resolve().is_relative_to(path.resolve()) for hidden in view.hidden):
                raise StartError(f"{path} holds what must stay hidden from users")
        if not visible(view.cwd, view):
            raise StartError(f"the working directory {view.cwd} cannot be seen from inside the sandbox")
        return view

    @contextlib.contextmanager
    def _waiting(
        self, spec: LaunchSpec, group: Group | None, mark: str, log: int
    ) -> Iterator[tuple[Gate, int, int]]:
        view = self._view(spec)
        env = self._environment(spec, mark)
        # A sandbox sees no control groups; a notebook server tells its user why a kernel was killed.
        events = group and (group.path("memory.events") or group.path("memory.oom_control"))
        if events:
            env[MEMORY_EVENTS] = str(events)
            view = replace(view, readable=(*view.readable, events))
        start = _size(spec.log)
        with contextlib.ExitStack() as kept:
            info, info_there = os.pipe()
            kept.callback(os.close, info)
            passed = {INFO: info_there}
            made = self._accounts().with_user(env["USER"], spec.user, env["SHELL"])
            for number, content in ((PASSWD, made.passwd), (GROUP, made.group)):
                passed[number] = os.memfd_create("identity", os.MFD_CLOEXEC)
                os.write(passed[number], content.encode())
                os.lseek(passed[number], 0, os.SEEK_SET)
            order = replace(
                self._order(spec, group, mark),
                argv=sandbox_argv(self._program, view, spec.argv),
                env=env,
                cwd="/",
                descriptors=passed,
                gate=False,
            )
            try:
                gate = kept.enter_context(Gate(order, log=log))
            finally:
                for fd in passed.values():
                    os.close(fd)
            try:
                gate.ready()
            except StartError as error:
                said = self._said_since(spec.log, start)
                raise StartError(f"the sandbox failed: {said or error.what}") from error
            # Written by bubblewrap before it lets the sandbox go on, so before "ready".
            keeper = int(json.loads(os.read(info, 4096))["child-pid"])
            first = read_stat(keeper)
            inside = children_of(keeper)
            if first is None or not inside:
                raise StartError(f"the sandbox ended at once: {self._said_since(spec.log, start)}")
            try:
                yield gate, inside[0].pid, keeper
            except BaseException:
                # The outer process, which the gate ends, would not take the inner ones with it.
                send(keeper, first.started, signal.SIGKILL)
                raise

    def _accounts(self) -> Accounts:
        return ALONE

    def _said_since(self, log: Path, start: int) -> str:
        """bubblewrap's complaint: the last line of the log after `start`, which is on its way there."""
        settle(self.ground.log_pipes, self.ground.logs, log)
        if _size(log) <= start:
            return ""
        return printable(b"".join(last_lines(log, 1)), lines=False).removeprefix("bwrap: ")

    def _translate(self, code: int) -> int:
        # bubblewrap reports a killed program as 128 + signal, as shells do.
        return 128 - code if 128 < code < 128 + signal.NSIG else code

    def gaps(self) -> list[str]:
        """See `Isolation.gaps`."""
        lines = self._common_gaps()
        if not self.capabilities.processes:
            lines.append(
                "The number of processes is not limited"
                f"{': ' + self.ground.no_cgroups if self.ground.no_cgroups else ''}."
            )
        return lines


def obstacle() -> Obstacle | None:
    """Try a sandbox for real; None if it works."""
    found = shutil.which("bwrap")
    if found is None:
        return Obstacle("bubblewrap is not installed", INSTALL)
    try:
        trial = subprocess.run(
            trial_argv(found),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TRIAL_SECONDS,
            check=False,
        )
    except OSError as error:
        return Obstacle(f"{found} cannot be run: {error.strerror}", INSTALL)
    except subprocess.TimeoutExpired:
        return Obstacle(f"{found} hangs", INSTALL)
    if trial.returncode == 0:
        return None
    lines = trial.stderr.decode(errors="replace").strip().splitlines()
    return explain(lines[-1] if lines else f"exit code {trial.returncode}", _read_kernel_setting)


def explain(message: str, setting: Callable[[str], str]) -> Obstacle:
    """What a failed trial means; `setting` reads a file below /proc/sys, "" if there is none (tests bring their own).

    Settings: Ubuntu's AppArmor restriction (since 23.10), Debian's unprivileged_userns_clone, namespaces(7).
    """
    said = f"bubblewrap is installed but cannot make a sandbox ({message.removeprefix('bwrap: ')})"
    if setting("kernel/apparmor_restrict_unprivileged_userns") == "1":
        return Obstacle(
            f"{said}: AppArmor keeps unprivileged programs from making user namespaces",
            "allow it for bubblewrap: sudo apt install apparmor-profiles && sudo ln -s"
            " /usr/share/apparmor/extra-profiles/bwrap-userns-restrict /etc/apparmor.d/ &&"
            " sudo systemctl reload apparmor; or for all programs:"
            " sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0; or run tidehub as root",
        )
    if setting("kernel/unprivileged_userns_clone") == "0":
        return Obstacle(
            f"{said}: this kernel lets only root make user namespaces",
            "sudo sysctl kernel.unprivileged_userns_clone=1, or run tidehub as root",
        )
    if setting("user/max_user_namespaces") == "0":
        return Obstacle(
            f"{said}: the number of user namespaces is set to 0",
            "sudo sysctl user.max_user_namespaces=10000, or run tidehub as root",
        )
    return Obstacle(
        said, "in a container, allow user namespaces and an unmasked /proc; elsewhere run tidehub as root"
    )


def _read_kernel_setting(name: str) -> str:
    try:
        return Path("/proc/sys", name).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return 0
