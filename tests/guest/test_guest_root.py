"""Root over ssh, on Debian 12 with systemd and control groups of version 2 only: no service, no container, a shell.

The state lies on a small file system of its own, which users fill in the end.
"""

from __future__ import annotations

import pytest
from guest_limits import LimitsHold
from guest_machine import TIDEHUB, Guest, said
from guest_platform import SMALL_CLUSTERS, UP_SECONDS, WITHOUT_CLUSTERS, GuestPlatform

SUITE = "bookworm"
EXTRA_DISKS = (500,)
SMALL = "/srv/small"
STATE = f"{SMALL}/tidehub"
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


def users_processes(guest: Guest) -> list[str]:
    """The processes of the uids that users and services of a platform have."""
    lines = guest.run("root", "ps -e -o uid=,args=").stdout.splitlines()
    return [line for line in lines if int(line.split()[0]) in range(69000, 80000)]


@pytest.fixture(scope="module")
def platform(guest: Guest) -> GuestPlatform:
    """Started in a login that ended since."""
    guest.run(
        "root",
        f"mkfs.ext4 -q -m 0 /dev/ubdb && mkdir -p {SMALL} && echo '/dev/ubdb {SMALL} ext4' >> /etc/fstab && "
        f"mount {SMALL}",
    )
    started = GuestPlatform(guest, "root", STATE)
    started.up("--set", "notebooks.max_processes=150", *SMALL_CLUSTERS)
    return started


class TestTheWholePath:
    """The first story: nobody else needs the machine's memory yet."""

    def test_check_goes_a_users_whole_path(self, platform: GuestPlatform) -> None:
        done = platform.command("check", timeout=300, check=False)
        assert done.returncode == 0, said(done)


class TestRootOverSsh(LimitsHold):
    """One platform for all: its start was an ssh login, and every question is another one."""

    def test_it_outlives_the_login_that_started_it(self, platform: GuestPlatform) -> None:
        sessions = platform.guest.run("root", "loginctl list-sessions --no-legend").stdout
        assert len(sessions.strip().splitlines()) == 1, f"only the login that asks: {sessions}"
        status = platform.status()
        assert status["healthy"] and status["isolation"] == "root", status

    def test_nothing_is_said_to_be_missing_that_control_groups_give(self, platform: GuestPlatform) -> None:
        assert platform.limits_missing() == []

    def test_every_part_runs_with_the_rights_it_should_have(self, platform: GuestPlatform) -> None:
        """The proxy and the services are not root, as docs/explanation/isolation.md says."""
        lines = platform.guest.run("root", "ps -e -o uid=,args=").stdout.splitlines()
        uids = {line.strip() for line in lines if f"{STATE}/services/" in line and "launcher" not in line}
        assert uids, lines
        assert not [line for line in uids if line.startswith("0 ")], uids


class TestReboot:
    """After all stories of the running platform: the machine stops it."""

    def test_a_reboot_stops_it_in_order_and_status_says_so(self, platform: GuestPlatform) -> None:
        platform.users(
            {"bob": ["start", "minimal"]}, {"bob": ["cell", "open('kept.txt', 'w').write('before')"]}
        )
        platform.guest.reboot()
        status = platform.status()
        assert not status["healthy"] and not status.get("servers"), status
        told = platform.command("status", check=False).stdout
        assert "may still run" not in told, f"no process outlives the machine: {told}"
        assert platform.down().returncode == 0, "down of what does not run is no fault"
        platform.up(*WITHOUT_CLUSTERS)
        assert platform.status()["servers"] == []
        _, read = platform.users(
            {"bob": ["start", "minimal"]}, {"bob": ["cell", "print(open('kept.txt').read())"]}
        )
        assert read["bob"]["stdout"] == "before\n"

    def test_ordinary_users_reach_nothing_of_it(self, platform: GuestPlatform) -> None:
        for path in (f"{STATE}/private", f"{STATE}/homes/bob", f"{STATE}/logs"):
            assert platform.guest.run("ada", f"ls {path}", check=False).returncode != 0, path
        assert platform.guest.run("bob", f"{TIDEHUB} down --state {STATE}", check=False).returncode != 0
        assert platform.is_healthy()


class TestFullDisk:
    """A user of the running platform fills the file system: it stops, says why it does not start, and starts again."""

    def test_status_answers_and_names_it(self, platform: GuestPlatform) -> None:
        _, result = platform.tried({"bob": ["start", "minimal"]}, {"bob": ["cell", FILL]})
        assert any(word in str(result) for word in ("ENOSPC", "EDQUOT")), result
        done = platform.command("status", check=False)
        assert "Traceback" not in done.stdout + done.stderr, said(done)
        assert "disk" in done.stdout + done.stderr, said(done)

    def test_down_leaves_no_process_and_no_group(self, platform: GuestPlatform) -> None:
        guest, done = platform.guest, platform.command("down", check=False)
        assert done.returncode == 0, said(done)
        assert platform.processes() == {}
        assert users_processes(guest) == []
        # The slice itself is systemd's, which keeps it as it keeps user.slice.
        groups = guest.run("root", "find /sys/fs/cgroup -type d -path '*tidehub*'").stdout
        assert groups in ("", "/sys/fs/cgroup/tidehub.slice\n")
        assert platform.status()["state"] == "stopped"

    def test_up_names_what_fills_it_and_never_the_ledger(self, platform: GuestPlatform) -> None:
        done = platform.command("up", "--detach", *WITHOUT_CLUSTERS, timeout=UP_SECONDS, check=False)
        told = done.stdout + done.stderr
        assert done.returncode != 0 and "disk" in told and SMALL in told, said(done)
        assert "Traceback" not in told and "No file of the platform has to be removed" in told, said(done)

    def test_with_room_again_it_starts_and_nothing_is_lost(self, platform: GuestPlatform) -> None:
        platform.guest.run("root", f"rm {STATE}/homes/bob/big")
        platform.up(*WITHOUT_CLUSTERS)
        *_, read = platform.users(
            {"bob": ["start", "minimal"]},
            {"bob": ["cell", "open('small', 'w').write('x'); print(open('kept.txt').read())"]},
        )
        assert read["bob"]["stdout"] == "before\n"
