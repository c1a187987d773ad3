"""How the disk of one of the tests' Debian machines is made: Debian, its users, the software of the release set.

Every byte of this file is part of the name of the disks: a change here has `prepare` make new ones.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tidehub.errors import TidehubError
from tidehub.local.software import progress
from tidehub.release_sets import DEFAULT

HERE = Path(__file__).resolve().parent
SUITES = ("bookworm", "trixie")
"""Debian 12 with Python 3.11 and systemd 252; Debian 13 with Python 3.13 and systemd 257."""

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


def build(suite: str, place: Path, checkout: bytes, shown: progress.Progress) -> dict[str, str]:
    """Build the disk of a suite in `place` and return what to note about it.

    `checkout` is a tar archive of tidehub's source, which makes the software. Raises `TidehubError`.
    """
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
    subprocess.run(["tar", "-x", "-C", tree / "opt" / "src"], input=checkout, check=True)
    _inside(tree, _SOFTWARE, DEFAULT)
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
