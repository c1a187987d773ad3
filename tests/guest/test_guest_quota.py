"""Quotas of the kernel on Debian 12: the state lies on an ext4 with user quotas, and notebooks.home.size is a wall."""

from __future__ import annotations

import base64
import shlex
from pathlib import Path

import pytest
from guest_machine import Guest
from guest_platform import UP_SECONDS, WITHOUT_CLUSTERS, GuestPlatform

SUITE = "bookworm"
EXTRA_DISKS = (700,)
FILL = """
import errno, os
def fill(path):
    try:
        with open(path, 'ab', buffering=0) as big:
            for piece in (2**20, 4096):
                try:
                    while True:
                        big.write(b'x' * piece)
                except OSError as error:
                    print(errno.errorcode[error.errno])
    except OSError as error:
        print(errno.errorcode[error.errno])
fill('big')
"""
ESCAPE = """
import array, fcntl, os
# FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR (linux/fs.h): another project for the file, which its owner may choose.
file = os.open('big', os.O_RDWR)
value = bytearray(28)
try:
    fcntl.ioctl(file, 0x801c581f, value)
    value[12:16] = (4711).to_bytes(4, 'little')
    fcntl.ioctl(file, 0x401c5820, bytes(value))
    print('another project')
except OSError as error:
    print('no project:', error.strerror)
try:
    os.chown('big', 70001 if os.getuid() != 70001 else 70002, -1)
except OSError as error:
    print('no other owner:', error.strerror)
fill('big'); fill('more'); fill('/tmp/more')
"""


LOAD = """
import base64, ctypes, os, sys
path = '/run/module.ko'
open(path, 'wb').write(base64.b64decode(sys.stdin.read()))
libc = ctypes.CDLL(None, use_errno=True)
if libc.syscall(313, os.open(path, os.O_RDONLY), b'', 0):  # finit_module(2) on x86-64
    sys.exit(os.strerror(ctypes.get_errno()))
"""


def load_quotas(guest: Guest) -> None:
    """The kernel's modules are not on the guest's disk; the kernel itself is this machine's package."""
    found = sorted(Path("/usr/lib/uml/modules").glob("*/kernel/fs/quota"))
    if not found:
        pytest.skip("this kernel has no modules for quotas")
    for name in ("quota_tree.ko", "quota_v2.ko"):
        given = base64.b64encode((found[-1] / name).read_bytes()).decode()
        guest.run("root", f"python3 -c {shlex.quote(LOAD)}", given=given)


@pytest.fixture(scope="module")
def platform(guest: Guest) -> GuestPlatform:
    load_quotas(guest)
    guest.run(
        "root",
        "mkfs.ext4 -q -m 0 -O quota,project -E quotatype=usrquota:prjquota /dev/ubdb && mkdir -p /srv/small && "
        "mount -o usrquota,prjquota /dev/ubdb /srv/small",
    )
    started = GuestPlatform(guest, "root", "/srv/small/tidehub")
    started.up("--set", "notebooks.home.size='100 MiB'", *WITHOUT_CLUSTERS)
    return started


class TestQuota:
    """One platform: a user at the limit, and the others."""

    def test_it_is_no_gap_any_more(self, platform: GuestPlatform) -> None:
        assert not [line for line in platform.status()["gaps"] if "disk" in line]

    def test_a_user_stops_at_the_limit_and_others_do_not(self, platform: GuestPlatform) -> None:
        _, result, escape, other = platform.tried(
            {"bob": ["start", "minimal"]},
            {"bob": ["cell", FILL]},
            {"bob": ["cell", ESCAPE]},
            {"olga": ["start", "minimal"]},
        )
        assert "EDQUOT" in result["bob"]["stdout"] and "ENOSPC" not in result["bob"]["stdout"], result
        print(escape["bob"]["stdout"])
        # Why these are not project quotas: a user would be out of one by now.
        assert "another project" in escape["bob"]["stdout"], escape
        assert "no other owner" in escape["bob"]["stdout"], escape
        assert escape["bob"]["stdout"].count("EDQUOT") >= 3, escape
        assert "started" in other["olga"], other
        size = platform.guest.run("root", f"du -s -B1M {platform.state}/homes/bob").stdout
        # The limit, and what a running server may write beyond it.
        assert 90 <= int(size.split()[0]) <= 101 + 16, size
        _, wrote = platform.users(
            {"olga": ["start", "minimal"]},
            {"olga": ["cell", "print(open('own', 'wb').write(bytes(50 * 2**20)))"]},
        )
        assert wrote["olga"]["stdout"] == f"{50 * 2**20}\n", wrote

    def test_a_new_hub_leaves_a_running_server_the_room_it_had(self, platform: GuestPlatform) -> None:
        """bob, beyond the limit, makes a little room; the hub is killed; its next one looks at everybody's files."""
        guest = platform.guest
        guest.run("root", f"truncate --size=-8M {platform.state}/homes/bob/big")
        hub = next(part["pid"] for part in platform.status()["parts"] if part["name"] == "hub")
        looked = f"{platform.state}/private/disk-use.json"
        guest.run("root", f"touch /run/killed; kill -9 {hub}")
        guest.wait_inside(
            f"test {looked} -nt /run/killed", within=UP_SECONDS, saying="the new hub looks at users' files"
        )
        *_, wrote = platform.users(
            {"bob": ["start", "minimal"]},
            {"bob": ["cell", "print(open('within', 'wb').write(bytes(4 * 2**20)))"]},
        )
        assert wrote["bob"]["stdout"] == f"{4 * 2**20}\n", wrote
        size = guest.run("root", f"du -s -B1M {platform.state}/homes/bob").stdout
        assert int(size.split()[0]) > 100, f"bob is not beyond the limit: {size}"

    def test_the_operator_sees_what_the_kernel_counts(self, platform: GuestPlatform) -> None:
        assert self.over(platform) == {"bob": True, "olga": False}

    def test_who_is_at_the_limit_gets_in_deletes_and_goes_on(self, platform: GuestPlatform) -> None:
        *_, deleted, wrote, _ = platform.users(
            {"bob": ["stop"]},
            {"bob": ["start", "minimal"]},
            {"bob": ["cell", "import os; os.remove('big'); print('deleted')"]},
            {"bob": ["cell", "print(open('again', 'wb').write(bytes(10 * 2**20)))"]},
            {"bob": ["stop"]},
        )
        assert deleted["bob"]["stdout"] == "deleted\n", deleted
        assert wrote["bob"]["stdout"] == f"{10 * 2**20}\n", wrote
        platform.guest.wait(
            lambda: self.over(platform) == {"bob": False, "olga": False},
            within=60,
            saying="bob's files are measured after the stop",
        )

    def over(self, platform: GuestPlatform) -> dict[str, bool]:
        """Who takes more than notebooks.home.size, as status says."""
        rows = platform.status()["users_files"]["users"]
        assert all(row["complete"] for row in rows), rows
        return {row["user"]: row["over"] for row in rows if row["user"] in ("bob", "olga")}
