"""A user whose files take more than notebooks.home.size: refused, told why on every page, and never locked out."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from real_platform import RealPlatform, running_platform
from real_user import User, eventually, login

from tidehub.capacity.disk import LARGEST_FILE
from tidehub.checks.browser import Page

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]
MIB = 2**20
FILL = "import os\nwith open('big', 'wb') as big:\n    for _ in range(120): big.write(os.urandom(2**20))\n"
WATCHED = 150.0
"""Seconds: longer than it takes until what running servers write is measured."""


@pytest.fixture(scope="module")
def platform() -> Iterator[RealPlatform]:
    with running_platform("home", "--set", "notebooks.home.size=100 MiB") as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bob(platform: RealPlatform) -> AsyncIterator[User]:
    async with login(platform, "bob") as user:
        yield user


def text_of(page: Page) -> str:
    return " ".join(page.contents.alerts)


def taken(platform: RealPlatform) -> dict[str, Any]:
    files = platform.status()["users_files"]
    assert files["limit"] == 100 * MIB
    return {row["user"]: row for row in files["users"]}


async def stopped_and_measured(bob: User, *, over: bool) -> None:
    await bob.stop()

    async def measured() -> bool:
        row = taken(bob.platform).get("bob")
        return row is not None and row["over"] == over

    await eventually(measured, within=WATCHED, saying=f"bob is measured as over: {over}")


async def test_the_one_who_writes_too_much_is_found_while_it_runs_and_gets_no_cluster(bob: User) -> None:
    await bob.start("minimal")
    output = await bob.run(FILL)
    assert not output.error, output.error

    async def over() -> bool:
        return bool(taken(bob.platform).get("bob", {}).get("over"))

    await eventually(over, within=WATCHED, saying="bob is above the limit")
    assert "bob: 12" in bob.platform.command("status").stdout
    refused = await bob.run("from dask_gateway import GatewayCluster; GatewayCluster()")
    assert "Your files take 12" in refused.error and "100 MiB" in refused.error, refused
    # What runs goes on.
    assert (await bob.run("print(6 * 7)")).stdout == "42\n"


async def test_no_usual_server_is_started_and_every_page_says_why(bob: User) -> None:
    await stopped_and_measured(bob, over=True)
    page = await bob.open("hub/spawn")
    assert "Your files take 12" in text_of(page), page.contents
    assert "server for freeing space" in text_of(page)
    assert "Your files take 12" in text_of(await bob.open("hub/home"))
    refused = await bob.call("POST", f"hub/api/users/{bob.name}/server", json={"profile": "minimal"})
    assert refused.status_code == 507, refused.text
    assert "Your files take 12" in refused.json()["message"]
    refused = await bob.call("POST", f"hub/api/users/{bob.name}/server", json={"free_space": "yes"})
    assert refused.status_code == 400
    async with login(bob.platform, "olga") as somebody:
        await somebody.start("minimal")


async def test_a_server_for_freeing_space_deletes_and_writes_nothing_large(bob: User) -> None:
    await bob.start("minimal")
    assert await bob.largest_file() == LARGEST_FILE
    output = await bob.run("open('more', 'wb').write(bytes(17 * 2**20))")
    assert "File too large" in output.error, output
    output = await bob.run(
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)"
    )
    assert output.error, "the user took the limit off"
    output = await bob.run("import os; os.remove('big'); os.remove('more'); open('small', 'w').write('kept')")
    assert not output.error, output.error


async def test_after_that_a_usual_server_starts_at_once(bob: User) -> None:
    await bob.stop()
    began = time.monotonic()
    await bob.start("minimal")
    assert await bob.largest_file() == -1
    print(f"started {time.monotonic() - began:.1f} s after the stop")
    output = await bob.run("open('more', 'wb').write(bytes(17 * 2**20)); print(open('small').read())")
    assert output.stdout == "kept\n", output
    await stopped_and_measured(bob, over=False)


async def test_near_the_limit_there_is_a_warning_and_nothing_else(bob: User) -> None:
    await bob.start("minimal")
    output = await bob.run("import os; open('more', 'wb').write(os.urandom(93 * 2**20))")
    assert not output.error, output.error
    await bob.stop()

    async def warned() -> bool:
        return "Your files take 9" in text_of(await bob.open("hub/home"))

    await eventually(warned, within=WATCHED, saying="bob is warned")
    await bob.start("minimal")
    assert await bob.largest_file() == -1


async def test_what_tmp_holds_counts_too(bob: User) -> None:
    before = taken(bob.platform)["bob"]["bytes"]
    output = await bob.run("import os; open('/tmp/t', 'wb').write(os.urandom(20 * 2**20))")
    assert not output.error, output.error

    async def counted() -> bool:
        return bool(taken(bob.platform)["bob"]["bytes"] >= before + 20 * MIB)

    await eventually(counted, within=WATCHED, saying="/tmp is counted")
