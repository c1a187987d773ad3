"""A full disk on Debian 12: the state lies on a small file system of its own, and users fill it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from guest_machine import Guest, said
from guest_platform import GuestPlatform

SUITE = "bookworm"
EXTRA_DISKS = (400,)
FILL = """
import errno
try:
    with open('big', 'wb') as big:
        while True:
            big.write(b'x' * 2**20)
            big.flush()
except OSError as error:
    print(errno.errorcode[error.errno])
"""


@pytest.fixture(scope="module")
def platform(guest: Guest) -> Iterator[GuestPlatform]:
    guest.run("root", "mkfs.ext4 -q -m 0 /dev/ubdb && mkdir -p /srv/small && mount /dev/ubdb /srv/small")
    yield GuestPlatform(guest, "root", "/srv/small/tidehub")


class TestFullDisk:
    """One platform, from a start with room to the next one."""

    def test_a_user_fills_the_disk(self, platform: GuestPlatform) -> None:
        platform.up()
        _, result = platform.tried({"bob": ["start", "minimal"]}, {"bob": ["cell", FILL]})
        assert any(word in str(result) for word in ("ENOSPC", "EDQUOT")), result

    def test_status_answers_and_names_it(self, platform: GuestPlatform) -> None:
        done = platform.command("status", check=False)
        assert "Traceback" not in done.stdout + done.stderr, said(done)
        assert "disk" in done.stdout + done.stderr, said(done)

    def test_down_ends_everything(self, platform: GuestPlatform) -> None:
        done = platform.command("down", check=False)
        assert done.returncode == 0, said(done)
        assert platform.processes() == {}
        users = platform.guest.run("root", "ps -e -o uid=").stdout.split()
        assert not [uid for uid in users if 69000 <= int(uid) < 80000], users

    def test_up_names_what_fills_it_and_never_the_ledger(self, platform: GuestPlatform) -> None:
        done = platform.command("up", "--detach", timeout=240, check=False)
        told = done.stdout + done.stderr
        assert done.returncode != 0 and "disk" in told and "/srv/small" in told, said(done)
        assert "Traceback" not in told and "remove" not in told, said(done)

    def test_with_room_again_it_starts_and_nothing_is_lost(self, platform: GuestPlatform) -> None:
        platform.guest.run("root", f"rm {platform.state}/homes/bob/big")
        platform.up()
        platform.users({"bob": ["start", "minimal"]}, {"bob": ["cell", "open('small', 'w').write('x')"]})
        platform.down()
