"""`tidehub up` and `reload` on a running platform: what changed is served, and nobody's work ends."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from real_platform import running_platform
from real_user import User, eventually, login

from tidehub.checks.browser import Browser
from tidehub.checks.kernel import Kernel

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

SITE = """
site: {{name: {name}}}
login:
  provider: demo
  allow: {{everyone: true}}
  admins: {{users: [{admin}]}}
notebooks:
  memory: {{guarantee: 256 MiB, limit: {limit}}}
  cpu: {{guarantee: 0.1, limit: 1}}
  idle_timeout: {idle}
  profiles:
  - {{name: Minimal, default: true}}
{more}
dask:
  worker: {{memory: {{min: 256 MiB, max: 512 MiB, default: 256 MiB}}}}
  scheduler: {{memory: 256 MiB}}
  cluster: {{max_workers: 2, max_cores: 3, max_memory: 2 GiB}}
{rest}
"""
BEFORE = {"name": "Before", "admin": "olga", "limit": "1 GiB", "idle": "1h", "more": "", "rest": ""}

COUNTING = """
import json, os, threading, time
counted = 0
def count():
    global counted
    while True:
        counted += 1
        time.sleep(0.01)
threading.Thread(target=count, daemon=True).start()
print(json.dumps({"pid": os.getpid()}))
"""
COUNTED = "import json, os; print(json.dumps({'pid': os.getpid(), 'counted': counted}))"


class AtWork:
    """Alice, whose kernel counts while the site changes."""

    def __init__(self, alice: User, kernel: Kernel, pid: int, site: Path) -> None:
        self.alice, self.kernel, self.pid, self.site = alice, kernel, pid, site
        self.platform = alice.platform
        self.counted = 0
        self.content = dict(BEFORE)

    def write(self, **changed: str) -> None:
        self.content |= changed
        self.site.write_text(SITE.format(**self.content))

    def pids(self) -> dict[str, int]:
        """Of the parts."""
        return {str(part["name"]): int(part["pid"]) for part in self.platform.status()["parts"]}

    def hub_port(self) -> int:
        ports = json.loads((self.platform.places.private / "ports.json").read_text())
        return int(ports["hub"])

    async def name(self) -> str | None:
        """Of the site, as somebody reads it who is not signed in."""
        async with Browser(self.platform.address) as stranger:
            page = (await stranger.open("hub/login")).html
        return next((name for name in ("Before", "After") if name in page), None)

    async def goes_on(self, *, anew: bool = False) -> None:
        """The kernel is the same and has counted on; `anew`: the page connects again, as JupyterLab does."""
        if anew:
            self.kernel.disconnect()
            self.kernel = await Kernel.connect(self.alice.browser, self.alice.base, self.kernel.ident)
        now: dict[str, Any] = await self.kernel.result(COUNTED)
        assert now["pid"] == self.pid
        assert now["counted"] > self.counted
        self.counted = now["counted"]


@asynccontextmanager
async def knocking(*ports: int | None) -> AsyncIterator[list[str]]:
    """What was refused while somebody connected again and again."""
    refused: list[str] = []

    async def knock(port: int | None) -> None:
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
            except ConnectionRefusedError as error:
                refused.append(str(error))
            await asyncio.sleep(0.05)

    tasks = [asyncio.create_task(knock(port)) for port in ports]
    try:
        yield refused
    finally:
        for task in tasks:
            task.cancel()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def work(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AtWork]:
    site = tmp_path_factory.mktemp("site") / "tidehub.yaml"
    site.write_text(SITE.format(**BEFORE))
    with running_platform("changed", "--site", str(site), demo=False) as platform:
        async with login(platform, "alice") as alice:
            await alice.start()
            kernel = await alice.kernel()
            facts = await kernel.result(COUNTING)
            yield AtWork(alice, kernel, facts["pid"], site)


async def test_nothing_changed_is_said_and_touches_nothing(work: AtWork) -> None:
    before = work.pids()
    for command in (["up", *work.platform.arguments, "--detach"], ["up"], ["reload"]):
        done = work.platform.command(*command)
        assert done.returncode == 0, done.stderr
        assert "Nothing has changed" in done.stdout
    assert work.pids() == before
    await work.goes_on()


async def test_limits_admins_and_a_profile_are_served_and_the_kernel_counts_on(work: AtWork) -> None:
    before = work.pids()
    work.write(
        limit="1536 MiB", admin="bob", more="  - {name: Second, memory: {guarantee: 128 MiB, limit: 768 MiB}}"
    )
    done = work.platform.command("up", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {one["key"] for one in report["changes"]} == {
        "login.admins.users", "notebooks.memory.limit", "notebooks.profiles[Second]",
    }  # fmt: skip
    assert report["servers_to_restart"] == ["alice"]
    assert sorted(report["restarted"]) == ["gateway", "hub", "identity"]
    after = work.pids()
    assert {name for name in before if before[name] != after[name]} == {"gateway", "hub", "identity"}
    await work.goes_on()
    async with login(work.platform, "bob") as bob:
        assert (await bob.record())["admin"]
        assert "Second" in (await bob.open("hub/spawn")).html
        await bob.start("minimal")
        found = await bob.run("import os; print(os.environ['MEM_LIMIT'])")
        assert int(found.stdout) == 1536 * 2**20
    await work.goes_on()


async def test_an_idle_time_restarts_the_culler_and_the_hub(work: AtWork) -> None:
    before = work.pids()
    work.write(idle="2h")
    done = work.platform.command("reload")
    assert done.returncode == 0, done.stderr
    assert "notebooks.idle_timeout: 1 h -> 2 h" in done.stderr
    after = work.pids()
    assert {name for name in before if before[name] != after[name]} == {"culler", "hub"}
    assert any(b"--timeout=7200" in word for word in _words(after["culler"]))
    await work.goes_on()


async def test_a_command_that_is_killed_in_the_middle_leaves_the_change_to_the_platform(work: AtWork) -> None:
    work.write(idle="3h")
    words = [work.platform.python, "-I", "-m", "tidehub", "reload", "--state", str(work.platform.state)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as asked:
        assert asked.stderr is not None
        assert any("restarting hub" in line for line in asked.stderr)
        asked.kill()

    async def nothing_is_left() -> bool:
        return "Nothing has changed" in (await asyncio.to_thread(work.platform.command, "reload")).stdout

    await eventually(nothing_is_left, within=60, every=1, saying="the platform has changed by itself")
    assert b"--timeout=10800" in _words(work.pids()["culler"])
    assert work.platform.status()["healthy"]
    await work.goes_on()


async def test_a_site_with_a_mistake_changes_nothing(work: AtWork) -> None:
    before, text = work.pids(), work.site.read_text()
    for wrong in (
        text + "nonsense: 1\n",
        text.replace("guarantee: 256 MiB, limit: 1536 MiB", "guarantee: 8 TiB, limit: 8 TiB"),
    ):
        work.site.write_text(wrong)
        for command in ("up", "reload"):
            done = work.platform.command(command)
            assert done.returncode in (1, 2), done.stdout
            assert "nonsense" in done.stderr or "does not fit" in done.stderr
    work.site.write_text(text)
    assert work.pids() == before
    await work.goes_on()


async def test_what_the_hub_does_not_start_with_is_taken_back(work: AtWork) -> None:
    work.write(rest="overrides: {hub_config: 'raise RuntimeError(\"not with me\")'}")
    done = work.platform.command("reload")
    assert done.returncode == 1
    assert "rolled back" in done.stderr and "not with me" in done.stderr
    assert work.platform.status()["healthy"]
    await work.goes_on()
    work.write(rest="")
    assert "Nothing has changed" in work.platform.command("reload").stdout


async def test_another_port_starts_every_part_anew_in_the_same_supervisor(work: AtWork) -> None:
    before, supervisor = work.pids(), work.platform.status()["pid"]
    work.write(
        name="After",
        more="  - {name: Second, memory: {guarantee: 128 MiB, limit: 640 MiB}}",
        rest="machine: {reserve_memory: 1100 MiB, trusted_proxies: [127.0.0.1]}",
    )
    async with knocking(urlsplit(work.platform.address).port, work.hub_port()) as refused:
        done = await asyncio.to_thread(work.platform.command, "up", "--json")
    assert done.returncode == 0, done.stderr + work.platform.log_tails()
    assert refused == [], "no port of the platform was free for a moment"
    report = json.loads(done.stdout)
    assert report["every_part"] == ["machine.trusted_proxies"]
    assert "notebooks.profiles[Second].memory.limit" in {one["key"] for one in report["changes"]}
    assert report["servers_to_restart"] == [], "nobody has started a server from that profile"
    status = work.platform.status()
    assert status["healthy"] and status["pid"] == supervisor
    after = work.pids()
    assert not set(before.values()) & set(after.values())
    assert await work.name() == "After"
    await work.goes_on(anew=True)
    assert "Nothing has changed" in work.platform.command("reload").stdout


async def test_a_start_of_every_part_that_fails_is_taken_back_too(work: AtWork) -> None:
    before, supervisor = work.content["rest"], work.platform.status()["pid"]
    work.write(
        rest="overrides: {hub_config: 'raise RuntimeError(\"nor with me\")'}\nmachine: {trusted_proxies: [127.0.0.2]}"
    )
    done = work.platform.command("up")
    assert done.returncode == 1
    assert "previous platform is served again" in done.stderr and "hub did not start" in done.stderr
    status = work.platform.status()
    assert status["healthy"] and status["pid"] == supervisor
    assert await work.name() == "After"
    await work.goes_on(anew=True)
    work.write(rest=before)
    assert "Nothing has changed" in work.platform.command("reload").stdout


async def test_a_path_on_which_no_running_server_answers_is_refused(work: AtWork) -> None:
    before = work.pids()
    work.site.write_text(
        work.site.read_text().replace("{name: After}", "{name: After, url: 'http://127.0.0.1:8000/x/'}")
    )
    done = work.platform.command("up")
    assert done.returncode == 1 and "alice" in done.stderr
    assert work.pids() == before
    work.write()
    await work.goes_on()


def _words(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
