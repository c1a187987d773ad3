from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from fake_platform import PASSWORD, FakePlatform, serve

from tidehub.checks import path
from tidehub.checks.path import check_path
from tidehub.checks.report import Phase, Report
from tidehub.checks.target import Account, Target

ALICE, BOB = Account("alice", PASSWORD), Account("bob", PASSWORD)


class Logs:
    def matter(self, parts: Iterable[str], words: Iterable[str]) -> list[str]:
        return [f"{part}.log: ERROR token=abcdef" for part in parts]


async def go(fake: FakePlatform, **more: Any) -> Report:
    async with serve(fake):
        target = Target(
            fake.address, accounts=(ALICE, BOB), profiles=("main", "develop"), default_profile="main", **more
        )
        return await check_path(target)


def phase(report: Report, name: str) -> Phase:
    return next(each for each in report.phases if each.name == name)


def failed(report: Report) -> list[str]:
    return [each.name for each in report.phases if each.state == "failed"]


async def test_goes_the_whole_path() -> None:
    fake = FakePlatform()
    report = await go(fake)
    assert report.ok, report.to_json()
    assert report.user == "alice"
    assert {each.state for each in report.phases} == {"ok"}
    assert not fake.running
    assert any("cluster.shutdown()" in cell for cell in fake.cells)


async def test_takes_a_member_whose_work_is_not_disturbed() -> None:
    report = await go(FakePlatform(busy=("alice",)))
    assert report.ok and report.user == "bob"
    assert "alice busy" in phase(report, "login").detail


async def test_disturbs_nobody_when_all_are_busy() -> None:
    fake = FakePlatform(busy=("alice", "bob"))
    report = await go(fake)
    assert failed(report) == ["login"]
    assert "a server of alice and bob is running" in phase(report, "login").why
    assert not [asked for asked in fake.asked if asked.startswith("DELETE")]


async def test_a_refused_user_reads_the_hubs_words() -> None:
    report = await go(FakePlatform(refuse="Missing membership: urn:x:group:sea"))
    assert failed(report) == ["login"]
    assert "Missing membership: urn:x:group:sea" in phase(report, "login").why
    assert {each.state for each in report.phases if each.name != "login"} == {"ok", "not run"}


async def test_a_wrong_password_is_told_in_the_providers_words() -> None:
    fake = FakePlatform()
    async with serve(fake):
        wrong = Target(fake.address, accounts=(Account("alice", "wrong"),))
        report = await check_path(wrong)
    assert "refused the password of alice" in phase(report, "login").why
    assert "The name or the password is wrong." in phase(report, "login").why


async def test_nothing_listens() -> None:
    report = await check_path(Target("http://127.0.0.1:9/", accounts=(ALICE,)))
    assert failed(report) == ["front"]
    assert "nothing answers at http://127.0.0.1:9" in phase(report, "front").why


@pytest.mark.parametrize(
    ("fake", "why"),
    [
        (FakePlatform(profiles=("main",)), "the spawn page offers main; the site has main, develop"),
        (FakePlatform(selected=()), "preselected is nothing; the site's default is main"),
        (
            FakePlatform(selected=("main", "develop")),
            "preselected is main, develop; the site's default is main",
        ),
    ],
)
async def test_a_wrong_spawn_page(fake: FakePlatform, why: str) -> None:
    assert phase(await go(fake), "spawn_page").why == why


async def test_a_failed_start_says_the_hubs_words_and_is_cleared_up() -> None:
    fake = FakePlatform(
        events=[
            {"progress": 10, "message": "Waiting for your turn: place 2 of 2, memory is used up"},
            {"progress": 100, "failed": True, "message": "Spawn failed: memory limit of 2 GiB"},
        ]
    )
    report = await go(fake, logs=Logs(), scrub=lambda text: text.replace("abcdef", "***"))
    spawn = phase(report, "spawn")
    assert spawn.why == "Spawn failed: memory limit of 2 GiB"
    assert spawn.news == ("Waiting for your turn: place 2 of 2, memory is used up",)
    assert spawn.evidence == ("hub.log: ERROR token=***", "servers.log: ERROR token=***")
    assert phase(report, "kernel").state == "not run"
    assert phase(report, "server_stop").state == "ok" and not fake.running


async def test_a_start_that_takes_too_long_says_what_was_told_last(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = tuple(replace(step, deadline=0.5) if step.name == "spawn" else step for step in path.STEPS)
    monkeypatch.setattr(path, "STEPS", quick)
    fake = FakePlatform(events=[{"progress": 10, "message": "Waiting: place 1"}], hang_progress=True)
    report = await go(fake)
    assert phase(report, "spawn").why == "took longer than 0.5 s"
    assert phase(report, "spawn").news == ("Waiting: place 1",)
    assert not fake.running


async def test_a_page_that_is_not_jupyterlab() -> None:
    report = await go(FakePlatform(lab='<div class="error"><h1>503</h1><p>not available</p></div>'))
    assert (
        phase(report, "lab").why == "JupyterLab does not open: 200 from /x/user/alice/lab: 503 not available"
    )


async def test_the_gateways_limit_is_told_in_its_words() -> None:
    fake = FakePlatform(cell_error=("GatewayClusterError", "You have 2 clusters, and this site allows 2"))
    report = await go(fake)
    assert phase(report, "cluster").why == "GatewayClusterError: You have 2 clusters, and this site allows 2"
    assert phase(report, "cluster_stop").state == "not run"
    assert phase(report, "logout").state == "ok"


async def test_a_kernel_that_dies_is_told_with_its_last_words() -> None:
    report = await go(FakePlatform(kernel_dies=True))
    assert phase(report, "cell").why == (
        "the kernel died while it ran the cell: The kernel was stopped for memory."
    )


async def test_a_dashboard_that_is_open_to_strangers_fails() -> None:
    report = await go(FakePlatform(dashboard_for_all=True))
    assert failed(report) == ["dashboard"]
    assert phase(report, "dashboard").why == "the dashboard opens for somebody who is not signed in"
    assert phase(report, "cluster_stop").state == "ok"


async def test_a_site_without_dask_skips_it() -> None:
    report = await go(FakePlatform(), workers=0)
    assert report.ok
    assert phase(report, "cluster").detail == "this user has no Dask clusters here"


async def test_a_small_machine_is_asked_for_the_workers_that_it_can_hold() -> None:
    fake = FakePlatform()
    report = await go(fake, fitting=lambda profile: {"main": 1}[profile])
    assert any("cluster.scale(1)" in cell for cell in fake.cells)
    assert not any("cluster.scale(2)" in cell for cell in fake.cells)
    assert "worker" in phase(report, "compute").detail + phase(report, "compute").why


async def test_a_machine_without_room_for_a_worker_is_told_at_once_with_the_remedy() -> None:
    fake = FakePlatform()
    report = await go(fake, fitting=lambda profile: 0)
    assert failed(report) == ["compute"]
    assert (
        "has no memory for a Dask worker next to a server of the profile main" in phase(report, "compute").why
    )
    assert "--fit" in phase(report, "compute").why
    assert not any("cluster.scale" in cell for cell in fake.cells)
    assert phase(report, "cluster_stop").state == "ok"


async def test_an_interrupted_check_clears_up() -> None:
    fake = FakePlatform(events=[{"progress": 10, "message": "Waiting"}], hang_progress=True)
    seen: list[Phase] = []
    async with serve(fake):
        target = Target(fake.address, accounts=(ALICE,), profiles=("main", "develop"), default_profile="main")
        task = asyncio.create_task(check_path(target, tell=seen.append))
        while not any(asked.endswith("/progress") for asked in fake.asked):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert not fake.running
    assert [each.name for each in seen if each.state == "ok"][-2:] == ["server_stop", "logout"]
