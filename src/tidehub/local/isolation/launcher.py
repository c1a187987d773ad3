"""Runs between fork and the person's program, in a fresh interpreter: `python -I -S launcher.py ORDER REPORT GO`.

Why a program of its own (about 15 ms) and not `preexec_fn`: hub and gateway have threads, and Python code between
fork and exec of a threaded process can deadlock (documented for `subprocess.Popen(preexec_fn)`); nor a chain of
`setpriv`/`prlimit`: the cgroup must be joined before privileges go, errors must come back in words, and util-linux
need not be there.

The order (JSON) comes through a descriptor, so neither the environment nor the command line of the person's program
is ever in ours. Nothing is imported after privileges are dropped: this interpreter may lie where the person cannot
read. The program does not start before the parent says go on the GO pipe, after it has written down the process; if
the parent dies first, the pipe closes and nothing starts. This file imports nothing from tidehub.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import resource
import signal
import sys
import warnings as _needed_by_execvpe  # noqa: F401 - os.get_exec_path imports it lazily, too late for us
from typing import Any

PR_SET_NO_NEW_PRIVS = 38
"""linux/prctl.h; prctl(2): execve then never grants privileges, so set-user-ID programs are just programs."""

FIRST_SPARE = 64
"""Descriptors are moved up here before they are given their final small numbers."""

_steps = ["reading its order"]


def _join(group: str) -> None:
    fd = os.open(group + "/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, b"0")
    finally:
        os.close(fd)


def _limit(name: str, value: int) -> None:
    which = getattr(resource, name)
    hard = resource.getrlimit(which)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (value, value))


def _become(uid: int, gid: int) -> None:
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (gid, gid, gid) or os.getgroups():
        raise PermissionError(1, "privileges were not dropped")


def _forbid_new_privileges() -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS failed")


def _default_signals() -> None:
    for number in signal.valid_signals():
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            try:
                signal.signal(number, signal.SIG_DFL)
            except OSError:
                continue  # the C library keeps a few for itself
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _pass_on(descriptors: dict[str, int]) -> None:
    """Give the program these descriptors under the numbers that it expects, and no others above 2."""
    parked = {int(want): fcntl.fcntl(have, fcntl.F_DUPFD, FIRST_SPARE) for want, have in descriptors.items()}
    for have in descriptors.values():
        os.set_inheritable(have, False)
    for want, have in parked.items():
        os.dup2(have, want, inheritable=True)
        os.close(have)


def _prepare(order: dict[str, Any]) -> None:
    _steps.append("joining its control group")
    for group in order["groups"]:
        _join(group)
    _steps.append("setting its limits")
    if order["oom_score_adj"] is not None:
        try:
            with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:  # noqa: PTH123 - no pathlib here
                file.write(str(order["oom_score_adj"]))
        except OSError:
            pass  # a hint to the kernel, not a promise to anybody
    for name, value in order["rlimits"].items():
        _limit(name, value)
    os.umask(0o077)
    _steps.append("becoming its user")
    if order["uid"] is not None:
        _become(order["uid"], order["gid"])
    _forbid_new_privileges()
    _steps.append(f"entering {order['cwd']}")
    os.chdir(order["cwd"])
    _default_signals()


def main() -> int:
    """Follow the order read from the first descriptor; returns only if the program could not be started."""
    order_fd, report, go = (int(word) for word in sys.argv[1:4])
    for fd in (report, go):
        os.set_inheritable(fd, False)
    try:
        with open(order_fd, encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
            order = json.load(file)
        _prepare(order)
        argv = order["argv"]
        _steps.append(f"starting {argv[0]}")
        if order["gate"]:
            os.write(report, b"ready\n")
            if not os.read(go, 1):
                return 1
        # Last: the descriptors' new numbers may be those of ours.
        report = fcntl.fcntl(report, fcntl.F_DUPFD_CLOEXEC, FIRST_SPARE)
        _pass_on(order["descriptors"])
        os.execvpe(argv[0], argv, order["env"])
    except OSError as error:
        os.write(report, f"{_steps[-1]}: {error.strerror or error}\n".encode(errors="backslashreplace"))
    except Exception as error:
        os.write(report, f"{_steps[-1]}: {type(error).__name__}: {error}\n".encode(errors="backslashreplace"))
    return 1


if __name__ == "__main__":
    # os._exit: nothing of this interpreter is worth a tidy end, and its files may be out of reach by now.
    os._exit(main())
