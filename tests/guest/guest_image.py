"""The disks of the tests' Debian machines: where they lie, and how `tests/guest/prepare` builds them.

A disk holds Debian with systemd, sshd, the users root, ada (sudo) and bob, the software that a checkout needs, made
by the machine's own Python, and the wheels it came from, so that a first set-up works there without a network. The
checkout itself is not on it: it travels at boot. Its directory, below tidehub's software root, is named by the digest
of all that it is made of. Only the standard library: `prepare` runs on the system's Python.

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
from collections.abc import Sequence
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
if __name__ == "__main__":
    sys.path.insert(0, str(CHECKOUT / "src"))

from tidehub.errors import INTERRUPTED, TidehubError  # noqa: E402
from tidehub.local.software import directories, layout, progress  # noqa: E402
from tidehub.release_sets import release  # noqa: E402

PREPARE = "tests/guest/prepare"
SUITES = ("bookworm", "trixie")
"""Debian 12 with Python 3.11 and systemd 252; Debian 13 with Python 3.13 and systemd 257."""
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

_PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "dbus-user-session", "libpam-systemd", "polkitd", "udev"),
    *("sudo", "openssh-server", "ca-certificates", "python3", "python3-venv", "bubblewrap"),
    *("iproute2", "procps", "util-linux", "e2fsprogs"),
)
_DISK = 12 * 2**30
"""Bytes, most of them never written: the file has holes."""
_FILES = {
    "etc/hostname": "guest\n",
    "etc/hosts": "127.0.0.1 localhost guest\n",
    "etc/fstab": "/dev/ubda / ext4 errors=remount-ro 0 1\n",
    "etc/resolv.conf": "",
    "etc/systemd/network/10-guest.network": "[Match]\nName=eth0\n[Network]\nAddress=192.168.77.2/24\n",
    "etc/ssh/sshd_config.d/guest.conf": "UseDNS no\nMaxStartups 50\n",
    "etc/sudoers.d/ada": "ada ALL=(ALL) NOPASSWD: ALL\n",
    # Everyone uses the software that root made, in logins and in the users' managers.
    "etc/environment": "TIDEHUB_SOFTWARE=/opt/tidehub\n",
    "etc/environment.d/tidehub.conf": "TIDEHUB_SOFTWARE=/opt/tidehub\n",
}
_SET_UP = """
set -eu
systemctl enable -q systemd-networkd ssh
systemctl mask -q apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer systemd-timesyncd
for user in ada bob; do useradd --create-home --shell /bin/bash $user; passwd --quiet --delete $user; done
for home in /root /home/ada /home/bob; do
    install -d -m 700 $home/.ssh; install -m 600 /root/key.pub $home/.ssh/authorized_keys
done
chown -R ada:ada /home/ada; chown -R bob:bob /home/bob
rm /root/key.pub
"""
_SOFTWARE = """
set -eu
cd /opt/src
pip=$(echo bootstrap/pip-*.whl)/pip
for lock in control notebook node; do
    python3 -I -S $pip download --quiet --disable-pip-version-check --no-input --no-deps \\
        --only-binary :all: --require-hashes --retries 3 --progress-bar off \\
        --requirement src/tidehub/release_sets/$1/$lock.txt --dest /opt/wheels
done
export HOME=/root TIDEHUB_SOFTWARE=/opt/tidehub
export PIP_NO_INDEX=1 PIP_FIND_LINKS=/opt/wheels UV_OFFLINE=1 UV_FIND_LINKS=/opt/wheels
./tidehub --version
PYTHONPATH=src $(echo /opt/tidehub/control/*/bin/python) tests/guest/inside/make_software.py
rm -rf /opt/tidehub/cache /opt/src
"""
_IN_PRIVATE_MOUNTS = (
    'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && exec chroot "$0" sh -c "$@"'
)


def where(suite: str) -> Path:
    """The directory of a suite's disk, made or not."""
    recipe = repr((suite, _PACKAGES, _DISK, _FILES, _SET_UP, _SOFTWARE, platform.machine()))
    made_of = [
        *(CHECKOUT / "bootstrap").glob("*"),
        *(CHECKOUT / "src/tidehub/local/software").glob("*.py"),
        *(path for path in release().directory.rglob("*") if path.is_file()),
        HERE / "xstate.c",
        HERE / "inside" / "make_software.py",
    ]
    key = layout.digest(recipe.encode(), *(path.read_bytes() for path in sorted(made_of)))
    return layout.default_root() / "test-guest" / f"{suite}-{key}"


def disk(suite: str) -> Path | None:
    """The disk of a suite, where `prepare` made it; otherwise None."""
    directory = where(suite)
    return directory / "disk" if layout.is_complete(directory) else None


def note_use(suite: str) -> None:
    """Say that the suite's disk is used now, see `UNUSED`."""
    os.utime(where(suite))


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
            directories.build_once(root, where(suite), partial(_build, suite, shown), progress=shown)
            for suite in SUITES
        ]
        for other in set(made[0].parent.iterdir()) - set(made):
            if time.time() - other.stat().st_mtime > UNUSED:
                directories.remove(other)
        return made
    finally:
        shown.done()


def _build(suite: str, shown: progress.Progress, place: Path) -> dict[str, str]:
    """Build a suite's disk in `place` and return what to note about it."""
    began = time.monotonic()
    tree = place / "tree"
    tree.mkdir(parents=True)
    tree.chmod(0o755)
    shown.step(f"Installing Debian {suite}")
    _run(
        [
            # Its mounts end with it, even when it is killed.
            *("unshare", "--mount", "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase"),
            "--dpkgopt=force-unsafe-io",
            *('--aptopt=APT::Install-Recommends "false"', f"--include={','.join(_PACKAGES)}", suite, tree),
        ]
    )
    _run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", place / "key"])
    for name, text in _FILES.items():
        target = tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.write_text(text, encoding="utf-8")
        target.chmod(0o644)
    _run(["gcc", "-O2", "-Wall", "-shared", "-fPIC", "-o", place / "xstate.so", HERE / "xstate.c", "-ldl"])
    shutil.copyfile(place / "key.pub", tree / "root" / "key.pub")
    _inside(tree, _SET_UP)
    shown.step(f"Making the software with the Python of {suite}")
    _reach_the_network(tree)
    (tree / "opt" / "src").mkdir(parents=True)
    subprocess.run(["tar", "-x", "-C", tree / "opt" / "src"], input=checkout_archive(), check=True)
    _inside(tree, _SOFTWARE, release().directory.name)
    (tree / "etc" / "resolv.conf").write_text("", encoding="utf-8")
    shown.step(f"Writing the disk of {suite}")
    with (place / "disk").open("wb") as made:
        made.truncate(_DISK)
    # No journal of the usual size and no reserve: the tests fill file systems of their own.
    _run(["mkfs.ext4", "-q", "-F", "-m", "0", "-d", tree, place / "disk"])
    shutil.rmtree(tree)
    return {"suite": suite, "seconds": f"{time.monotonic() - began:.0f}"}


def _reach_the_network(tree: Path) -> None:
    """How this machine reaches its package index holds while the software is made."""
    for name in ("etc/resolv.conf", "etc/pip.conf", "etc/ssl/certs/ca-certificates.crt"):
        if Path("/", name).is_file():
            (tree / name).unlink(missing_ok=True)
            shutil.copyfile(Path("/", name), tree / name)


def _inside(tree: Path, script: str, *words: str) -> None:
    """Run a shell script in the tree; its mounts end with it."""
    _run(["unshare", "--mount", "sh", "-c", _IN_PRIVATE_MOUNTS, tree, script, "set-up", *words])


def _run(command: Sequence[str | Path]) -> None:
    """Run a program; its last lines are the error."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        said = "\n".join(done.stdout.decode(errors="replace").splitlines()[-30:])
        raise TidehubError(
            f"{Path(command[0]).name} failed while a Debian machine for the tests was built:\n{said}",
            fix="mend the cause and run the same command again",
        )


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
