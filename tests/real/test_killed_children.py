"""A process that a kernel started is killed for memory: the user is told in the cell, once, and the kernel goes on."""

from __future__ import annotations

import asyncio

import pytest
from real_platform import RealPlatform
from real_user import login

from tidehub.checks.report import PhaseFailed

pytestmark = pytest.mark.real
HOG = "import subprocess, sys\nhog = [sys.executable, '-c', 'x = []\\nwhile True: x.append(bytearray(2**24))']\n"
FAILS = f"{HOG}print(subprocess.run(hog).returncode)"
WAITS = f"{HOG}import time\nsubprocess.run(hog)\nprint('waits', flush=True)\ntime.sleep(8)"
TOLD = "A process was killed because this server used more than its memory limit of 1 GiB"


def story(platform: RealPlatform) -> None:
    async def tell() -> None:
        async with login(platform, "bob") as bob:
            if any("Memory limits hold for each process" in line for line in platform.status()["gaps"]):
                pytest.skip("no memory control group holds a server here")
            await bob.start("minimal")
            kernel, other = await bob.kernel(), await bob.kernel()
            await kernel.run("kept = 42")
            failed = await kernel.run(FAILS)
            assert failed.stdout == "-9\n", failed
            assert failed.stderr.count(TOLD) == 1, failed
            # Once, and to nobody else; the next cell is free of it.
            quiet = await kernel.run("print(kept)")
            assert (quiet.stdout, quiet.stderr) == ("42\n", ""), quiet
            assert TOLD not in (await other.run("print(1)")).stderr
            waited = await kernel.run(WAITS)
            assert waited.stderr.count(TOLD) == 1, waited
            # A kernel that is killed itself is told of as before, and nothing is said of a process.
            with pytest.raises(PhaseFailed) as died:
                await kernel.run("x = []\nwhile True: x.append(bytearray(2**24))")
            told = " ".join([died.value.why, *died.value.evidence])
            assert "The kernel was stopped" in told and TOLD not in told
            assert TOLD not in (await other.run("print(1)")).stderr
            await other.stop()

    asyncio.run(tell())


def test_as_root(platform: RealPlatform) -> None:
    story(platform)


def test_in_sandboxes(sandboxed_platform: RealPlatform) -> None:
    story(sandboxed_platform)
