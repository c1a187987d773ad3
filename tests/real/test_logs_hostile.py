"""Logs against users' programs that live and attack: as root, under users' uids, with the real writer."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from isolation_programs import MIB, UIDS, appears, ended, holds, spec

from tidehub.local.isolation import LaunchSpec, ProcessHandle, choose_isolation
from tidehub.local.logs.policy import LogLimits
from tidehub.local.places import Places
from tidehub.system.processes import read_stat

pytestmark = [
    pytest.mark.real,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for users with uids of their own"),
]

LIMITS = LogLimits()
MOST = LIMITS.file * (LIMITS.kept + 1)

ATTACK = """
import fcntl, json, os, sys
def tried(act):
    try: return "done: " + repr(act())
    except OSError as error: return type(error).__name__ + " " + (os.strerror(error.errno))
where = os.readlink("/proc/self/fd/1")
os.write(1, b"\\x1b]0;owned\\x07first\\n")
found = {
  "truncate": tried(lambda: os.ftruncate(1, 0)),
  "seek": tried(lambda: os.lseek(1, 0, 0)),
  "pwrite": tried(lambda: os.pwrite(1, b"x", 0)),
  "mode": tried(lambda: os.fchmod(1, 0o666)),
  "reopen": tried(lambda: os.open("/proc/self/fd/1", os.O_RDWR)),
  "path": tried(lambda: os.open(where, os.O_RDWR)),
  "list": tried(lambda: os.listdir(os.path.dirname(where))),
  "unlink": tried(lambda: os.unlink(where)),
  "regular": os.path.isfile("/proc/self/fd/1"),
}
try: fcntl.fcntl(1, fcntl.F_SETFL, os.O_DIRECT | os.O_NONBLOCK)
except OSError: pass
os.write(1, b"last")
os.close(1); os.close(2)
open("found.json.new", "w").write(json.dumps(found))
os.rename("found.json.new", "found.json")
"""

FLOOD = """
import os, sys
block = b"x" * 2**20 if sys.argv[1] == "line" else b"flood of lines\\n" * 70000
open("ready", "w").close()
for _ in range(300):
    left = memoryview(block)
    while left: left = left[os.write(1, left):]
"""

COUNT = """
import sys, time
number = 0
while True:
    print("line", number, flush=True)
    number += 1
    if number % 50 == 0: time.sleep(0.02)
"""
"""About 25 kB a second: also on a machine under load no test lasts until what it counts on is rotated away."""

TALK = "import time, sys\nfor line in ['here']: print(line, flush=True)\ntime.sleep(600)"


class Machine:
    def __init__(self, root: Path) -> None:
        self.places = Places.of(root / "state").ensure()
        self.isolation = choose_isolation(self.places, uids=UIDS)
        self.writer = self.start_writer()

    def start_writer(self) -> subprocess.Popen[bytes]:
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
        argv = [sys.executable, "-m", "tidehub.local.logs.writer", str(self.places.state)]
        return subprocess.Popen(argv, env=env)

    def spec(self, user: str, code: str, *words: str) -> LaunchSpec:
        return spec(self.isolation, self.isolation.user(user), code, *words)

    def cpu(self) -> float:
        found = read_stat(self.writer.pid)
        assert found is not None
        return found.cpu_seconds


@pytest.fixture
async def machine() -> AsyncIterator[Machine]:
    root = Path(tempfile.mkdtemp(prefix="logs-"))
    root.chmod(0o711)
    made = Machine(root)
    try:
        yield made
    finally:
        await made.isolation.stop_all(grace=0)
        made.isolation.dismantle()
        made.writer.terminate()
        assert made.writer.wait(20) == 0
        made.places.remove_run()
        shutil.rmtree(root)


def text(log: Path) -> bytes:
    """All that was said, with what was rotated away. While files are renamed it may be less; it is read again."""
    files = [*(log.with_name(f"{log.name}.{number}") for number in range(LIMITS.kept, 0, -1)), log]
    return b"".join(file.read_bytes() for file in files if file.exists())


def everything(log: Path) -> int:
    return sum(file.stat().st_size for file in log.parent.glob("*.log*"))


async def test_a_program_reaches_nothing_but_its_own_pipe(machine: Machine) -> None:
    made = machine.spec("mallory", ATTACK)
    handle = machine.isolation.launch(made)
    await ended(machine.isolation, handle)
    found = json.loads((made.user.home / "found.json").read_text())
    assert found.pop("regular") is False
    assert found.pop("truncate").endswith("Invalid argument")
    assert {found.pop("seek"), found.pop("pwrite")} == {"OSError Illegal seek"}
    refused = {name: said.split()[0] for name, said in found.items()}
    assert set(refused.values()) == {"PermissionError"}, found
    shown = await machine.isolation.log_tail(made.log, 5)
    assert shown == "\\x1b]0;owned\\x07first / last"
    machine.isolation.clean(handle)


@pytest.mark.parametrize("kind", ["line", "lines"])
async def test_a_flood_costs_little_and_delays_nobody(machine: Machine, kind: str) -> None:
    flood, talk = machine.spec("mallory", FLOOD, kind), machine.spec("alice", TALK)
    flooding = machine.isolation.launch(flood)
    await appears(flood.user.home / "ready")
    # The burst is over when the file has been rotated.
    await holds(lambda: flood.log.with_name("lab.log.1").exists())
    await asyncio.sleep(1)
    begun, cpu = time.monotonic(), machine.cpu()
    machine.isolation.launch(talk)
    await holds(lambda: text(talk.log) == b"here\n", 10)
    arrived = time.monotonic() - begun
    await asyncio.sleep(max(0.0, 4 - arrived))
    used = (machine.cpu() - cpu) / (time.monotonic() - begun)
    assert machine.isolation.alive(flooding)
    assert everything(flood.log) <= MOST + MIB
    assert used < 0.2, f"the writer took {used:.0%} of a core"
    assert arrived < 5
    print(f"writer: {used:.1%} of a core, alice's line came after {arrived:.2f} s")


async def test_the_writer_is_killed_under_load(machine: Machine) -> None:
    made = machine.spec("alice", COUNT)
    handle = machine.isolation.launch(made)
    for _ in range(3):
        seen = len(text(made.log))
        await holds(lambda seen=seen: len(text(made.log)) > seen + 1000)  # type: ignore[misc]
        machine.writer.kill()
        machine.writer.wait()
        assert machine.isolation.alive(handle)
        machine.writer = machine.start_writer()
    seen = len(text(made.log))
    await holds(lambda: len(text(made.log)) > seen + 1000)
    assert machine.isolation.alive(handle)
    await machine.isolation.stop(handle, grace=0)
    await machine.isolation.log_tail(made.log, 1)
    numbers = [
        int(line.split()[1])
        for line in text(made.log).splitlines()
        if line.startswith(b"line ") and line.split()[1:]
    ]
    # What a killed writer had in its hands, a chunk at most, is all that can be missing.
    missing = numbers[-1] + 1 - len(numbers)
    assert 0 <= missing <= 3 * 64 * 1024 // len("line 1\n"), missing
    assert numbers[:100] == list(range(100))


async def test_a_program_outlives_whoever_started_it_and_its_log_goes_on(machine: Machine) -> None:
    script = (
        "import json, os, sys, time; from pathlib import Path\n"
        "from isolation_programs import spec, UIDS\n"
        "from tidehub.local.isolation import choose_isolation; from tidehub.local.places import Places\n"
        "i = choose_isolation(Places.of(sys.argv[1]), uids=range(*json.loads(sys.argv[3])))\n"
        "h = i.launch(spec(i, i.user('alice'), sys.argv[2]))\n"
        "print(json.dumps(h.to_state()), flush=True); time.sleep(600)\n"
    )
    env = {**os.environ, "PYTHONPATH": f"{Path(__file__).parents[2] / 'src'}:{Path(__file__).parent}"}
    state, uids = str(machine.places.state), json.dumps([UIDS.start, UIDS.stop])
    hub = subprocess.Popen(
        [sys.executable, "-c", script, state, COUNT, uids], env=env, stdout=subprocess.PIPE
    )
    assert hub.stdout is not None
    handle = ProcessHandle.from_state(json.loads(await asyncio.to_thread(hub.stdout.readline)))
    made = machine.spec("alice", COUNT)
    await holds(lambda: len(text(made.log)) > 1000)
    hub.kill()
    hub.wait()
    # With the supervisor the writer goes, too; until the next start the pipe keeps what is said.
    machine.writer.send_signal(signal.SIGKILL)
    machine.writer.wait()
    seen = len(text(made.log))
    machine.writer = machine.start_writer()
    await holds(lambda: len(text(made.log)) > seen + 1000)
    assert machine.isolation.alive(handle)
    await machine.isolation.stop(handle, grace=0)


async def test_what_a_program_that_cannot_work_said_is_told(machine: Machine) -> None:
    for number in range(3):
        made = machine.spec("alice", "raise SystemExit('no module named x')")
        handle = machine.isolation.launch(made)
        await ended(machine.isolation, handle)
        begun = time.monotonic()
        assert await machine.isolation.log_tail(made.log, 1) == "no module named x"
        assert time.monotonic() - begun < 2
        assert text(made.log).count(b"no module") == number + 1
        machine.isolation.clean(handle)
