"""A server whose kernel computes while nobody looks goes on, until its age ends it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator

import pytest
from real_platform import RealPlatform, running_platform
from real_user import User, eventually, login

from tidehub.checks.report import PhaseFailed

pytestmark = pytest.mark.real
IDLE = 8
AGE = 60

_FORGE = """
import datetime, json, os, time, urllib.error, urllib.request
user, token = os.environ["JUPYTERHUB_USER"], os.environ["JUPYTERHUB_API_TOKEN"]
url = os.environ["JUPYTERHUB_API_URL"] + "/users/" + user + "/activity"
def forge(minutes):
    then = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=minutes)
    body = {"last_activity": then.isoformat(), "servers": {"": {"last_activity": then.isoformat()}}}
    asked = urllib.request.Request(url, json.dumps(body).encode(), {"Authorization": "token " + token})
    try:
        return urllib.request.urlopen(asked).status
    except urllib.error.HTTPError as error:
        return error.code
"""
"""What a user's own program tells of its activity, with the server's token: JupyterHub believes an hour ahead."""


@pytest.fixture(scope="module")
def hasty() -> Iterator[RealPlatform]:
    """A platform where servers are idle after seconds and old after a minute."""
    settings = ("--set", f"notebooks.idle_timeout={IDLE} s", "--set", f"notebooks.max_age={AGE} s")
    with running_platform("busy", *settings) as started:
        yield started


async def begin(user: User, code: str) -> None:
    """Runs a cell and closes the page while it runs."""
    kernel = await user.kernel()
    with contextlib.suppress(TimeoutError, PhaseFailed):
        async with asyncio.timeout(2):
            await kernel.run(code)
    kernel.disconnect()


async def ended(user: User) -> bool:
    return not (await user.record())["servers"]


async def test_a_silent_computation_goes_on_until_the_servers_age_ends_it(hasty: RealPlatform) -> None:
    async with login(hasty, "alice") as alice:
        await alice.start()
        began = time.monotonic()
        await begin(alice, f"{_FORGE}\nwhile True:\n    forge(50)\n    time.sleep(1)")
        until = began + 4 * IDLE
        while time.monotonic() < until:
            # Of the hub alone: what goes to the server would count as activity.
            assert not await ended(alice), f"stopped after {time.monotonic() - began:.0f} s"
            await asyncio.sleep(1)
        await eventually(lambda: ended(alice), within=AGE, every=1, saying="the server is too old")
        assert time.monotonic() - began >= AGE - 10
        alice.journey.server_started = False


async def test_when_the_computation_is_over_the_server_is_idle(hasty: RealPlatform) -> None:
    async with login(hasty, "bob") as bob:
        await bob.start()
        forged = await bob.run(f"{_FORGE}\nprint(forge(50), forge(24 * 60))")
        assert forged.stdout == "200 400\n", forged
        began = time.monotonic()
        await begin(bob, "import time; time.sleep(4)")
        await eventually(lambda: ended(bob), within=AGE - 15, every=1, saying="the idle server is stopped")
        assert time.monotonic() - began >= IDLE
        bob.journey.server_started = False
