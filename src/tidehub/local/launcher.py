"""Becomes a program of a user or a part of the platform: `python -I -S launcher.py ORDER REPORT GO`, three descriptors.

The one file that runs between fork and exec with root's rights: joins control groups, makes namespaces, sets limits,
gives up privileges, in this order. A program of its own (about 15 ms) and not `preexec_fn`: hub and gateway have
threads, and Python code between fork and exec of a threaded process can deadlock (documented for
`subprocess.Popen(preexec_fn)`); nor a chain of `setpriv`/`prlimit`/`unshare`: the control group must be joined before
privileges go, errors must come back in words, and util-linux need not be there.

The order (JSON, see `launching.Order`) comes through a descriptor, so neither the environment nor the command line of
the program is ever in ours. Nothing is imported after privileges are dropped: this interpreter may lie where the user
cannot read. With a gate, the program does not start before the parent says go on the GO pipe, after it has written
down the process; if the parent dies first, the pipe closes and nothing starts. This file imports nothing from tidehub.
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

# Values of linux/prctl.h, linux/capability.h, linux/sched.h and linux/mount.h; fixed by the kernel's interface.
_SET_PDEATHSIG = 1
_SET_KEEPCAPS = 8
_SET_NO_NEW_PRIVS = 38
_CAP_AMBIENT = 47
_CAP_AMBIENT_RAISE = 2
_CAPABILITY_VERSION_3 = 0x20080522
_CLONE_NEWNS = 0x00020000
_CLONE_NEWIPC = 0x08000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8
_MS_BIND, _MS_REC, _MS_SLAVE = 4096, 16384, 1 << 19
_MS_RDONLY, _MS_REMOUNT = 1, 32
_MNT_DETACH = 2

FIRST_SPARE = 64
"""Descriptors are moved up here before they are given their final small numbers."""

CANNOT_START = 127

_libc = ctypes.CDLL(None, use_errno=True)
_steps = ["reading its order"]


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Set(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _prctl(option: int, *values: int) -> None:
    arguments = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    _checked(_libc.prctl(ctypes.c_int(option), *arguments), f"prctl({option})")


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


def _mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    words = [None if word is None else os.fsencode(word) for word in (source, target, kind)]
    _checked(_libc.mount(*words, ctypes.c_ulong(flags), os.fsencode(data)), f"mounting {target}")


def _separate(own: dict[str, Any], uid: int, gid: int) -> None:
    """Namespaces in which shared memory, message queues and temporary files are this program's alone.

    The kernel frees all of it with the last process: nothing outlives a server, nothing is charged to nobody.
    """
    _checked(_libc.unshare(_CLONE_NEWNS | _CLONE_NEWIPC), "unshare")
    # Slave, not private: what the operator mounts or unmounts later happens here too, and a disk can be taken out.
    _mount("none", "/", None, _MS_REC | _MS_SLAVE)
    # Held before anything is covered: what lies below /tmp must stay where it is.
    kept = [(path, os.open(path, os.O_PATH | os.O_CLOEXEC)) for path in own["kept"]]
    temporary = os.open(own["temporary"], os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    if os.fstat(temporary).st_uid != uid:
        raise PermissionError(1, "the temporary directory is not this user's")
    _show(own["files"])
    flags = _MS_NOSUID | _MS_NODEV
    size = f",size={own['shared_memory']}" if own["shared_memory"] is not None else ""
    covered = [os.path.realpath(place) for place in ("/dev/shm", "/tmp", "/var/tmp") if _is_directory(place)]
    for place in dict.fromkeys(covered):
        if place == os.path.realpath("/dev/shm"):
            _mount("shm", place, "tmpfs", flags, f"mode=1777{size}")
        else:
            _mount(f"/proc/self/fd/{temporary}", place, None, _MS_BIND)
    if _is_directory("/dev/mqueue"):
        _mount("mqueue", "/dev/mqueue", "mqueue", flags | _MS_NOEXEC)
    # As the user from here on where files are concerned: the places below are theirs.
    _libc.setfsgid(gid)
    _libc.setfsuid(uid)
    for path, held in kept:
        above = next((place for place in covered if path.startswith(place + "/")), None)
        if above is not None:
            target = _mount_point(above, path[len(above) + 1 :].split("/"))
            _mount(f"/proc/self/fd/{held}", f"/proc/self/fd/{target}", None, _MS_BIND | _MS_REC)
            os.close(target)
        os.close(held)
    _libc.setfsuid(0)
    _libc.setfsgid(0)
    os.close(temporary)


def _show(files: dict[str, str]) -> None:
    """Put these texts in place of files of the system: root's, and read-only to all in this namespace.

    In memory, of a file system that nobody reaches any more once it is unmounted; it goes with the namespace.
    """
    scratch = os.path.realpath("/tmp")
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    _mount("files", scratch, "tmpfs", flags, "mode=0700")
    directory = os.open(scratch, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for number, (path, text) in enumerate(files.items()):
        place = os.path.realpath(path)
        if not os.path.isfile(place):  # noqa: PTH113 - no pathlib here
            continue
        create = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        made = os.open(str(number), create, dir_fd=directory)
        with open(made, "w", encoding="utf-8", errors="surrogateescape") as file:  # noqa: PTH123 - a descriptor
            file.write(text)
            os.fchmod(made, 0o444)
        _mount(f"{scratch}/{number}", place, None, _MS_BIND)
        _mount("none", place, None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | flags)
    os.close(directory)
    _checked(_libc.umount2(os.fsencode(scratch), _MNT_DETACH), f"unmounting {scratch}")


def _is_directory(path: str) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - no pathlib here


def _mount_point(above: str, names: list[str]) -> int:
    """A directory below `above`, where a user may write: made and opened by descriptor, following no link."""
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    here = os.open(above, flags)
    for name in names:
        try:
            os.mkdir(name, 0o755, dir_fd=here)
        except FileExistsError:
            pass
        inner = os.open(name, flags, dir_fd=here)
        os.close(here)
        here = inner
    return here


def _keep_only(capabilities: list[int]) -> None:
    header = _Header(_CAPABILITY_VERSION_3, 0)
    sets = (_Set * 2)()
    for number in capabilities:
        bit = 1 << (number % 32)
        part = sets[number // 32]
        part.effective |= bit
        part.permitted |= bit
        part.inheritable |= bit
    _checked(_libc.capset(ctypes.byref(header), sets), "capset")
    for number in capabilities:
        _prctl(_CAP_AMBIENT, _CAP_AMBIENT_RAISE, number)


def _become(uid: int, gid: int, capabilities: list[int]) -> None:
    if capabilities:
        _prctl(_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (gid, gid, gid) or os.getgroups():
        raise PermissionError(1, "privileges were not dropped")
    if capabilities:
        _keep_only(capabilities)


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
    if order["own"] is not None:
        _steps.append("making its namespaces")
        _separate(order["own"], order["uid"], order["gid"])
    _steps.append("setting its limits")
    if order["oom_score_adj"] is not None:
        try:
            with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:  # noqa: PTH123 - no pathlib here
                file.write(str(order["oom_score_adj"]))
        except OSError:
            pass  # a hint to the kernel, not a promise to anybody
    for name, value in order["rlimits"].items():
        _limit(name, value)
    if order["open_files"] is not None:
        # The soft limit of a shell, 1,024, is for programs that use select(2). A hub, a proxy or a Dask scheduler
        # holds more connections than that.
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = order["open_files"] if hard == resource.RLIM_INFINITY else min(order["open_files"], hard)
        if soft != resource.RLIM_INFINITY and most > soft:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    os.umask(0o077)
    _steps.append("becoming its user")
    if order["uid"] is not None:
        _become(order["uid"], order["gid"], order["capabilities"])
    if order["no_new_privileges"]:
        # prctl(2): execve then never grants privileges, so set-user-ID programs are just programs.
        _prctl(_SET_NO_NEW_PRIVS, 1)
    if order["parent"] is not None:
        _steps.append("tying its life to the supervisor's")
        # After the change of uid, which clears it (prctl(2)). It fires however the supervisor went.
        _prctl(_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != order["parent"]:
            raise ProcessLookupError(3, "the supervisor is gone")
    _steps.append(f"entering {order['cwd']}")
    os.chdir(order["cwd"])
    _default_signals()


def _say(report: int, problem: str) -> None:
    """To whoever waits at the gate, or into the log of a part."""
    start = "cannot start it: " if report == 2 else ""
    os.write(report, f"{start}{_steps[-1]}: {problem}\n".encode(errors="backslashreplace"))


def main() -> int:
    """Follow the order read from the first descriptor; returns only if the program could not be started."""
    order_fd, report, go = (int(word) for word in sys.argv[1:4])
    for fd in (report, go):
        if fd > 2:
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
                return CANNOT_START
        if report > 2:  # the descriptors' new numbers may be those of ours
            report = fcntl.fcntl(report, fcntl.F_DUPFD_CLOEXEC, FIRST_SPARE)
        _pass_on(order["descriptors"])
        os.execvpe(argv[0], argv, order["env"])
    except OSError as error:
        _say(report, error.strerror or str(error))
    except Exception as error:
        _say(report, f"{type(error).__name__}: {error}")
    return CANNOT_START


if __name__ == "__main__":
    # os._exit: nothing of this interpreter is worth a tidy end, and its files may be out of reach by now.
    os._exit(main())
