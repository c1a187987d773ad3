"""Runs tidehub as on an operator's macOS laptop, as far as Python can tell: `python without_linux.py ARGUMENTS`.

What only Linux has is not there: functions and constants of the standard library (their "Availability" in its
documentation), those of the C library that ours look up by name, and /proc and /sys. What is not shown: macOS itself.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import resource
import select
import signal
import socket
import sys
from typing import Any

ABSENT = {
    os: (
        *("memfd_create", "pidfd_open", "setns", "unshare", "eventfd", "timerfd_create", "splice", "pipe2"),
        *("copy_file_range", "getrandom", "getxattr", "setxattr", "listxattr", "removexattr"),
        *("sched_setaffinity", "sched_getaffinity", "fdatasync", "posix_fallocate", "posix_fadvise"),
        *("setresuid", "setresgid", "getresuid", "getresgid", "O_PATH", "O_TMPFILE", "O_DIRECT", "O_NOATIME"),
    ),
    socket: ("AF_NETLINK", "SO_PEERCRED", "SOCK_CLOEXEC", "SOCK_NONBLOCK", "AF_VSOCK"),
    signal: ("pidfd_send_signal", "sigtimedwait", "sigwaitinfo", "SIGPWR", "SIGRTMIN", "SIGRTMAX"),
    select: ("epoll",),
    resource: ("prlimit",),
    fcntl: ("F_ADD_SEALS", "F_GET_SEALS", "F_SETPIPE_SZ", "F_OFD_SETLK", "F_OFD_SETLKW"),
}
NOT_IN_LIBC = ("prctl", "syncfs", "unshare", "setns", "renameat2", "openat2", "syscall", "mount", "umount2")
KERNELS_FILES = ("/proc", "/sys")


class Libc(ctypes.CDLL):
    def __getattr__(self, name: str) -> Any:
        if name in NOT_IN_LIBC:
            raise AttributeError(f"{self}: undefined symbol: {name}")
        return super().__getattr__(name)


def refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("open", "os.listdir", "os.scandir") and str(arguments[0]).startswith(KERNELS_FILES):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), arguments[0])


def without(path: Any, *rest: Any, _real: Any = os.readlink, **more: Any) -> Any:
    if str(path).startswith(KERNELS_FILES):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    return _real(path, *rest, **more)


def main() -> None:
    for module, names in ABSENT.items():
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    ctypes.CDLL = Libc  # type: ignore[misc]
    os.readlink = without
    sys.addaudithook(refuse)
    sys.argv[0] = "tidehub"
    from tidehub.cli.main import main as tidehub

    tidehub(sys.argv[1:])


if __name__ == "__main__":
    main()
