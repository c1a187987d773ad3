"""Two platforms on one host in one browser, and the platform under another name of the machine."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from real_platform import RealPlatform, running_platform
from real_user import User, login

from tidehub.checks.browser import Browser
from tidehub.checks.login import sign_in
from tidehub.checks.target import Account

pytestmark = pytest.mark.real
SESSION = "jupyterhub-hub-login"


@pytest.fixture(scope="module")
def neighbour() -> Iterator[RealPlatform]:
    """Another platform on the same host: only its port differs."""
    with running_platform("next") as started:
        yield started


async def saves(user: User, name: str) -> int:
    """The status of what JupyterLab does when a file is saved: with the token that scripts read in the cookie."""
    path = f"{user.base}api/contents/{name}"
    answer = await user.call("PUT", path, json={"type": "file", "format": "text", "content": "kept"})
    return answer.status_code


async def test_two_platforms_on_one_host_do_not_sign_each_other_out(
    platform: RealPlatform, neighbour: RealPlatform
) -> None:
    assert urlsplit(platform.address).hostname == urlsplit(neighbour.address).hostname
    async with (
        login(platform, "alice") as here,
        login(neighbour, "alice", jar=here.browser.http.cookies.jar) as there,
    ):
        for user in (here, there):
            assert (await user.record())["name"] == "alice"
            await user.start()
        assert any(cookie.name.startswith(f"{SESSION}.th-") for cookie in here.browser.http.cookies.jar)
        # Both pages are open, and neither is loaded anew.
        for number in range(2):
            for user in (here, there):
                assert await saves(user, f"{number}.txt") in (200, 201)
        # Their own terms, too: a kernel, its websocket, the hub's pages.
        for user in (here, there):
            assert (await user.run("print(6 * 7)")).stdout == "42\n"
            assert (await user.open("hub/home")).status == 200
        # Signed out of one, the other goes on.
        await there.stop()
        there.journey.server_started = False
        assert (await there.open("hub/logout")).status == 200
        answer = await there.call("GET", "hub/api/user")
        assert answer.status_code == 403
        assert (await here.record())["name"] == "alice" and await saves(here, "after.txt") in (200, 201)


async def test_a_login_that_begins_under_another_name_of_the_machine_ends_well(
    platform: RealPlatform,
) -> None:
    async with Browser(platform.address.replace("127.0.0.1", "localhost", 1)) as browser:
        await sign_in(browser, Account("bob", platform.accounts["bob"]))
        page = await browser.open(f"{platform.address}hub/home")
        assert page.status == 200 and page.path.endswith("/hub/home")


async def test_a_spawn_page_that_is_too_old_is_shown_anew(platform: RealPlatform) -> None:
    async with login(platform, "bob") as bob:
        browser = bob.browser
        old = await bob.open("hub/spawn")
        form = next(
            form for form in old.contents.forms if any(field.name == "profile" for field in form.fields)
        )
        # Signed out and in again in another tab.
        await bob.open("hub/logout")
        await sign_in(browser, Account("bob", platform.accounts["bob"]))
        page = await browser.submit(old, form, {"profile": "minimal"})
        assert (page.status, page.path) == (200, "/hub/spawn"), page.words
        assert any(field.name == "profile" for again in page.contents.forms for field in again.fields)
        assert not (await bob.record())["servers"]
        # A script's request is told, not sent elsewhere.
        answer = await browser.http.post(
            browser.url("hub/spawn"), headers={"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"}
        )
        assert answer.status_code == 403
        # An entry that is gone: the choices that there are, and what happened.
        fresh = next(
            form for form in page.contents.forms if any(field.name == "profile" for field in form.fields)
        )
        gone = await browser.submit(page, fresh, {"profile": "gone-meanwhile"})
        assert "gone-meanwhile" in gone.html and any(
            field.value == "minimal" for again in gone.contents.forms for field in again.fields
        )
        # Started from elsewhere meanwhile.
        await bob.start("minimal")
        page = await browser.submit(page, fresh, {"profile": "minimal"})
        assert page.status == 200 and page.path.startswith("/user/bob/"), page.words
        # Signed out for good: the way in.
        await bob.stop()
        bob.journey.server_started = False
        page = await bob.open("hub/spawn")
        form = next(
            form for form in page.contents.forms if any(field.name == "profile" for field in form.fields)
        )
        browser.http.cookies.clear()
        page = await browser.submit(page, form, {"profile": "minimal"})
        assert page.status == 200 and "login" in page.path, page.words
