"""One operator at a time, whoever dies in between."""

from __future__ import annotations

import datetime
import subprocess
import sys
from typing import Any

import pytest
from memory_cluster import MemoryCluster

from tidehub.kubernetes.cluster.port import ClusterProblem
from tidehub.kubernetes.deploying.holder import Holder, this_process
from tidehub.kubernetes.deploying.lock import API, NAME, Lock, Locked, read_lease

SPACE = "daskhub"
BEN = Holder("ben@desk", 11, "machine-b", "1")


class Time:
    """Passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.while_asleep: Any = lambda: None

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.while_asleep()


def lock(cluster: MemoryCluster, time: Time, holder: Holder = BEN, **more: Any) -> Lock:
    return Lock(cluster, SPACE, "deploy", holder, renewal=4, clock=time.clock, sleep=time.sleep, **more)  # type: ignore[arg-type]


def lease(cluster: MemoryCluster) -> dict[str, Any]:
    found = cluster.get(API, "Lease", NAME, SPACE)
    assert found is not None
    return found


def held_by(cluster: MemoryCluster, identity: str, seconds_ago: float = 1) -> None:
    at = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds_ago)
    cluster.create(
        {
            "apiVersion": API,
            "kind": "Lease",
            "metadata": {"name": NAME, "annotations": {"tidehub/operation": "upgrade"}},
            "spec": {
                "holderIdentity": identity,
                "leaseDurationSeconds": 30,
                "acquireTime": "2026-11-22T10:00:00.000000Z",
                "renewTime": at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            },
        },
        SPACE,
    )


def test_a_free_lease_is_taken_and_given_back() -> None:
    cluster, time = MemoryCluster(), Time()
    with lock(cluster, time) as one:
        assert read_lease(lease(cluster)).holder == BEN.identity
        assert lease(cluster)["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "tidehub"}
        one.ensure()
    assert read_lease(lease(cluster)).holder == ""
    with lock(cluster, time):
        assert lease(cluster)["spec"]["leaseTransitions"] == 1


def test_a_lease_that_is_renewed_belongs_to_somebody_who_works() -> None:
    cluster, time = MemoryCluster(), Time()
    held_by(cluster, "ana@laptop, process 7, machine-a.1")

    def renew() -> None:
        found = lease(cluster)
        found["spec"]["renewTime"] = datetime.datetime.now(datetime.UTC).isoformat()
        cluster.replace(found, SPACE)

    time.while_asleep = renew
    with pytest.raises(
        Locked, match=r"ana@laptop, process 7.* is working on the namespace daskhub \(upgrade"
    ):
        lock(cluster, time).__enter__()
    assert read_lease(lease(cluster)).holder.startswith("ana@laptop")


def test_a_lease_that_nobody_renews_is_taken_over_after_its_duration() -> None:
    cluster, time = MemoryCluster(), Time()
    held_by(cluster, "ana@laptop, process 7, machine-a.1")
    told: list[str] = []
    with lock(cluster, time, told=told.append):
        assert 1030 <= time.now < 1035, "not before: another machine's clock may be wrong"
        assert read_lease(lease(cluster)).holder == BEN.identity
    assert "taking over" in told[-1]


def test_a_lease_that_is_long_over_is_taken_at_once() -> None:
    cluster, time = MemoryCluster(), Time()
    held_by(cluster, "ana@laptop, process 7, machine-a.1", seconds_ago=3600)
    with lock(cluster, time):
        assert time.now == 1000


def test_a_dead_process_of_this_machine_holds_nothing() -> None:
    cluster, time, me = MemoryCluster(), Time(), this_process()
    if not me.machine:
        pytest.skip("only Linux tells one process from another")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    gone = Holder(me.user, dead.pid, me.machine, "1")
    assert me.knows_is_gone(gone.identity)
    assert not me.knows_is_gone(me.identity)
    assert not me.knows_is_gone(Holder(me.user, dead.pid, "elsewhere", "1").identity)
    assert not me.knows_is_gone("ana@laptop")
    held_by(cluster, gone.identity)
    with lock(cluster, time, me):
        assert time.now == 1000


def test_who_is_quicker_has_it() -> None:
    cluster, time = MemoryCluster(), Time()
    quick = "ana@laptop, process 7, machine-a.1"

    def race(verb: str, kind: str) -> None:
        if verb == "create":
            cluster.before = lambda verb, kind: None
            held_by(cluster, quick)

    cluster.before = race
    time.while_asleep = lambda: pytest.fail("it was seen") if time.now > 1060 else None
    with lock(cluster, time):
        assert time.now >= 1030, "it was waited for like any other"


def test_a_lost_lease_ends_the_work() -> None:
    cluster, time = MemoryCluster(), Time()
    with lock(cluster, time) as one:
        found = lease(cluster)
        found["spec"]["holderIdentity"] = "ana@laptop, process 7, machine-a.1"
        cluster.replace(found, SPACE)
        one.ensure()  # for as long as it lasts, nobody may have it
        time.now += 31
        with pytest.raises(Locked, match=r"ana@laptop, process 7.* took it"):
            one.ensure()
    assert read_lease(lease(cluster)).holder.startswith("ana@laptop"), "what is another's is not given back"


def test_a_lease_that_could_not_be_renewed_is_ours_if_nobody_took_it() -> None:
    cluster, time = MemoryCluster(), Time()
    with lock(cluster, time) as one:
        time.now += 31

        def gone(verb: str, kind: str) -> None:
            raise ClusterProblem("no answer", reason="unreachable")

        cluster.before = gone
        with pytest.raises(ClusterProblem, match="no answer"):
            one.ensure()
        cluster.before = lambda verb, kind: None
        one.ensure()


def test_an_unreachable_server_does_not_hide_the_outcome() -> None:
    cluster, time = MemoryCluster(), Time()

    def gone(verb: str, kind: str) -> None:
        raise ClusterProblem("no answer", reason="unreachable")

    with lock(cluster, time):
        cluster.before = gone
