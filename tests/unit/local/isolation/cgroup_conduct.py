"""What a cgroup v2 kernel answers when groups are divided in the wrong and in the right order.

Run as root in a group of a real kernel, `systemd-run --pipe -p Delegate=yes python3 cgroup_conduct.py`, it prints
the kernel's answers; `test_the_fake_answers_as_the_kernel_does` compares the fake tree's with those of Linux 6.1.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path


def conduct(
    base: Path, pid: str, make: Callable[[Path], None], write: Callable[[Path, str], None]
) -> list[str]:
    """The answers; `base` is a group of ours with the process `pid` and at least cpu, memory and pids."""
    said = []

    def tell(group: Path, file: str, value: str) -> None:
        try:
            write(group / file, value)
            answer = "done"
        except OSError as error:
            answer = errno.errorcode[error.errno or 0]
        said.append(f"{group.relative_to(base.parent).parts[1:]} {value.replace(pid, 'PID')}: {answer}")

    def kind(group: Path) -> None:
        said.append(
            f"{group.relative_to(base.parent).parts[1:]} is {(group / 'cgroup.type').read_text().strip()}"
        )

    leaf = base / "leaf"
    control = "cgroup.subtree_control"
    tell(base, control, "+memory")
    tell(base, control, "+cpu")
    kind(base)
    tell(base, control, "+memory")
    make(leaf)
    kind(leaf)
    tell(leaf, "cgroup.procs", pid)
    tell(base, control, "-cpu")
    kind(base)
    kind(leaf)
    tell(leaf, "cgroup.procs", pid)
    for controller in ("memory", "cpu", "pids"):
        tell(base, control, f"+{controller}")
    kind(base)
    tell(base, "cgroup.procs", pid)
    return said


KERNEL = [
    "() +memory: EBUSY",
    "() +cpu: done",
    "() is domain threaded",
    "() +memory: ENOTSUP",
    "('leaf',) is domain invalid",
    "('leaf',) PID: ENOTSUP",
    "() -cpu: done",
    "() is domain",
    "('leaf',) is domain",
    "('leaf',) PID: done",
    "() +memory: done",
    "() +cpu: done",
    "() +pids: done",
    "() is domain",
    "() PID: EBUSY",
]
"""The answers of Debian's Linux 6.1."""


def main() -> None:
    base = Path("/sys/fs/cgroup" + Path("/proc/self/cgroup").read_text().strip().split("::")[1])

    def write(path: Path, value: str) -> None:
        with path.open("w") as file:
            file.write(value)

    print(*conduct(base, str(os.getpid()), Path.mkdir, write), sep="\n")


if __name__ == "__main__":
    sys.exit(main())
