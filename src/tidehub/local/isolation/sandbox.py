"""The command line of bubblewrap: what a user's program sees of the machine (pure, but for looking what exists).

An empty root; the system read-only; its own home, directories and /tmp; a /proc with its own processes only.
Options as in bwrap(1), version 0.4 (Ubuntu 20.04) and later.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

SAY, WAIT, INFO, PASSWD, GROUP = 3, 4, 5, 6, 7
"""Descriptors in bubblewrap and, the first two, in the sandbox until the program starts."""

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store")
CONFIGURATION = (
    # What the C library, name lookup, TLS, shells, fonts and alternatives need; nothing that holds secrets.
    "alternatives", "bash.bashrc", "ca-certificates", "ca-certificates.conf", "crypto-policies", "debian_version",
    "default/locale", "fonts", "gai.conf", "host.conf", "hostname", "hosts", "inputrc", "java-17-openjdk",
    "java-21-openjdk", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "locale.alias", "locale.conf", "localtime",
    "magic", "mime.types", "nsswitch.conf", "os-release", "pki", "profile", "profile.d", "protocols", "resolv.conf",
    "services", "shells", "skel", "ssl", "terminfo", "timezone",
)  # fmt: skip
NAMESPACES = ("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try")
KERNEL_FACTS = ("/sys/devices/system/cpu", "/sys/devices/system/node")

START = "printf 'ready\\n' >&3; read -r go <&4 || exit 125; exec 3>&- 4<&-; exec \"$@\""
"""Runs inside before the program: says that the sandbox stands, waits for go, closes both pipes."""


@dataclass(frozen=True)
class View:
    """What one sandbox shows. All paths absolute; each appears inside where it is outside."""

    home: Path
    run: Path
    """The directories of the user's servers, if there are any: to connect to, not to change."""
    temporary: Path
    """Shown as /tmp and /var/tmp."""
    cwd: Path
    hidden: Sequence[Path]
    """Must not be seen even if it lies below something shown: the private directory, all homes, all run directories."""
    readable: Sequence[Path] = ()
    writable: Sequence[Path] = ()
    """Whole directories of the owner's; nothing hidden may lie below them."""


def sandbox_argv(program: str, view: View, argv: Sequence[str]) -> list[str]:
    """bubblewrap around `argv`; identity files come through descriptors 6 and 7, the first process's pid goes to 5.

    Not `--die-with-parent`: servers outlive the hub. Not `--json-status-fd`: it is written to when the sandbox ends,
    and if the reader is gone by then, the exit code is lost with the outer process.
    """
    words = [program, *NAMESPACES, "--info-fd", str(INFO)]
    shown: list[Path] = []
    for path in map(Path, SYSTEM):
        if path.is_symlink():
            words += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            words += ["--ro-bind", str(path), str(path)]
            shown.append(path)
    words += ["--dir", "/etc"]
    words += ["--ro-bind-data", str(PASSWD), "/etc/passwd", "--ro-bind-data", str(GROUP), "/etc/group"]
    for name in CONFIGURATION:
        words += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    for fact in KERNEL_FACTS:
        words += ["--ro-bind-try", fact, fact]
    words += ["--proc", "/proc", "--dev", "/dev"]
    words += ["--bind", str(view.temporary), "/tmp", "--bind", str(view.temporary), "/var/tmp"]
    for path in outermost(view.readable):
        words += ["--ro-bind", str(path), str(path)]
    shown += view.readable
    for path in outermost(view.hidden):
        if any(path.is_relative_to(above) for above in shown):
            words += ["--tmpfs", str(path)]
    # After what hides, because they lie below it.
    words += ["--ro-bind-try", str(view.run), str(view.run)]
    for path in (view.home, *outermost(view.writable)):
        words += ["--bind", str(path), str(path)]
    words += ["--remount-ro", "/", "--chdir", str(view.cwd), "--", "/bin/sh", "-c", START, "tidehub", *argv]
    return words


def trial_argv(program: str) -> list[str]:
    """The same kinds of namespaces and mounts around /bin/true."""
    mounts = ("--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp")
    return [program, *NAMESPACES, *mounts, "--", "/bin/true"]


def visible(path: Path, view: View) -> bool:
    """Whether a path can be reached in the sandbox."""
    shown = [view.home, view.run, *view.readable, *view.writable, *map(Path, (*SYSTEM, "/tmp", "/var/tmp"))]
    return any(path.is_relative_to(above) for above in shown)


def outermost(paths: Iterable[Path]) -> list[Path]:
    """Parents before children, so that a later mount is not covered by an earlier one's; each once."""
    return sorted(set(paths), key=lambda path: len(path.parts))
