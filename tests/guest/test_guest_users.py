"""Ordinary users of a Debian 12: no root, bubblewrap, the user's systemd, with and without lingering."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from guest_limits import LimitsHold
from guest_machine import TIDEHUB, Guest, said
from guest_platform import UP_SECONDS, WITHOUT_CLUSTERS, GuestPlatform, share_software
from guest_service import LISTENING, Service

SUITE = "bookworm"
AFTER_LOGOUT = 30
"""Seconds: the manager of a user who does not linger ends 10 s after the last logout, with all below it."""
SCOPE = f"systemd-run --user --scope --quiet --property=Delegate=yes {TIDEHUB}"


STATE = "/home/{}/.local/state/tidehub"


def wait_for_the_end(guest: Guest, user: str, within: float) -> None:
    """Until systemd has ended the user's manager, and with it all that it ran."""
    over = f"systemctl is-active user@$(id -u {user}) | grep -Eqx 'inactive|failed'"
    guest.wait_inside(over, within=within, saying=f"systemd ends the manager of {user}")


def linger(guest: Guest, user: str, wish: bool) -> None:
    guest.run("root", f"loginctl {'enable' if wish else 'disable'}-linger {user}")
    if not wish:
        wait_for_the_end(guest, user, within=60)


class TestWithoutLingering:
    """Everything that a user starts may end with their logout; then they are told before, with the remedy."""

    @pytest.mark.parametrize("command", [TIDEHUB, SCOPE], ids=["shell", "scope"])
    def test_it_outlives_the_logout_or_says_what_lets_it(self, guest: Guest, command: str) -> None:
        linger(guest, "ada", False)
        platform = GuestPlatform(guest, "ada", STATE.format("ada"))
        options = f"--state {platform.state} {' '.join(WITHOUT_CLUSTERS)}"
        done = guest.run("ada", f"{command} up --detach {options}", timeout=UP_SECONDS, check=False)
        try:
            assert done.returncode == 0, said(done)
            wait_for_the_end(guest, "ada", within=AFTER_LOGOUT)
            told = "loginctl enable-linger" in done.stdout + done.stderr
            assert platform.processes() or told, (
                f"it ended with the logout, without a word before:\n{said(done)}"
            )
            status = platform.status()
            assert status["healthy"] is bool(platform.processes()), status
        finally:
            platform.command("down", check=False)

    def test_a_service_of_ones_own_says_so_too(self, guest: Guest) -> None:
        linger(guest, "ada", False)
        service = Service(guest, "ada")
        told = service.install()
        assert "loginctl enable-linger ada" in told.stdout + told.stderr, said(told)
        assert "/home/ada/.config/systemd/user/tidehub.service" in told.stdout, said(told)
        shown = json.loads(service.tidehub("show", "--json").stdout)
        assert (shown["ok"], shown["installed"], shown["active"]) == (True, True, "inactive")
        assert "Type=notify" in shown["unit"]
        assert json.loads(service.tidehub("remove", "--json").stdout)["removed"] is True
        gone = service.tidehub("show", "--json", check=False)
        assert (gone.returncode, json.loads(gone.stdout)["installed"]) == (1, False)

    def test_who_cannot_have_one_is_told_why(self, guest: Guest) -> None:
        system = guest.run("ada", f"{TIDEHUB} service install", check=False)
        assert system.returncode == 2 and "only root" in system.stderr, said(system)
        # bob is not logged in, so no manager of his runs.
        linger(guest, "bob", False)
        su = guest.run("root", f"su bob -c '{TIDEHUB} service install --user'", check=False)
        assert su.returncode == 1 and "loginctl enable-linger bob" in su.stderr, said(su)
        assert "Traceback" not in su.stderr, said(su)


@pytest.fixture(scope="module", autouse=True)
def software(guest: Guest) -> None:
    share_software(guest)


@pytest.fixture(scope="module")
def platform(guest: Guest) -> GuestPlatform:
    """ada's, started in a scope as docs/explanation/isolation.md says; she lingers and is not logged in."""
    linger(guest, "ada", True)
    started = GuestPlatform(guest, "ada", STATE.format("ada"))
    options = f"--set notebooks.max_processes=150 {' '.join(WITHOUT_CLUSTERS)}"
    command = f"{SCOPE} up --detach --state {started.state} {options}"
    done = guest.run("ada", command, timeout=UP_SECONDS, check=False)
    assert done.returncode == 0, f"{said(done)}\n{started.logs()}"
    return started


class TestDelegatedScope(LimitsHold):
    """The command that docs/explanation/isolation.md names for limits without root."""

    def test_it_outlives_the_login_and_has_groups(self, platform: GuestPlatform) -> None:
        status = platform.status()
        assert status["healthy"] and status["isolation"] == "bubblewrap", status
        assert platform.limits_missing() == []


KERNELS = "pgrep --uid ada --full ipykernel_launcher"

LOOK = """
import json, os
seen = []
for process in filter(str.isdigit, os.listdir('/proc')):
    try:
        seen.append(open(f'/proc/{process}/cmdline').read())
    except OSError:
        pass
def reach(path):
    try:
        return os.listdir(path)
    except OSError as error:
        return error.strerror
print(json.dumps({'seen': seen, 'places': {path: reach(path) for path in PLACES}}))
"""


class TestTwoUsersBesideEachOther:
    """bob of the machine runs a platform beside ada's; in ada's, two users of the hub work at once."""

    @pytest.fixture(scope="class")
    @classmethod
    def bobs(cls, guest: Guest, platform: GuestPlatform) -> Iterator[GuestPlatform]:
        linger(guest, "bob", True)
        started = GuestPlatform(guest, "bob", STATE.format("bob"))
        started.up("--port", "8001", *WITHOUT_CLUSTERS)
        yield started
        started.down()

    def test_each_has_its_own(self, platform: GuestPlatform, bobs: GuestPlatform) -> None:
        for one, port in ((platform, 8000), (bobs, 8001)):
            status = one.status()
            assert status["healthy"] and status["isolation"] == "bubblewrap", status
            assert f":{port}/" in f"{status['address']}/", status

    def test_nobody_sees_the_work_of_another(self, platform: GuestPlatform, bobs: GuestPlatform) -> None:
        private = [f"{platform.state}/private", f"{platform.state}/homes/bob", "/home/ada/.ssh"]
        look = LOOK.replace("PLACES", repr([*private, "/home/bob", bobs.state]))
        *_, result = platform.users(
            {"bob": ["start", "minimal"], "olga": ["start", "minimal"]},
            {"bob": ["cell", "open('secret.txt', 'w').write('of bob')"], "olga": ["cell", "pass"]},
            {"olga": ["cell", look]},
        )
        found = json.loads(result["olga"]["stdout"])
        shown = {
            place: names for place, names in found["places"].items() if isinstance(names, list) and names
        }
        assert shown == {}
        others = [line for line in found["seen"] if "homes/bob" in line or "-m\0tidehub\0" in line]
        assert others == []

    def test_the_end_of_one_leaves_the_other(self, platform: GuestPlatform, bobs: GuestPlatform) -> None:
        bobs.down()
        assert bobs.processes() == {}
        assert platform.is_healthy()


class TestTheUsersService:
    """The last class: its service has the state directory of the platform before."""

    def test_it_starts_outlives_the_login_and_a_crash_and_stops(self, platform: GuestPlatform) -> None:
        platform.down()
        guest = platform.guest
        service = Service(guest, "ada")
        told = service.install("--enable")
        assert "linger" not in told.stderr, f"ada lingers: {said(told)}"
        assert platform.limits_missing() == [], "it is ready when the command returns"
        platform.users({"bob": ["start", "minimal"]}, {"bob": ["cell", "pass"]})
        before, kernels = service.show("MainPID"), guest.run("root", KERNELS).stdout
        assert kernels
        assert ":8000" in service.crash(LISTENING), "the port was given up between crash and restart"
        service.wait_for_another(before, within=60)
        assert platform.serves("bob")
        assert guest.run("root", KERNELS).stdout == kernels, "the crash ended a user's kernel"
        guest.reboot()
        # The service of a user who lingers runs after a reboot.
        service.wait_for("active", within=UP_SECONDS)
        assert platform.is_healthy()
        service.ctl("stop")
        assert service.ctl("is-active", check=False).stdout.strip() == "inactive"
        assert service.show("Result") == "success"
        assert platform.processes() == {}
        service.tidehub("remove")
        assert service.ctl("cat", check=False).returncode != 0
