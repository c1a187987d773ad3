"""The disks of the tests' Debian machines: where they lie, and how `tests/guest/prepare` builds them.

A disk holds Debian with systemd, sshd, the users root, ada (sudo) and bob, the software that a checkout needs, made
by the machine's own Python, and the wheels it came from, so that a first set-up works there without a network. The
checkout itself is not on it: it travels at boot. Its directory, below tidehub's software root, is named by the digest
of what decides its contents. Only the standard library: `prepare` runs on the system's Python.

    prepare                  build what is missing
    prepare --if-possible    the same, unless this machine cannot boot one, whatever is installed
    prepare --where          print the directories
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
if __name__ == "__main__":
    sys.path[:0] = [str(CHECKOUT / "src"), str(HERE)]

from guest_recipe import SUITES, build  # noqa: E402

from tidehub.errors import INTERRUPTED, TidehubError  # noqa: E402
from tidehub.local.software import directories, layout, progress  # noqa: E402
from tidehub.local.software.software import (  # noqa: E402
    EnvironmentSpec,
    node_directory,
    profile_spec,
    proxy_directory,
)
from tidehub.release_sets import release  # noqa: E402

PREPARE = "tests/guest/prepare"
HOST_PROGRAMS = {
    "mmdebstrap": "mmdebstrap",
    "mkfs.ext4": "e2fsprogs",
    "linux.uml": "user-mode-linux",
    "ip": "iproute2",
    "ssh": "openssh-client",
    "gcc": "gcc",
}
"""What building and booting needs: program and Debian package."""

MEMORY = 3 * 2**30
"""Bytes of a guest, which are taken from /dev/shm as it uses them."""

UNUSED = 2 * 86400.0
"""Seconds after its last boot that the disk of other software, an earlier one or another checkout's, is kept."""


def software() -> tuple[str, ...]:
    """What this checkout looks for below a software root; the names of environments go on with that of their Python."""
    released = release()
    control = EnvironmentSpec("the control environment", released.control)
    return (
        f"control/{control.key}",
        f"environments/{profile_spec(None, released).key}",
        str(node_directory(Path(), released)),
        str(proxy_directory(Path(), released)),
    )


@cache
def where(suite: str) -> Path:
    """The directory of a suite's disk, made or not.

    The software is named as the checkout names it. So a disk stays as it is for all that lies below those names, as on
    a user's machine, and `Guest` looks whether that fits.
    """
    (pip,) = (CHECKOUT / "bootstrap").glob("pip-*.whl")
    made_by = [HERE / "guest_recipe.py", HERE / "xstate.c", HERE / "inside" / "make_software.py", pip]
    words = repr((suite, platform.machine(), software()))
    key = layout.digest(words.encode(), *(path.read_bytes() for path in made_by))
    return layout.default_root() / "test-guest" / f"{suite}-{key}"


def disk(suite: str) -> Path | None:
    """The disk of a suite, where `prepare` made it; otherwise None."""
    directory = where(suite)
    return directory / "disk" if layout.is_complete(directory) else None


def note_use(suite: str) -> None:
    """Say that the suite's disk is used now, see `UNUSED`."""
    os.utime(where(suite))


def reject(suite: str) -> None:
    """Have the suite's disk made anew by the next `prepare`."""
    (where(suite) / layout.MARKER).unlink(missing_ok=True)


def key(suite: str) -> Path:
    """The private key with which every user of the suite's machines may log in."""
    return where(suite) / "key"


def lacking() -> list[str]:
    """What this machine lacks to build and boot guests: Debian packages, and what `cannot` names."""
    packages = {package for program, package in HOST_PROGRAMS.items() if not shutil.which(program)}
    return [*cannot(), *sorted(packages)]


def cannot() -> list[str]:
    """What no package gives: root, a device, room for the memory of two guests at a time."""
    rights = [] if os.geteuid() == 0 else ["root"]
    devices = [] if Path("/dev/net/tun").exists() else ["/dev/net/tun"]
    shm = Path("/dev/shm")
    roomy = shm.exists() and shutil.disk_usage(shm).total > 2 * MEMORY
    return [*rights, *devices, *([] if roomy else [f"{2 * MEMORY >> 30} GiB in {shm}"])]


def checkout_archive() -> bytes:
    """A tar archive of the checkout as it lies here, changes included, owned by root."""
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT,
        capture_output=True,
        check=True,
    ).stdout
    there = [name for name in listed.split(b"\0") if name and (CHECKOUT / os.fsdecode(name)).exists()]
    return subprocess.run(
        ["tar", "-c", "--owner=0", "--group=0", "--numeric-owner", "--mode=u+rwX,go=rX", "--null", "-T", "-"],
        input=b"\0".join(there),
        cwd=CHECKOUT,
        capture_output=True,
        check=True,
    ).stdout


def prepare() -> list[Path]:
    """Build the disks that are missing, and return the directories of all. Raises `TidehubError`."""
    missing = lacking()
    if missing and any(disk(suite) is None for suite in SUITES):
        raise TidehubError(
            f"the tests' Debian machines cannot be built here: missing are {', '.join(missing)}",
            fix="as root: apt-get install " + " ".join(sorted(set(HOST_PROGRAMS.values()))),
        )
    root = layout.default_root()
    shown = progress.on_standard_error()
    try:
        directories.prepare_root(root)
        made = [
            directories.build_once(
                root,
                where(suite),
                lambda place, suite=suite: build(suite, place, checkout_archive(), shown),
                progress=shown,
            )
            for suite in SUITES
        ]
        for other in set(made[0].parent.iterdir()) - set(made):
            if time.time() - other.stat().st_mtime > UNUSED:
                directories.remove(other)
        return made
    finally:
        shown.done()


def main(arguments: list[str]) -> int:
    """The exit code of `prepare`."""
    if arguments not in ([], ["--if-possible"], ["--where"]):
        print(f"usage: {PREPARE} [--if-possible | --where]", file=sys.stderr)
        return 2
    if arguments == ["--if-possible"] and (missing := cannot()):
        print(f"no Debian machine can be booted here: missing are {', '.join(missing)}")
        return 0
    try:
        print(*([where(suite) for suite in SUITES] if arguments == ["--where"] else prepare()), sep="\n")
    except TidehubError as error:
        print(f"tidehub: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\ntidehub: interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
