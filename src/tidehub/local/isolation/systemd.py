"""Asks systemd for control groups of our own. Where systemd runs, all others are its, and it may rearrange them.

Two scopes in `tidehub.slice`: one for the platform, when it was started from a shell (a unit has its own group), and
one for users' programs, which ends neither with the operator's session nor with the platform's unit. Scopes have no
main process: they last as long as anything runs in them. The users' one is kept by a process that sleeps.
Through `systemd-run`, which every systemd has, and not through D-Bus, for which Python has no library of its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tidehub.local.places import lingers

from .cgroup_bases import Hierarchy, Machine, base_of, group_name, hierarchies, users_scope
from .cgroup_files import PLATFORM_WEIGHT, USERS_WEIGHT, Tree
from .cgroups import SLICE

ASKED = "TIDEHUB_SCOPE"
"""Set for the program that was started anew in a scope, so that this happens once."""
SECONDS = 15.0
HOLDER_LEAF = "tidehub-holder"
_PROPERTIES = ("Delegate=yes", "TasksMax=infinity")


def enter_scope(platform: str) -> None:
    """Start this very program anew in a scope of its own, if it stands in a group that is not ours to divide.

    Does not return then; returns if there is nothing to do or systemd refuses, which `find_cgroups` puts into words.
    Call it before anything is open or running.
    """
    machine = Machine.here()
    if os.environ.pop(ASKED, None) or not _stands_elsewhere(machine, platform):
        return
    if not _answers():
        return
    command = _scope(f"tidehub-up-{os.getpid()}", PLATFORM_WEIGHT[0])
    os.environ[ASKED] = "1"
    os.execvp(command[0], [*command, sys.executable, *sys.orig_argv[1:]])


def ensure_users_scope(platform: str) -> None:
    """Have the scope for users' groups made, if systemd runs and will; it may be there from before a crash."""
    machine = Machine.here()
    scope = _users_scope(machine, platform)
    if scope is None or shutil.which("systemd-run") is None:
        return
    if scope.is_dir() or not (machine.root or scope.parents[1].name.startswith("user@")):
        return
    keeper = subprocess.Popen(
        [*_scope(scope.name.removesuffix(".scope"), USERS_WEIGHT[0]), "sleep", "infinity"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )
    until = time.monotonic() + SECONDS
    # systemd moves the process, which then becomes the sleeper.
    while keeper.poll() is None and time.monotonic() < until:
        if _is_sleeping(keeper.pid) and scope.is_dir():
            return
        time.sleep(0.02)
    keeper.kill()
    keeper.wait()


def move_to_users_scope(platform: str, pid: int) -> bool:
    """Move a process of ours beside users' programs, where the end of the platform's unit does not reach it.

    False where there is no such scope: nothing of users runs in one then.
    """
    scope = _users_scope(Machine.here(), platform)
    if scope is None or not scope.is_dir():
        return False
    try:
        # A leaf of its own: a divided group holds no processes, and users' groups may all go before it does.
        with contextlib.suppress(FileExistsError):
            Tree().make(scope / HOLDER_LEAF)
        Tree().write(scope / HOLDER_LEAF / "cgroup.procs", str(pid))
    except OSError:
        return False
    return True


def ends_with_logout(machine: Machine | None = None) -> bool:
    """Whether this process belongs to a user's own systemd, which ends about 10 s after the user's last logout."""
    own = _hierarchy(machine or Machine.here())
    return (
        own is not None and any(path.name.startswith("user@") for path in own.own.parents) and not lingers()
    )


def _users_scope(machine: Machine, platform: str) -> Path | None:
    own = _hierarchy(machine)
    if not machine.systemd or own is None:
        return None
    return users_scope(own.mount, own.own, group_name(platform))


def _stands_elsewhere(machine: Machine, platform: str) -> bool:
    own = _hierarchy(machine)
    if not machine.systemd or own is None or shutil.which("systemd-run") is None:
        return False
    group = base_of(own.own, group_name(platform))
    if group.name.endswith(".service") and not group.name.startswith("user@"):
        # A unit of its own: systemd watches its main process there. Not so what cron or a container's sshd start in
        # their group; to those the unit's variables are not passed on (systemd.exec(5)).
        return "INVOCATION_ID" not in os.environ and not machine.delegated(group)
    return not machine.delegated(group) and not (
        machine.owned(group) and group.name.startswith(("run-", "tidehub-"))
    )


def _hierarchy(machine: Machine) -> Hierarchy | None:
    found = hierarchies(machine)
    return next((h for h in found if h.version == 2 and h.controllers), next(iter(found), None))


def _scope(unit: str, weight: int) -> list[str]:
    properties = [word for name in (*_PROPERTIES, f"CPUWeight={weight}") for word in ("-p", name)]
    manager = [] if os.geteuid() == 0 else ["--user"]
    return [
        "systemd-run", *manager, "--scope", "--quiet", "--collect", f"--slice={SLICE}", f"--unit={unit}",
        *properties, "--",
    ]  # fmt: skip


def _answers() -> bool:
    """Whether a scope can really be had: there may be no manager for this user, or no bus to it."""
    try:
        done = subprocess.run(
            [*_scope(f"tidehub-try-{os.getpid()}", USERS_WEIGHT[0]), "true"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _is_sleeping(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "sleep"
    except OSError:
        return False
