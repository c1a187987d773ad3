"""A user's path through the built-in site, and what those read who may not go it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from real_platform import RealPlatform
from real_user import login

from tidehub.checks.browser import Browser
from tidehub.checks.login import sign_in
from tidehub.checks.path import check_path
from tidehub.checks.report import PhaseFailed
from tidehub.checks.target import Account

pytestmark = pytest.mark.real


def test_check_goes_the_whole_path(platform: RealPlatform) -> None:
    code, report = platform.check()
    assert code == 0 and report["ok"], report
    states = {phase["name"]: phase["state"] for phase in report["phases"]}
    assert set(states.values()) == {"ok"}, states
    assert {"login", "spawn", "cell", "compute", "dashboard"} <= set(states)
    status = platform.status()
    assert status["servers"] == [] and status["clusters"] == []


def test_check_as_a_chosen_user_in_a_chosen_profile_in_words(platform: RealPlatform) -> None:
    done = platform.command("check", "--user", "bob", "--profile", "minimal")
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert lines[0] == f"Checking {platform.address}"
    assert lines[-1].startswith("All is well (") and lines[-1].endswith("as bob).")
    assert any("start a server" in line and line.endswith("minimal") for line in lines)
    for secret in platform.accounts.values():
        assert secret not in done.stdout + done.stderr


def test_check_says_what_was_wrong_with_the_wish(platform: RealPlatform) -> None:
    code, report = platform.check("--profile", "golden")
    assert code == 1
    failed = [phase for phase in report["phases"] if phase["state"] == "failed"]
    assert [phase["why"] for phase in failed] == [
        "the profile golden does not exist; possible: standard, minimal"
    ]


async def test_check_by_a_users_token_leaves_out_only_the_login(platform: RealPlatform) -> None:
    """How a site with a real identity provider is checked: no password is known there."""
    async with login(platform, "bob") as bob:
        answer = await bob.call("POST", "hub/api/users/bob/tokens", json={"note": "check", "expires_in": 900})
        token = str(answer.json()["token"])
    report = await check_path(replace(platform.target, accounts=(), token=token))
    assert report.ok, report.to_json()
    states = {phase.name: phase.state for phase in report.phases}
    assert states.pop("logout") == states.pop("spawn_page") == "skipped"
    assert set(states.values()) == {"ok"}
    assert report.user == "bob"
    assert token not in json.dumps(report.to_json())


async def test_check_disturbs_nobody(platform: RealPlatform) -> None:
    async with login(platform, "alice") as alice:
        await alice.start("minimal")
        before = (await alice.record())["servers"][""]["started"]
        code, report = platform.check("--user", "alice")
        assert code == 1
        assert "a server of alice is running" in report["phases"][1]["why"]
        assert (await alice.record())["servers"][""]["started"] == before


@pytest.mark.parametrize(
    ("name", "member"), [("alice", True), ("rita", False), ("nora", False), ("ada", True), ("olga", True)]
)
async def test_the_sites_rule_decides_and_says_why(platform: RealPlatform, name: str, member: bool) -> None:
    account = Account(name, platform.accounts[name])
    async with Browser(platform.address) as browser:
        if member:
            page = await sign_in(browser, account)
            assert page.status == 200
            return
        with pytest.raises(PhaseFailed) as refusal:
            await sign_in(browser, account)
    assert "403" in refusal.value.why
    assert f"signed in as {name}" in refusal.value.why
    assert "vo.tidehub.example" in refusal.value.why and "member" in refusal.value.why


async def test_a_wrong_password_is_refused(platform: RealPlatform) -> None:
    async with Browser(platform.address) as browser:
        with pytest.raises(PhaseFailed, match="refused the password of ada"):
            await sign_in(browser, Account("ada", "not-the-password"))


async def test_the_spawn_page_shows_profiles_sizes_and_default(platform: RealPlatform) -> None:
    # Somebody without a past: who chose a profile before finds that one preselected.
    async with login(platform, "ada") as ada:
        page = await ada.open("hub/spawn")
    [form] = [form for form in page.contents.forms if form.of_kind("radio")]
    radios = form.of_kind("radio")
    assert [(radio.value, radio.checked) for radio in radios] == [("standard", True), ("minimal", False)]
    for words in (
        "Standard",
        "Minimal",
        "JupyterLab with Dask, NumPy, pandas and xarray",
        "2 GiB",
        "512 MiB",
    ):
        assert words in page.html
    assert "Tidehub" in page.html


async def test_an_admin_is_one_and_a_member_is_not(platform: RealPlatform) -> None:
    async with login(platform, "ada") as ada, login(platform, "bob") as bob:
        assert (await ada.record())["admin"] is True
        assert (await bob.record())["admin"] is False
