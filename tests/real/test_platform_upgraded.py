"""Another tidehub, and another environment, under running servers: they go on from what they were started from."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from real_platform import REPOSITORY, RealPlatform, running_platform
from real_user import User, eventually, login

from tidehub.checks.kernel import Kernel
from tidehub.local.software import layout, software
from tidehub.release_sets import release

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

SITE = """
site: {name: Upgraded}
login: {provider: demo, allow: {everyone: true}}
notebooks:
  memory: {guarantee: 256 MiB, limit: 1 GiB}
  cpu: {guarantee: 0.1, limit: 1}
  profiles:
  - {name: Own, default: true, lock: own.txt}
dask:
  worker: {memory: {min: 256 MiB, max: 512 MiB, default: 256 MiB}}
  scheduler: {memory: 256 MiB}
  cluster: {max_workers: 2, max_cores: 3, max_memory: 2 GiB}
"""
STATE = """
import json, os, sys
kept = "still here"
print(json.dumps({"pid": os.getpid(), "python": sys.executable}))
"""
SEEN = "import json, os; print(json.dumps({'pid': os.getpid(), 'kept': kept}))"


@dataclass(frozen=True)
class Own:
    """The profile of the site, for the name of its environment."""

    lock: Path
    slug: str = "own"
    packages: tuple[str, ...] = ()


class Environments:
    """Environments of the profile's lock file, made as links to the default one: a comment in the lock is another."""

    def __init__(self, lock: Path) -> None:
        self.lock = lock
        self.made: list[Path] = []

    def choose(self, name: str) -> Path:
        self.lock.write_text(f"{release().notebook.read_text()}# {name} of {self.lock.parent.name}\n")
        folder = layout.default_root() / "environments"
        default = layout.existing_python(folder, software.profile_spec(None, release()).key)
        assert default is not None, "a platform has run on this machine before"
        source = default.parent.parent
        key = software.profile_spec(Own(self.lock), release()).key
        place = folder / f"{key}-{source.name.rpartition('-')[2]}"
        subprocess.run(["cp", "-al", source, place], check=True)
        self.made.append(place)
        return place


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environments]:
    found = Environments(tmp_path_factory.mktemp("upgraded") / "own.txt")
    try:
        yield found
    finally:
        for place in found.made:
            shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="module")
def platform(chosen: Environments) -> Iterator[RealPlatform]:
    # Brings the software, and with it the default environment, where there is none yet.
    with running_platform("before"):
        pass
    chosen.choose("one")
    site = chosen.lock.with_name("tidehub.yaml")
    site.write_text(SITE)
    with running_platform("upgraded", "--site", str(site), demo=False) as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def alice(platform: RealPlatform) -> AsyncIterator[User]:
    async with login(platform, "alice") as found:
        await found.start()
        yield found


def program(platform: RealPlatform, part: str) -> str:
    return Path(f"/proc/{platform.part(part)['pid']}/cmdline").read_text().partition("\0")[0]


def newer(directory: Path, module: str, added: str) -> Path:
    """A checkout of ours with something at the end of a module of `tidehub.local`."""
    copy = directory / "newer"
    left_out = shutil.ignore_patterns(".*", "__pycache__", "docs", "tests", "bench")
    shutil.copytree(REPOSITORY, copy, ignore=left_out)
    edited = copy / "src" / "tidehub" / "local" / module
    edited.write_text(f"{edited.read_text()}\n{added}")
    return copy


async def test_another_tidehub_takes_over_in_the_same_process(
    platform: RealPlatform, alice: User, tmp_path: Path
) -> None:
    kernel = await alice.kernel()
    facts = await kernel.result(STATE)
    before, supervisor = program(platform, "hub"), platform.status()["pid"]

    copy = newer(tmp_path, "parts.py", "# newer\n")
    done = subprocess.run(
        [str(copy / "tidehub"), "up", "--state", str(platform.state)],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr + platform.log_tails()
    assert "another tidehub" in done.stderr
    status = platform.status()
    assert (status["healthy"], status["pid"]) == (True, supervisor)
    assert program(platform, "hub") != before
    kernel.disconnect()
    kernel = await Kernel.connect(alice.browser, alice.base, kernel.ident)
    assert await kernel.result(SEEN) == {"pid": facts["pid"], "kept": "still here"}
    again = subprocess.run(
        [str(copy / "tidehub"), "reload", "--state", str(platform.state)],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert "Nothing has changed" in again.stdout, again.stdout + again.stderr


async def test_a_tidehub_with_a_fault_of_its_own_gives_the_platform_back(
    platform: RealPlatform, alice: User, tmp_path: Path
) -> None:
    kernel = await alice.kernel()
    facts = await kernel.result(STATE)
    supervisor = platform.status()["pid"]
    copy = newer(
        tmp_path, "platform.py", "def _compose(*words, **more):\n    return {}['a fault of its own']\n"
    )
    done = subprocess.run(
        [str(copy / "tidehub"), "up", "--state", str(platform.state)],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "a fault of its own" in done.stderr and "previous platform is served again" in done.stderr
    status = platform.status()
    assert (status["healthy"], status["pid"]) == (True, supervisor), platform.log_tails()
    kernel.disconnect()
    kernel = await Kernel.connect(alice.browser, alice.base, kernel.ident)
    assert await kernel.result(SEEN) == {"pid": facts["pid"], "kept": "still here"}


async def test_down_while_one_program_becomes_the_other_ends_everything(
    platform: RealPlatform, alice: User, tmp_path: Path
) -> None:
    facts = await (await alice.kernel()).result(STATE)
    slow = (
        "import os, time\nfrom pathlib import Path\n_soon = refuse_missing\n"
        "def refuse_missing(*words, **more):\n"
        "    if 'TIDEHUB_SUCCEEDS' in os.environ:\n"
        f"        Path({str(tmp_path / 'begun')!r}).touch()\n"
        f"        while not Path({str(tmp_path / 'go on')!r}).exists():\n"
        "            time.sleep(0.1)\n"
        "    return _soon(*words, **more)\n"
    )
    copy = newer(tmp_path, "missing.py", slow)
    changing = subprocess.Popen(
        [str(copy / "tidehub"), "up", "--state", str(platform.state)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        async with asyncio.timeout(120):
            while not (tmp_path / "begun").exists():
                await asyncio.sleep(0.05)
        assert platform.status()["state"] == "preparing"
        other = platform.command("up", "--set", "site.name=Another")
        assert other.returncode == 1 and "is in use" in other.stderr, other.stdout + other.stderr
        stopped = platform.down()
        assert stopped.returncode == 0, stopped.stdout + stopped.stderr
        assert not Path(f"/proc/{facts['pid']}").exists()
        assert platform.status()["state"] == "stopped"
        _, said = changing.communicate(timeout=60)
        assert changing.returncode == 1 and "ended before all was ready" in said
        (tmp_path / "go on").touch()
        await asyncio.sleep(3)  # who had waited for that would go on now
        assert platform.status()["state"] == "stopped"
    finally:
        changing.kill()
        changing.communicate()
        platform.up()
    # What the user had begun is gone with `down`, and a server starts anew.
    await alice.start()


def environment_of(python: str) -> str:
    """The name of the environment that a kernel's Python belongs to: it is in the user's own place on top of that."""
    return Path(python).parent.parent.name


async def test_an_old_environment_stays_for_a_running_server_and_goes_with_it(
    platform: RealPlatform, alice: User, chosen: Environments
) -> None:
    [old] = chosen.made
    kernel = await alice.kernel()
    assert environment_of((await kernel.result(STATE))["python"]) == old.name
    new = chosen.choose("two")
    done = platform.command("reload")
    assert done.returncode == 0, done.stderr
    assert "environment of profile own" in done.stderr
    assert "until they are restarted: alice" in done.stderr
    # Twice looked through, and kept.
    assert platform.command("reload").returncode == 0
    assert old.is_dir()
    assert (await alice.run("import numpy; print(1)")).stdout == "1\n", (
        "what was never imported is still there"
    )

    await alice.stop()
    assert platform.command("reload").returncode == 0

    async def gone() -> bool:
        return not old.exists()

    await eventually(gone, within=60, saying="the environment that nothing uses is removed")
    assert f"removed {old}" in platform.places.supervisor_log.read_text()
    assert new.is_dir()
    await alice.start()
    kernel = await alice.kernel()
    assert environment_of((await kernel.result(STATE))["python"]) == new.name
