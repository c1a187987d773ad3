"""What users send to the hub is checked before it is stored: nothing of it keeps the hub from starting again."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from urllib.parse import urlsplit

import httpx
import pytest
import pytest_asyncio
from hostile_input import bodies_instead_of_an_object, options_that_are_not_ours, with_fields
from real_platform import RealPlatform
from real_user import User, eventually, login

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bob(platform: RealPlatform) -> AsyncIterator[User]:
    async with login(platform, "bob") as user:
        yield user


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(platform: RealPlatform, bob: User) -> AsyncIterator[httpx.AsyncClient]:
    """The hub's API with a token that bob made for himself."""
    made = await bob.call("POST", "hub/api/users/bob/tokens", json={"note": "fuzz"})
    assert made.status_code == 201, made.text
    headers = {"Authorization": f"token {made.json()['token']}"}
    async with httpx.AsyncClient(
        base_url=f"{platform.address}hub/api/", headers=headers, timeout=30, trust_env=False
    ) as client:
        yield client


async def hub_starts_again(platform: RealPlatform, api: httpx.AsyncClient) -> None:
    before = platform.kill("hub")

    async def back() -> bool:
        part = platform.part("hub")
        if part["state"] == "failed" or part["pid"] in (None, before):
            return False
        return (await api.get("user")).status_code == 200

    await eventually(back, within=90, saying="the hub starts again after hostile input")


def stored(platform: RealPlatform, column: str, table: str = "spawners") -> set[object]:
    with closing(sqlite3.connect(f"file:{platform.places.hub_database}?mode=ro", uri=True)) as database:
        return {row[0] for row in database.execute(f"SELECT {column} FROM {table}")}


async def test_options_of_a_server_are_refused_before_anything_is_stored(
    platform: RealPlatform, api: httpx.AsyncClient
) -> None:
    known = stored(platform, "user_options"), stored(platform, "count(*)", "servers")
    tokens = stored(platform, "count(*)", "api_tokens")
    for body in options_that_are_not_ours():
        answer = await api.post("users/bob/server", content=body)
        shown = f"{body[:60]!r}: {answer.status_code} {answer.text[:200]}"
        # 403 is for a profile: which ones there are is nobody's business.
        assert answer.status_code in (400, 403, 413), shown
        assert len(answer.json()["message"]) > 10, shown
    assert (stored(platform, "user_options"), stored(platform, "count(*)", "servers")) == known
    assert stored(platform, "count(*)", "api_tokens") == tokens
    assert (await api.get("users/bob")).json()["servers"] == {}, "no phantom server"
    await hub_starts_again(platform, api)
    assert (await api.get("users/bob")).json()["servers"] == {}


@pytest.mark.parametrize(
    ("method", "path", "fields"),
    [
        ("POST", "users/bob/tokens", ["note", "expires_in", "roles", "scopes", "auth"]),
        ("POST", "users/bob/activity", ["last_activity", "servers"]),
        ("POST", "shares/bob/", ["scopes", "user", "group"]),
        ("PATCH", "shares/bob/", ["scopes", "user", "group"]),
        ("POST", "share-codes/bob/", ["scopes", "expires_in"]),
        ("DELETE", "users/bob/server", ["remove"]),
        ("POST", "users/bob/servers/%00", ["profile"]),
        ("POST", "users/bob/servers/other", ["profile"]),
        ("PATCH", "users/bob", ["name", "admin"]),
        ("POST", "users", ["usernames", "admin"]),
        ("POST", "groups", ["groups"]),
        ("PUT", "groups/g/properties", ["a"]),
        ("POST", "services/mine", ["info", "oauth_roles"]),
        ("POST", "proxy", ["ip", "port"]),
        ("POST", "shutdown", ["proxy", "servers"]),
    ],
)
async def test_no_body_to_any_route_is_a_fault_of_the_hub(
    platform: RealPlatform, api: httpx.AsyncClient, method: str, path: str, fields: list[str]
) -> None:
    faults = []
    for body in [*bodies_instead_of_an_object(), *with_fields(*fields)]:
        answer = await api.request(method, path, content=body)
        if answer.status_code >= 500:
            faults.append(f"{body[:70]!r}: {answer.status_code} {answer.text[:120]}")
    assert not faults, "\n".join(faults)


async def test_the_hub_starts_after_all_of_it(platform: RealPlatform, api: httpx.AsyncClient) -> None:
    await hub_starts_again(platform, api)


@pytest.mark.parametrize(
    "query",
    [
        "profile=%ff",
        "profile=%00",
        "profile=" + "x" * 6000,
        "profile=a&profile=b",
        "%ff=1",
        "other=%ed%a0%80",
    ],
)
async def test_the_address_of_the_spawn_page_is_checked_too(
    platform: RealPlatform, bob: User, query: str
) -> None:
    before = stored(platform, "user_options"), stored(platform, "count(*)", "servers")
    host = urlsplit(platform.address)
    answer = await bob.call("GET", f"hub/spawn?{query}")
    assert 400 <= answer.status_code < 500 or answer.status_code == 302, (host, answer.status_code)
    assert answer.status_code != 302 or "spawn-pending" not in answer.headers.get("location", "")
    assert (stored(platform, "user_options"), stored(platform, "count(*)", "servers")) == before


async def test_an_address_to_go_to_that_is_not_valid_is_refused(platform: RealPlatform, bob: User) -> None:
    for path in ("hub/login?next=http://[", "hub/spawn?next=//[", "hub/home?next=http%3A%2F%2F%5B"):
        answer = await bob.call("GET", path)
        assert answer.status_code < 500, (path, answer.status_code)
    assert (await bob.call("GET", "hub/login?next=http://[")).status_code == 400


async def test_a_server_still_starts_by_api_and_form(bob: User) -> None:
    await bob.start("minimal")
    assert (await bob.run("print('here')")).stdout == "here\n"
    await bob.stop()


async def test_a_servers_token_ends_with_it_also_when_the_hub_was_restarted_since(
    platform: RealPlatform, bob: User, api: httpx.AsyncClient
) -> None:
    await bob.start("minimal")
    token = (await bob.run("import os; print(os.environ['JUPYTERHUB_API_TOKEN'])")).stdout.strip()
    as_server = {"Authorization": f"token {token}"}
    assert (await api.get("user", headers=as_server)).status_code == 200
    await hub_starts_again(platform, api)
    assert (await api.get("user", headers=as_server)).status_code == 200
    await bob.stop()
    assert (await api.get("user", headers=as_server)).status_code == 403
