"""Limits that users can trust, and the words with which they are told."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from real_platform import RealPlatform
from real_user import User, login

from tidehub.checks.report import PhaseFailed

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bob(platform: RealPlatform) -> AsyncIterator[User]:
    async with login(platform, "bob") as user:
        await user.start("minimal")
        yield user


async def test_one_cluster_too_many_is_refused_with_the_limit(bob: User) -> None:
    kernel = await bob.kernel()
    try:
        await kernel.result(
            "import json; from dask_gateway import GatewayCluster; "
            "first, second = GatewayCluster(), GatewayCluster(); print(json.dumps({}))"
        )
        third = await kernel.run("GatewayCluster()")
        assert "this site allows 2 for each user" in third.error, third.error
        assert "You have 2 clusters" in third.error
        await kernel.result("first.shutdown(); print(json.dumps({}))")
        again = await kernel.run("third = GatewayCluster(); third.shutdown()")
        assert not again.error, again.error
    finally:
        await kernel.run("for each in (first, second): each.shutdown()")
        await kernel.stop()


@pytest.mark.parametrize(
    ("option", "words"),
    [("worker_cores=3", ("cores", "3", "2")), ("worker_memory=64", ("memory", "64", "2"))],
)
async def test_a_worker_beyond_the_choice_is_refused(bob: User, option: str, words: tuple[str, ...]) -> None:
    output = await bob.run(f"from dask_gateway import GatewayCluster; GatewayCluster({option})")
    assert output.error
    for word in words:
        assert word in output.error, output.error


async def test_the_options_show_the_sites_choices(bob: User) -> None:
    output = await bob.run(
        "from dask_gateway import Gateway; options = Gateway().cluster_options(); print(dict(options.items()), options)"
    )
    assert not output.error, output.error
    assert "worker_cores" in output.stdout and "worker_memory" in output.stdout and "profile" in output.stdout


async def test_more_workers_than_allowed_are_cut_with_a_word(bob: User) -> None:
    output = await bob.run(
        "from dask_gateway import GatewayCluster\ncluster = GatewayCluster()\ncluster.scale(10)\ncluster.shutdown()"
    )
    assert not output.error, output.error
    assert "4" in output.stderr and "workers" in output.stderr, output.stderr


async def test_a_memory_kill_is_told_in_the_cells_output(bob: User) -> None:
    if bob.platform.status()["isolation"] != "root":
        pytest.skip("memory is limited as root only")
    kernel = await bob.kernel()
    try:
        with pytest.raises(PhaseFailed) as death:
            await kernel.run("block = bytearray(b'x') * (3 * 2**30)\nprint('survived')")
        assert "memory limit of 1 GiB" in death.value.why, (death.value.why, death.value.evidence)
        assert "files are kept" in death.value.why
    finally:
        await kernel.stop()
    assert (await bob.run("print(6 * 7)")).stdout == "42\n", "the server itself goes on"


async def test_a_server_sees_its_own_limits(bob: User) -> None:
    output = await bob.run("import os; print(os.environ['MEM_LIMIT'], os.environ['CPU_LIMIT'])")
    assert output.stdout.split() == [str(2**30), "1.0"]
