"""The login, as it travels to Kubernetes, against a provider that nobody here wrote: the whole flow."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from bare_hub import BareHub
from identity_process import free_port
from independent_provider import CLIENT, MEMBER, SECRET, IndependentProvider, sign_in, user
from real_user import eventually

from tidehub.checks.browser import Browser
from tidehub.checks.login import who

pytestmark = pytest.mark.real
GROUP = MEMBER.partition("#")[0]


@pytest.fixture(scope="module", params=["entitlements", "eduperson_entitlement"])
def scope(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def provider(scope: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[IndependentProvider]:
    hub = f"http://127.0.0.1:{(port := free_port())}/x/hub"
    started = IndependentProvider(
        tmp_path_factory.mktemp("provider"),
        redirect_uris=[f"{hub}/oauth_callback"],
        signed_out_uris=[f"{hub}/login"],
        access_token_seconds=2,
    )
    started.hub_port = port  # type: ignore[attr-defined]
    started.start()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def hub(
    scope: str, provider: IndependentProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BareHub]:
    login = {
        "allow": {"groups": [GROUP]},
        "scopes": ["openid", "profile", "email", scope],
        "refresh": 3.0,
    }
    running = BareHub(
        tmp_path_factory.mktemp("hub"),
        provider.issuer,
        (CLIENT, SECRET),
        login,
        base="/x/",
        port=provider.hub_port,  # type: ignore[attr-defined]
    )
    running.start()
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def users(provider: IndependentProvider) -> None:
    provider.accounts = {
        "1": user("alice", MEMBER),
        "2": user("nora", "urn:mace:egi.eu:group:other.vo:role=member#aai.egi.eu"),
        "3": user("rita", MEMBER.replace("role=member", "role=vm_operator")),
        "4": user("zoe"),
    }
    provider.tell()


def no_secrets(hub: BareHub) -> None:
    """No code, token or secret in the hub's log, which runs at level DEBUG."""
    for word in ("eyJ", "code=", "access_token=", "id_token_hint=ey", SECRET):
        for line in hub.log.splitlines():
            assert word not in line or "[hidden]" in line or "[secret]" in line, line


async def test_a_member_enters_and_the_others_read_why(hub: BareHub) -> None:
    async with Browser(hub.url) as browser:
        page = await sign_in(browser, "1")
        assert page.status == 200 and page.path.startswith("/x/hub/"), page.words
        record = await who(browser)
        assert record["name"] == "alice" and record["groups"] == [GROUP]
    for sub, name in (("2", "nora"), ("3", "rita"), ("4", "zoe")):
        async with Browser(hub.url) as browser:
            page = await sign_in(browser, sub)
            assert page.status == 403
            assert f"signed in as {name}" in page.words and "vo.pangeo.eu" in page.words
        assert f"refused {name} ({sub}): " in hub.log
    assert hub.names() == {"alice"}
    no_secrets(hub)


async def test_tokens_are_refreshed_by_two_requests_at_once(hub: BareHub) -> None:
    import asyncio

    async with Browser(hub.url) as browser:
        await sign_in(browser, "1")
        for _ in range(3):
            await asyncio.sleep(3.5)  # past the access token's two seconds and the hub's three
            answers = await asyncio.gather(*(browser.call("GET", "hub/api/user") for _ in range(6)))
            assert [answer.status_code for answer in answers] == [200] * 6
    assert "Refreshing oauth access token for alice" in hub.log


async def test_who_lost_the_membership_loses_everything_without_clicking(
    hub: BareHub, provider: IndependentProvider
) -> None:
    async with Browser(hub.url) as browser:
        await sign_in(browser, "1")
        answer = await browser.call("POST", "hub/api/users/alice/tokens", json={"note": "a script's"})
        token = answer.json()["token"]
        assert hub.api("GET", "user", token).status_code == 200
        assert (await browser.call("POST", "hub/api/users/alice/server")).status_code in (201, 202)
        provider.accounts["1"] = user("alice", MEMBER.replace("member", "ex-member"))
        provider.tell()

        async def gone() -> bool:
            record = hub.api("GET", "users/alice").json()
            tokens = hub.api("GET", "users/alice/tokens").json()
            return not record["servers"] and not any(tokens.values())

        seconds = await eventually(gone, within=20, saying="server and tokens end")
        assert seconds < 10, seconds
        assert hub.api("GET", "user", token).status_code == 403
        assert (await browser.call("GET", "hub/api/user")).status_code == 403
        page = await sign_in(browser, "1", start="hub/oauth_login")
        assert page.status == 403 and "role ex-member" in page.words
    assert "ended everything of alice, because the membership is lost" in hub.log


async def test_a_removed_account_loses_everything_too(hub: BareHub, provider: IndependentProvider) -> None:
    provider.accounts["5"] = user("dora", MEMBER)
    provider.tell()
    async with Browser(hub.url) as browser:
        await sign_in(browser, "5")
        await browser.call("POST", "hub/api/users/dora/server")
        del provider.accounts["5"]
        provider.tell()

        async def gone() -> bool:
            return not hub.api("GET", "users/dora").json()["servers"]

        await eventually(gone, within=20, saying="the server ends")
    assert "ended everything of dora" in hub.log


async def test_signing_out_ends_the_providers_session_and_comes_back(hub: BareHub) -> None:
    async with Browser(hub.url) as browser:
        await sign_in(browser, "1")
        page = await browser.open("hub/logout")
        form = page.contents.forms[0]
        assert "/session/end/confirm" in form.action
        page = await browser.submit(page, form, {"logout": "yes"})
        assert page.path == "/x/hub/login" and page.status == 200
        page = await browser.open("hub/oauth_login")
        assert any(form.of_kind("password") for form in page.contents.forms), page.words
    no_secrets(hub)


async def test_who_is_renamed_keeps_the_name_and_a_second_alice_is_refused(
    hub: BareHub, provider: IndependentProvider
) -> None:
    async with Browser(hub.url) as browser:
        await sign_in(browser, "1")
    provider.accounts["1"] = user("alicia", MEMBER)
    provider.accounts["6"] = user("alice", MEMBER)
    provider.tell()
    async with Browser(hub.url) as browser:
        await sign_in(browser, "1")
        assert (await who(browser))["name"] == "alice"
    async with Browser(hub.url) as browser:
        page = await sign_in(browser, "6")
        assert page.status == 403 and "belongs to another account" in page.words
    assert "login.names: {6: NAME}" in hub.log and "alicia" not in hub.names()


async def test_a_new_signing_key_is_believed_without_a_restart(
    hub: BareHub, provider: IndependentProvider
) -> None:
    async with Browser(hub.url) as browser:
        assert (await sign_in(browser, "1")).status == 200
    provider.rotate()

    async def enters() -> bool:
        async with Browser(hub.url) as browser:
            return (await sign_in(browser, "1")).status == 200

    # Keys are fetched at most every ten seconds.
    await eventually(enters, within=15, saying="the login with the new key")


def test_the_text_carries_all_of_it(hub: BareHub) -> None:
    python = hub.python
    missing = subprocess.run(
        [python, "-I", "-c", "import tidehub"], capture_output=True, text=True, check=False
    )
    assert "No module named 'tidehub'" in missing.stderr
    assert Path(hub.directory / "login.py").read_text().count("_module(") > 5
