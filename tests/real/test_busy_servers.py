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
        await begin(alice, "import time; time.sleep(600)")
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
        began = time.monotonic()
        await begin(bob, "import time; time.sleep(4)")
        await eventually(lambda: ended(bob), within=AGE - 15, every=1, saying="the idle server is stopped")
        assert time.monotonic() - began >= IDLE
        bob.journey.server_started = False
