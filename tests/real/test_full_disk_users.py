"""A whole platform whose disk a user fills: what everybody is told, who still gets in, and that nothing is lost."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_platform import RealPlatform, free_port
from real_user import User, eventually, login

from tidehub.capacity.disk import LARGEST_FILE
from tidehub.checks.browser import Browser, Page
from tidehub.checks.login import sign_in
from tidehub.checks.report import PhaseFailed
from tidehub.checks.target import Account

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system"),
]
MIB = 2**20
LEAVE = 40 * MIB
"""Less than what must be free for something new on a disk of this size, and more than the platform needs to write."""
FILL = f"""
import os
with open('big', 'wb', buffering=0) as big:
    while (free := (found := os.statvfs('.')).f_bavail * found.f_frsize) > {LEAVE}:
        os.posix_fallocate(big.fileno(), big.seek(0, 2), min(free - {LEAVE}, 2**24) + 4096)
        big.seek(0, 2)
"""
FILL_ALL = """
with open('rest', 'ab', buffering=0) as rest:
    for piece in (2**20, 4096, 1):
        try:
            while True:
                rest.write(b'x' * piece)
        except OSError as error:
            print(error.errno)
"""


@pytest.fixture(scope="module")
def platform() -> Iterator[RealPlatform]:
    root = Path(tempfile.mkdtemp(prefix="th-full-", dir="/tmp"))
    root = root.rename(root.with_name(root.name.lower()))
    image = root.with_name(f"{root.name}.image")
    with image.open("wb") as file:
        file.truncate(600 * MIB)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
    if subprocess.run(["mount", "-o", "loop", str(image), str(root)], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    root.chmod(0o755)
    started = RealPlatform(root / "s", arguments=["--port", str(free_port()), "--demo-login"])
    try:
        started.up()
        yield started
    finally:
        stopped = started.down()
        subprocess.run(["umount", "--lazy", str(root)], check=True)
        shutil.rmtree(root)
        image.unlink()
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr


def alerts(page: Page) -> str:
    return " ".join(page.contents.alerts)


async def freed(bob: User, *names: str) -> None:
    output = await bob.run("import os\n" + "".join(f"os.remove({name!r})\n" for name in names))
    assert not output.error, output.error


def test_below_the_minimum_nothing_new_is_started_but_who_filled_it_gets_in_to_delete(
    platform: RealPlatform,
) -> None:
    async def story() -> None:
        async with login(platform, "bob") as bob, login(platform, "olga") as olga:
            await bob.start("minimal")
            output = await bob.run(FILL)
            assert not output.error, output.error
            output = await bob.run("from dask_gateway import GatewayCluster; GatewayCluster()")
            assert f"({platform.state} on /dev/" in output.error and "is full" in output.error, output
            await bob.stop()
            told = alerts(await olga.open("hub/spawn"))
            assert f"({platform.state} on /dev/" in told and "are free" in told, told
            refused = await olga.call("POST", "hub/api/users/olga/server", json={"profile": "minimal"})
            assert refused.status_code == 507 and str(platform.state) in refused.json()["message"]
            status = platform.command("status").stdout
            assert f"warning: the disk of this platform ({platform.state} on /dev/" in status, status
            logs = platform.command("logs").stdout
            assert "the disk of this platform" in logs, logs[-2000:]
            await bob.start("minimal")
            assert await bob.largest_file() == LARGEST_FILE
            await freed(bob, "big")
            await bob.stop()
            await olga.start("minimal")
            assert await olga.largest_file() == -1

    asyncio.run(story())


def test_on_a_full_disk_the_login_page_says_so_and_nobody_sees_a_fault_of_the_hub(
    platform: RealPlatform,
) -> None:
    async def story() -> None:
        async with login(platform, "bob") as bob:
            await bob.start("minimal")
            kernel = await bob.kernel()

            async def full() -> bool:
                # The reserve is given back, and taken by the user too.
                await kernel.run(FILL_ALL)
                found = os.statvfs(platform.state)
                return found.f_bavail * found.f_frsize < MIB and not platform.places.reserve.exists()

            await eventually(full, within=60, saying="the disk is full")
            async with Browser(platform.address) as browser:
                page = await browser.open("hub/login")
                assert "The disk of this hub is full" in alerts(page), page.contents
                assert "Your files are safe" in alerts(page)
                words = ""
                try:
                    await sign_in(browser, Account("olga", platform.accounts["olga"]))
                except PhaseFailed as failed:
                    words = f"{failed.why} {failed.evidence}"
                print("signing in on a full disk:", words or "works")
                assert not words or "disk" in words, words
                assert "500" not in words and "Traceback" not in words, words
            assert "The disk of this hub is full" in alerts(await bob.open("hub/home"))
            # What the hub itself must write.
            refused = await bob.call("POST", "hub/api/users/bob/tokens", json={})
            print("a token on a full disk:", refused.status_code, refused.text)
            assert refused.status_code == 507, refused.text
            assert "disk of this hub is full" in refused.json()["message"]
            # Neither a change nor another program is begun that could not be taken back.
            before = {str(part["name"]): part["pid"] for part in platform.status()["parts"]}
            for change in (["--set", "notebooks.idle_timeout=2h"], ["--port", str(free_port())]):
                done = await asyncio.to_thread(platform.command, "up", *change)
                assert done.returncode == 1 and "is full" in done.stderr, done.stdout + done.stderr
            assert platform.status()["healthy"]
            assert {str(part["name"]): part["pid"] for part in platform.status()["parts"]} == before
            status = platform.command("status")
            assert "disk" in status.stdout and "is full" in status.stdout, status.stdout
            assert "ledger" not in status.stdout.replace("ledger.sqlite", "")
            await kernel.result("import os, json; os.remove('rest'); print(json.dumps({}))")
            await kernel.stop()

    asyncio.run(story())

    async def afterwards() -> None:
        async with login(platform, "olga") as olga:
            assert (await olga.record())["name"] == "olga"

    asyncio.run(afterwards())
