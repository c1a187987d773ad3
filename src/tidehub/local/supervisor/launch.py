"""Becomes a part's process: run by path with `python -I -S`, gives up privileges, executes the program.

A small program between fork and exec, because `preexec_fn` runs Python in a forked copy of the whole
supervisor. Imports the standard library only. Its one argument is JSON: argv, names of variables, cwd,
uid, gid, capabilities, and the pid of its parent.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys

# Values of linux/prctl.h and linux/capability.h; fixed by the kernel's interface.
_SET_PDEATHSIG = 1
_SET_KEEPCAPS = 8
_SET_NO_NEW_PRIVS = 38
_CAP_AMBIENT = 47
_CAP_AMBIENT_RAISE = 2
_CAPABILITY_VERSION_3 = 0x20080522

_CANNOT_START = 127


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Set(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]


_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, *values: int) -> None:
    arguments = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    if _libc.prctl(ctypes.c_int(option), *arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")


def _keep_only(capabilities: list[int]) -> None:
    header = _Header(_CAPABILITY_VERSION_3, 0)
    sets = (_Set * 2)()
    for number in capabilities:
        bit = 1 << (number % 32)
        part = sets[number // 32]
        part.effective |= bit
        part.permitted |= bit
        part.inheritable |= bit
    if _libc.capset(ctypes.byref(header), sets):
        number = ctypes.get_errno()
        raise OSError(number, f"capset: {os.strerror(number)}")
    for number in capabilities:
        _prctl(_CAP_AMBIENT, _CAP_AMBIENT_RAISE, number)


def _become(uid: int | None, gid: int | None, capabilities: list[int]) -> None:
    if uid is None or os.geteuid() != 0:
        return
    group = uid if gid is None else gid
    if capabilities:
        _prctl(_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(group, group, group)
    os.setresuid(uid, uid, uid)
    if capabilities:
        _keep_only(capabilities)
    _prctl(_SET_NO_NEW_PRIVS, 1)


def main() -> None:
    plan = json.loads(sys.argv[1])
    argv: list[str] = plan["argv"]
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.umask(0o077)
        _become(plan["uid"], plan["gid"], plan["capabilities"])
        # After the change of uid, which clears it (prctl(2)). It fires however the supervisor went.
        _prctl(_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != plan["parent"]:
            os._exit(_CANNOT_START)
        os.chdir(plan["cwd"])
        # Python itself adds LC_CTYPE in the C locale (PEP 538).
        os.execvpe(argv[0], argv, {name: os.environ[name] for name in plan["variables"]})
    except OSError as error:
        print(f"cannot start {argv[0]}: {error}", file=sys.stderr, flush=True)
        os._exit(_CANNOT_START)


if __name__ == "__main__":
    main()
