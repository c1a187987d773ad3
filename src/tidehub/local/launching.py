"""What the launcher is told, and how it is started; see `launcher.py`. For users' programs and parts alike."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

OPEN_FILES = 65_536
LAUNCHER = Path(__file__).with_name("launcher.py")


@dataclass(frozen=True)
class OwnPlaces:
    """What a program has for itself in mount and IPC namespaces of its own (root only)."""

    temporary: str
    """A directory on disk that belongs to the user, shown as /tmp and /var/tmp."""
    shared_memory: int | None = None
    """Bytes for its /dev/shm; None: the kernel's default, half of the memory."""
    kept: Sequence[str] = ()
    """Directories that stay reachable where they are, even below /tmp; outer ones before inner ones."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Texts that the program reads, and cannot change, in place of these files, as far as they exist."""


@dataclass(frozen=True)
class Order:
    """One program, and as whom and in what it runs."""

    argv: Sequence[str]
    env: Mapping[str, str] = field(repr=False)
    """The whole environment: nothing is inherited."""
    cwd: str
    groups: Sequence[str] = ()
    """Directories of the control groups to join."""
    rlimits: Mapping[str, int] = field(default_factory=dict)
    open_files: int | None = OPEN_FILES
    """Descriptors that the program may have open, as far as its hard limit allows; None: as many as we."""
    uid: int | None = None
    gid: int | None = None
    capabilities: Sequence[int] = ()
    """Numbers of capabilities kept across the change of uid (capabilities(7))."""
    no_new_privileges: bool = True
    own: OwnPlaces | None = None
    parent: int | None = None
    """The pid of the process that starts it and with which it is to end; None: it lives on."""
    oom_score_adj: int | None = None
    """proc(5): -1000 to 1000, higher ones go first when the machine runs out of memory."""
    gate: bool = False
    """Whether the launcher waits for go. A sandbox waits itself, inside; see `bubblewrap.py`."""
    descriptors: Mapping[int, int] = field(default_factory=dict)
    """Number in the program -> descriptor of ours."""


def packed(order: Order) -> int:
    """A descriptor from which the launcher reads `order`; undecodable bytes survive as lone surrogates."""
    plain = asdict(order) | {"descriptors": {str(want): have for want, have in order.descriptors.items()}}
    fd = os.memfd_create("order", os.MFD_CLOEXEC)
    try:
        rest = json.dumps(plain).encode()
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.lseek(fd, 0, os.SEEK_SET)
    except BaseException:
        os.close(fd)
        raise
    return fd


def launcher_command(order: int, *, report: int = 2, go: int = 0) -> list[str]:
    """The launcher's command line. `report`: where it says what failed; `go`: the gate's pipe."""
    return [sys.executable, "-I", "-S", str(LAUNCHER), str(order), str(report), str(go)]
