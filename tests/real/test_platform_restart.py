"""`down` and `up`: files, accounts and the hub's database stay; nothing else does."""

from __future__ import annotations

import pytest
from real_platform import RealPlatform
from real_user import login

pytestmark = pytest.mark.real


async def test_files_accounts_and_database_outlive_down_and_up(platform: RealPlatform) -> None:
    accounts = platform.accounts
    async with login(platform, "bob") as bob:
        await bob.start("minimal")
        await bob.run("import pathlib; pathlib.Path.home().joinpath('thesis.txt').write_text('chapter one')")
        created = (await bob.record())["created"]
        kernel = await bob.kernel()
        started = "import json; from dask_gateway import GatewayCluster; c = GatewayCluster(); print(json.dumps({}))"
        await kernel.result(started)
        assert len(platform.status()["servers"]) == 1

        done = platform.down()
        assert done.returncode == 0, done.stdout + done.stderr
        assert str(platform.places.homes) in done.stdout
        bob.journey.server_started = False

    assert platform.command("status").returncode == 1
    assert platform.status()["state"] == "stopped"
    assert platform.down().returncode == 0, "down of what does not run is no fault"
    platform.up()

    assert platform.accounts == accounts
    status = platform.status()
    assert status["servers"] == [] and status["clusters"] == []
    async with login(platform, "bob") as bob:
        assert (await bob.record())["created"] == created
        await bob.start("minimal")
        read = await bob.run("import pathlib; print(pathlib.Path.home().joinpath('thesis.txt').read_text())")
        assert read.stdout == "chapter one\n"


async def test_a_second_up_on_the_same_state_finds_nothing_to_change(platform: RealPlatform) -> None:
    pid = platform.status()["pid"]
    again = platform.command("up", *platform.arguments, "--detach")
    assert again.returncode == 0, again.stderr
    assert str(pid) in again.stdout and "Nothing has changed" in again.stdout
    status = platform.status()
    assert status["healthy"] and status["pid"] == pid, "the running one is not disturbed"


async def test_stop_and_start_of_a_server_keeps_files(platform: RealPlatform) -> None:
    async with login(platform, "olga") as olga:
        await olga.start("minimal")
        await olga.run("open('data.csv', 'w').write('1,2')")
        await olga.stop()
        await olga.start("standard")
        assert (await olga.run("print(open('data.csv').read())")).stdout == "1,2\n"
