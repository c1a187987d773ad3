"""The table of started processes: what a start asks of it costs the same however many users have something running."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tidehub.local.isolation import trees
from tidehub.local.isolation.base import Isolation
from tidehub.local.isolation.choose import SingleIsolation
from tidehub.local.isolation.launches import Launches, ProcessHandle
from tidehub.local.isolation.model import LaunchSpec, Limits, User
from tidehub.local.isolation.trees import Ground
from tidehub.local.isolation.users import Users
from tidehub.system.processes import boot_id, read_stat

OTHERS = 200


def spec(place: Path, user_name: str, name: str) -> LaunchSpec:
    user = User(user_name, os.getuid(), os.getgid(), place / "homes" / user_name)
    return LaunchSpec(
        name=name, user=user, argv=["true"], env={}, cwd=user.home, log=place / "log", limits=Limits()
    )


@pytest.fixture
def isolation(tmp_path: Path) -> Isolation:
    """One whose table holds a running process of each of many users, and two of ada's, one of them ended."""
    made = SingleIsolation(
        Ground(
            private=tmp_path / "private",
            homes=tmp_path / "homes",
            run=tmp_path / "run",
            logs=tmp_path / "logs",
            log_pipes=tmp_path / "pipes",
        )
    )
    launches = Launches(made.users)
    running = read_stat(os.getpid())
    assert running is not None
    for number in range(OTHERS):
        # Every line needs a process of its own; that these pids run is not asked.
        other = ProcessHandle(pid=100_000 + number, started=running.started, boot=boot_id())
        launches.record(spec(tmp_path, f"user{number}", "server"), other)
    for name, pid in (("server", os.getpid()), ("worker", 99_999)):
        launches.record(
            spec(tmp_path, "ada", name), ProcessHandle(pid=pid, started=running.started, boot=boot_id())
        )
    return made


@pytest.mark.parametrize(("user", "busy", "looks"), [("ada", True, 2), ("nobody-else", False, 0)])
def test_whether_a_user_is_busy_is_asked_of_their_processes_alone(
    isolation: Isolation, monkeypatch: pytest.MonkeyPatch, user: str, busy: bool, looks: int
) -> None:
    looked: list[int] = []
    alive = trees.handle_alive

    def counted(handle: ProcessHandle) -> bool:
        looked.append(handle.pid)
        return alive(handle)

    monkeypatch.setattr(trees, "handle_alive", counted)
    assert isolation._has_running(user) is busy
    assert len(looked) <= looks


def test_one_process_and_those_of_one_user_are_found_by_an_index(isolation: Isolation) -> None:
    launches = Launches(isolation.users)
    assert {line.name for line in launches.of("ada")} == {"server", "worker"}
    (found,) = [line for line in launches.of("ada") if line.name == "server"]
    assert launches.find(found.handle) == found
    assert launches.find(ProcessHandle(pid=1, started=1, boot=boot_id())) is None
    with isolation.users.transaction(write=False) as db:
        plan = [
            str(row[-1])
            for row in db.execute("EXPLAIN QUERY PLAN SELECT * FROM launches WHERE person = 'ada'")
        ]
    assert plan and all("USING INDEX launches_of" in step for step in plan), plan


def test_a_table_of_an_earlier_version_gets_the_index(isolation: Isolation) -> None:
    users = isolation.users
    with users.transaction() as db:
        db.execute("DROP INDEX launches_of")
        db.execute("PRAGMA user_version = 0")
    assert len(Launches(Users(users.path, homes=users.homes)).all()) == OTHERS + 2
    with users.transaction(write=False) as db:
        assert db.execute("SELECT 1 FROM sqlite_master WHERE name = 'launches_of'").fetchone()
