"""Debian 13: Python 3.13, OpenSSL 3.5, systemd 257. The stories in which it may differ from Debian 12."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from guest_limits import many_children_share_the_limit
from guest_machine import TIDEHUB, Guest, said
from guest_platform import SMALL_CLUSTERS, UP_SECONDS, WITHOUT_CLUSTERS, GuestPlatform, share_software
from guest_service import Service

SUITE = "trixie"

CLUSTER = """
import json
from dask_gateway import GatewayCluster
cluster = GatewayCluster(worker_memory=0.5)
client = cluster.get_client()
results = []
for round in range(2):
    cluster.scale(1)
    client.wait_for_workers(1, timeout=120)
    results.append(client.submit(sum, [round, 2, 3], pure=False).result(timeout=60))
    cluster.scale(0)
    while client.scheduler_info()['workers']:
        __import__('time').sleep(0.2)
results.append(client.run_on_scheduler(lambda: 'answers'))
cluster.shutdown()
print(json.dumps(results))
"""


class TestRootOverSsh:
    @pytest.fixture(scope="class")
    @classmethod
    def platform(cls, guest: Guest) -> Iterator[GuestPlatform]:
        started = GuestPlatform(guest, "root", "/var/lib/tidehub")
        started.up(*SMALL_CLUSTERS)
        yield started
        started.down()

    def test_it_runs_on_python_3_13(self, platform: GuestPlatform) -> None:
        version = platform.guest.run("root", "/opt/tidehub/control/*/bin/python --version").stdout
        assert version.startswith("Python 3.13"), version

    def test_check_goes_a_users_whole_path(self, platform: GuestPlatform) -> None:
        done = platform.command("check", timeout=300, check=False)
        assert done.returncode == 0, said(done)

    def test_a_clusters_connections_survive_the_end_of_its_workers(self, platform: GuestPlatform) -> None:
        """OpenSSL 3.5's error queue under Python 3.13 took other connections down with every worker that ended."""
        *_, result = platform.users({"bob": ["start", "minimal"]}, {"bob": ["cell", CLUSTER]}, timeout=300)
        assert json.loads(result["bob"]["stdout"]) == [5, 6, "answers"], result

    def test_nothing_is_said_to_be_missing_that_control_groups_give(self, platform: GuestPlatform) -> None:
        assert platform.limits_missing() == []


class TestDelegatedScope:
    """An ordinary user who lingers."""

    @pytest.fixture(scope="class")
    @classmethod
    def platform(cls, guest: Guest) -> Iterator[GuestPlatform]:
        share_software(guest)
        guest.run("root", "loginctl enable-linger ada")
        started = GuestPlatform(guest, "ada", "/home/ada/.local/state/tidehub")
        scope = "systemd-run --user --scope --quiet --property=Delegate=yes"
        options = f"--state {started.state} {' '.join(WITHOUT_CLUSTERS)}"
        done = guest.run("ada", f"{scope} {TIDEHUB} up --detach {options}", timeout=UP_SECONDS, check=False)
        assert done.returncode == 0, f"{said(done)}\n{started.logs()}"
        yield started
        started.down()

    def test_many_children_share_their_servers_limit(self, platform: GuestPlatform) -> None:
        assert platform.limits_missing() == []
        many_children_share_the_limit(platform)


class TestService:
    def test_it_starts_and_down_stops_it_for_good(self, guest: Guest) -> None:
        service, platform = Service(guest), GuestPlatform(guest, "root", "/var/lib/tidehub")
        service.install()
        service.ctl("start")
        assert platform.limits_missing() == []
        platform.down()
        service.wait_for("inactive", within=30)
        assert service.show("Result") == "success" and service.show("NRestarts") == "0"
        assert platform.processes() == {}
