"""The system's service on Debian 12: what systemd does to it, and what it does to users' work."""

from __future__ import annotations

import json

import pytest
from guest_limits import many_children_share_the_limit
from guest_machine import TIDEHUB, Guest, said
from guest_platform import UP_SECONDS, GuestPlatform
from guest_service import LISTENING, Service

SUITE = "bookworm"
KEEP = {"bob": ["cell", "kept = 6 * 7; open('pid.txt', 'w').write(str(__import__('os').getpid()))"]}


@pytest.fixture(scope="module")
def service(guest: Guest) -> Service:
    installed = Service(guest)
    installed.install()
    return installed


@pytest.fixture(scope="module")
def platform(service: Service) -> GuestPlatform:
    return GuestPlatform(service.guest, "root", "/var/lib/tidehub")


@pytest.fixture
def running(service: Service) -> Service:
    """Started, whatever the story before left; `systemctl start` returns when it is ready."""
    service.guest.run("root", "systemctl reset-failed tidehub; systemctl start tidehub", timeout=UP_SECONDS)
    return service


class TestStartAndLimits:
    def test_start_returns_when_it_is_ready(self, service: Service, platform: GuestPlatform) -> None:
        service.ctl("start", timeout=UP_SECONDS)
        assert service.ctl("is-active").stdout.strip() == "active"
        assert platform.is_healthy(), "systemctl start returned before it was ready"

    def test_systemd_shows_it_active_with_its_processes(self, running: Service) -> None:
        shown = running.ctl("status --full").stdout
        assert "active (running)" in shown and "Main PID" in shown, shown

    def test_the_number_of_users_is_not_bounded_by_the_units_tasks(self, running: Service) -> None:
        assert running.show("TasksMax") == "infinity"

    def test_nothing_is_said_to_be_missing_that_control_groups_give(
        self, running: Service, platform: GuestPlatform
    ) -> None:
        # The unit is in a slice of ours, so what it is promised holds against the rest of the machine too.
        assert platform.limits_missing("guarantee") == []
        guarded = (
            "/sys/fs/cgroup/tidehub.slice/memory.low /sys/fs/cgroup/tidehub.slice/tidehub.service/memory.low"
        )
        lows = running.guest.run("root", f"cat {guarded}").stdout.split()
        assert all(int(low) >= 1 << 30 for low in lows), lows

    def test_the_journal_keeps_no_password(self, running: Service) -> None:
        journal = running.guest.run("root", "journalctl --unit tidehub --no-pager --output cat").stdout
        assert "/var/lib/tidehub/services/identity/demo-accounts.json" in journal, journal
        kept = running.guest.run("root", "cat /var/lib/tidehub/services/identity/demo-accounts.json").stdout
        passwords = json.loads(kept)["passwords"].values()
        assert passwords and not [one for one in passwords if one in journal]

    def test_many_children_share_their_servers_limit(self, running: Service, platform: GuestPlatform) -> None:
        many_children_share_the_limit(platform)


class TestReload:
    """Parts start anew, one after another or all of them; the unit's main process and everybody's work stay."""

    @pytest.mark.parametrize(
        "setting", ["", "notebooks.idle_timeout=5h", "machine.trusted_proxies=[127.0.0.1]"]
    )
    def test_a_change_keeps_the_main_process_and_everybodys_work(
        self, running: Service, platform: GuestPlatform, setting: str
    ) -> None:
        platform.users({"bob": ["start", "minimal"]}, KEEP)
        guest, before = running.guest, running.show("MainPID")
        kernel = guest.run("root", "cat /var/lib/tidehub/homes/bob/pid.txt").stdout.strip()
        if setting:
            done = guest.run("root", f"{TIDEHUB} up --set '{setting}'", timeout=UP_SECONDS)
            assert setting.partition("=")[0] in done.stderr, said(done)
        else:
            running.ctl("reload")
        assert running.show("ActiveState") == "active"
        assert (running.show("MainPID"), running.show("NRestarts")) == (before, "0")
        assert platform.serves("bob")
        alive = guest.run("root", f"ps -o args= {kernel}", check=False).stdout
        assert "ipykernel" in alive, "the kernel of the user ended with the change"
        if setting:
            # What was given on the command line holds until the next start, which is by the unit.
            assert "Nothing has changed" in guest.run("root", f"{TIDEHUB} reload", timeout=UP_SECONDS).stdout


class TestCrash:
    def test_a_crash_of_the_main_process_is_mended_and_ends_nobodys_work(
        self, running: Service, platform: GuestPlatform
    ) -> None:
        platform.users({"bob": ["start", "minimal"]}, KEEP)
        guest, before = running.guest, running.show("MainPID")
        kernel = guest.run("root", "cat /var/lib/tidehub/homes/bob/pid.txt").stdout.strip()
        seen = running.crash(f"{LISTENING}; ps -o args= {kernel}")
        assert ":8000" in seen, f"the port was given up between crash and restart: {seen}"
        assert "ipykernel" in seen, f"the user's kernel ended with the crash: {seen}"
        running.wait_for_another(before, within=60)
        assert platform.serves("bob") and running.show("NRestarts") == "1"
        alive = guest.run("root", f"ps -o args= {kernel}", check=False).stdout
        assert "ipykernel" in alive, "the kernel of the user ended with the restart"
        *_, again = platform.users(
            {"bob": ["start", "minimal"]}, {"bob": ["cell", "print(open('pid.txt').read())"]}
        )
        assert again["bob"]["stdout"].strip() == kernel


class TestReboot:
    def test_an_enabled_service_runs_after_a_reboot(self, running: Service, platform: GuestPlatform) -> None:
        platform.users(
            {"bob": ["start", "minimal"]}, {"bob": ["cell", "open('kept.txt', 'w').write('before')"]}
        )
        running.ctl("enable")
        running.guest.reboot()
        running.wait_for("active", within=UP_SECONDS)
        assert platform.serves(), "it is healthy, and what a reboot ended is not said to run"
        _, read = platform.users(
            {"bob": ["start", "minimal"]}, {"bob": ["cell", "print(open('kept.txt').read())"]}
        )
        assert read["bob"]["stdout"] == "before\n"
        running.ctl("disable")


class TestStop:
    """Each way costs a start, so the plain `down` is a story of Debian 13."""

    def test_stop_is_a_success_and_leaves_nothing(self, running: Service, platform: GuestPlatform) -> None:
        running.ctl("stop")
        assert running.ctl("is-active", check=False).stdout.strip() == "inactive"
        assert running.show("Result") == "success"
        assert platform.processes() == {}
        assert platform.status()["state"] == "stopped"

    def test_stop_while_it_starts_is_a_success(self, service: Service, platform: GuestPlatform) -> None:
        service.ctl("start --no-block")
        service.guest.wait(lambda: bool(platform.processes()), within=60, saying="the first part is started")
        service.ctl("stop")
        assert service.ctl("is-active", check=False).stdout.strip() == "inactive", service.ctl(
            "status", check=False
        )
        assert service.show("Result") == "success"
        assert platform.processes() == {}

    def test_down_while_it_starts_stops_it_for_good(self, service: Service, platform: GuestPlatform) -> None:
        service.ctl("start --no-block")
        service.guest.wait(lambda: bool(platform.processes()), within=60, saying="the first part is started")
        done = platform.command("down", check=False)
        service.wait_for("inactive", "failed", within=30)
        assert service.show("Result") == "success", said(done)
        assert service.show("NRestarts") == "0", said(done)
        assert platform.processes() == {}

    def test_a_hurried_down_stops_it_for_good_too(self, running: Service, platform: GuestPlatform) -> None:
        platform.users({"bob": ["start", "minimal"]})
        platform.command("down", "--now", check=False)
        running.wait_for("inactive", "failed", within=60)
        assert running.show("Result") == "success"


class TestPortTaken:
    def test_a_port_that_another_has_is_said_and_not_tried_for_ever(self, service: Service) -> None:
        guest = service.guest
        service.ctl("stop", check=False)
        listener = "import signal, socket; taken = socket.create_server(('127.0.0.1', 8000)); signal.pause()"
        guest.run("root", f'systemd-run --quiet --unit=taker python3 -c "{listener}"')
        try:
            guest.wait_inside("ss -tln | grep -q :8000", within=60, saying="somebody has the port")
            service.ctl("start", check=False)
            service.wait_for("failed", within=180)
            first = service.show("NRestarts")
            journal = guest.run("root", "journalctl -u tidehub -n 40 --no-pager -o cat").stdout
            assert "8000" in journal and "to do" in journal and "Traceback" not in journal, journal
            assert int(first) <= 6, first
        finally:
            guest.run("root", "systemctl stop taker; systemctl reset-failed tidehub", check=False)
