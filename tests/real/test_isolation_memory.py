"""As root: memory that no process owns. What a program leaves in it counts for its limit and ends with it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from isolation_programs import MIB, UIDS, appears, ended, holds, places, spec

from tidehub.local.isolation import Isolation, Limits, choose_isolation

pytestmark = [
    pytest.mark.real,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for users with uids of their own"),
]

LEAVE = """
import ctypes, os, sys, time
size = int(sys.argv[1]) << 20
open("/dev/shm/left", "wb").write(bytes(size))
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
number = libc.shmget(0, ctypes.c_size_t(size), 0o1600)
assert number >= 0, os.strerror(ctypes.get_errno())
ctypes.memset(libc.shmat(number, None, 0), 1, size)
os.makedirs("/dev/shm/deep/deeper/deepest"); open("/dev/shm/deep/deeper/deepest/x", "wb").write(bytes(1 << 20))
open("left", "w").write(str(number))
"""
"""Files and a segment, as large as asked; then the program ends."""


@pytest.fixture(params=["/var/lib", "/tmp"])
async def isolation(request: pytest.FixtureRequest) -> AsyncIterator[Isolation]:
    """With the state where it belongs, and below /tmp, where each program sees a directory of its own."""
    root = Path(tempfile.mkdtemp(prefix="iso-", dir=request.param))
    chosen = choose_isolation(places(root), uids=UIDS)
    assert chosen.kind == "root"
    yield chosen
    await chosen.stop_all(grace=0)
    chosen.dismantle()
    shutil.rmtree(root)


def left_of(uid: int) -> tuple[list[str], list[str]]:
    """Files in /dev/shm and System V segments of a uid, as the machine sees them."""
    files = [path.name for path in Path("/dev/shm").iterdir() if path.lstat().st_uid == uid]
    lines = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    return files, [line.split()[1] for line in lines if line.split()[7] == str(uid)]


async def test_nothing_in_memory_outlives_a_server(isolation: Isolation) -> None:
    user = isolation.user("alice")
    handle = isolation.launch(spec(isolation, user, LEAVE, "20", limits=Limits(memory=128 * MIB)))
    await ended(isolation, handle)
    assert isolation.ending(handle).code == 0 and (user.home / "left").exists()
    assert left_of(user.uid) == ([], [])
    isolation.clean(handle)


async def test_where_namespaces_are_refused_the_last_program_takes_it_along(
    isolation: Isolation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tidehub.local.isolation.root.namespace_refusal", lambda scratch: "refused by the test"
    )
    assert any("refused by the test" in line for line in isolation.gaps())
    user = isolation.user("alice")
    sleeper = spec(isolation, user, "import time; time.sleep(600)", name="other")
    other = isolation.launch(sleeper)
    handle = isolation.launch(spec(isolation, user, LEAVE, "20", limits=Limits(memory=128 * MIB)))
    await ended(isolation, handle)
    isolation.clean(handle)
    files, segments = left_of(user.uid)
    assert sorted(files) == ["deep", "left"] and len(segments) == 1
    await isolation.stop(other, grace=0)
    assert left_of(user.uid) == ([], [])


async def test_shared_memory_counts_for_the_limit(isolation: Isolation) -> None:
    if not isolation.capabilities.memory:
        pytest.skip(f"no memory control group on this machine: {isolation.ground.no_cgroups}")
    user = isolation.user("alice")
    handle = isolation.launch(spec(isolation, user, LEAVE, "60", limits=Limits(memory=96 * MIB)))
    await ended(isolation, handle)
    assert isolation.ending(handle).out_of_memory and not (user.home / "left").exists()
    isolation.clean(handle)
    assert left_of(user.uid) == ([], [])


SEND = """
import socket, sys
listening = socket.create_server(("127.0.0.1", 0), backlog=500)
held, sent = [], 0
for _ in range(300):
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    one.connect(listening.getsockname())
    held += [one, listening.accept()[0]]
    one.setblocking(False)
    try:
        while sent < 200 << 20: sent += one.send(bytes(65536))
    except BlockingIOError:
        pass
open("sent", "w").write(str(sent >> 20))
"""
"""Fills sockets that nobody reads, up to 200 MiB."""


async def test_what_lies_in_sockets_is_bounded_by_the_limit(isolation: Isolation) -> None:
    """Version 1 does not count it for a group before it is told to; one user could fill the machine's share."""
    if not isolation.capabilities.memory:
        pytest.skip(f"no memory control group on this machine: {isolation.ground.no_cgroups}")
    user = isolation.user("alice")
    handle = isolation.launch(spec(isolation, user, SEND, limits=Limits(memory=96 * MIB)))
    await ended(isolation, handle, seconds=60)
    sent = (user.home / "sent").read_text() if (user.home / "sent").exists() else None
    assert isolation.ending(handle).out_of_memory or (sent is not None and int(sent) < 96), sent
    isolation.clean(handle)


HOLD = """
import array, os, socket, sys, time
other = socket.socket(socket.AF_UNIX); other.bind("/tmp/held.sock"); other.listen()
open("ready", "w").close()
peer, _ = other.accept()
peer.recvmsg(1, socket.CMSG_SPACE(4)); open("taken", "w").close()
time.sleep(600)
"""
GIVE = """
import array, os, socket
fd = os.open("/dev/shm/held", os.O_RDWR | os.O_CREAT)
os.write(fd, bytes(40 << 20))
peer = socket.socket(socket.AF_UNIX); peer.connect("/tmp/held.sock")
peer.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
while not os.path.exists("taken"): pass
"""


async def test_memory_handed_to_another_server_still_counts_for_the_user(isolation: Isolation) -> None:
    if not isolation.capabilities.memory:
        pytest.skip(f"no memory control group on this machine: {isolation.ground.no_cgroups}")
    user = isolation.user("alice")
    limits = Limits(memory=64 * MIB)
    holder = isolation.launch(spec(isolation, user, HOLD, limits=limits, name="holder"))
    await appears(user.home / "ready")
    giver = isolation.launch(spec(isolation, user, GIVE, limits=limits, name="giver"))
    await ended(isolation, giver)
    isolation.clean(giver)
    assert isolation.alive(holder) and holder.cgroup
    above = isolation._groups.group(str(Path(path).parent) for path in holder.cgroup)
    assert above.usage().memory > 40 * MIB, "what the ended server made is charged to its user"
    assert isolation.usage(holder).memory < 40 * MIB
    limit = above.read("memory.max") or above.read("memory.limit_in_bytes")
    assert int(limit) == 64 * MIB
    await isolation.stop(holder, grace=0)


async def test_programs_of_a_user_have_memory_and_files_that_others_do_not_see(isolation: Isolation) -> None:
    alice, bob = isolation.user("alice"), isolation.user("bob")
    code = """
import json, os, multiprocessing, tempfile
from multiprocessing import shared_memory
def double(x): return 2 * x
name = "made-by-" + os.path.basename(os.environ["HOME"])
seen = {place: sorted(os.listdir(place)) for place in ("/tmp", "/var/tmp", "/dev/shm")}
for place in seen: open(f"{place}/{name}", "w").close()
with multiprocessing.Pool(2) as pool: answer = pool.map(double, [1, 2])
block = shared_memory.SharedMemory(create=True, size=1000); block.close(); block.unlink()
tempfile.TemporaryFile().close()
json.dump({"seen": seen, "answer": answer, "device": os.stat("/tmp").st_dev == os.stat("/dev/shm").st_dev,
           "home": os.listdir(os.environ["HOME"]), "modes": [oct(os.stat(p).st_mode) for p in ("/tmp", "/dev/shm")]},
          open("result.json", "w"))
"""
    for user in (alice, bob, alice):
        handle = isolation.launch(spec(isolation, user, code))
        await ended(isolation, handle)
        assert isolation.ending(handle).code == 0, (isolation.ground.private / "lab.log").read_text()
        result = json.loads((user.home / "result.json").read_text())
        (user.home / "result.json").unlink()
        assert result["answer"] == [2, 4] and not result["device"]
        assert result["modes"] == ["0o40700", "0o41777"] and result["home"] == []
        others = [name for names in result["seen"].values() for name in names if "bob" in name]
        assert user is bob or not others
        isolation.clean(handle)
    assert not any(Path(place, "made-by-alice").exists() for place in ("/tmp", "/var/tmp", "/dev/shm"))


def mounts_of(isolation: Isolation) -> list[str]:
    """What is mounted where this isolation acts and below /etc; other tests of the machine mount elsewhere."""
    places = (str(isolation.ground.homes.parent), "/etc")
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in mounts if line.split()[4].startswith(places)]


async def test_a_user_who_moves_the_mount_points_harms_nobody(isolation: Isolation) -> None:
    """A live process swaps, in its own /tmp, what root is to mount on; root follows no link of theirs."""
    if not isolation.ground.homes.is_relative_to("/tmp"):
        pytest.skip("only a state below /tmp has mount points in a directory that users can write")
    user = isolation.user("alice")
    first = f"/tmp/{isolation.ground.homes.parent.name}"
    code = f"""
import os
open("ready", "w").close()
while True:
    for made in (lambda: os.rename({first!r}, {first + "-away"!r}), lambda: os.symlink("/etc", {first!r}),
                 lambda: os.unlink({first!r}), lambda: os.rename({first + "-away"!r}, {first!r})):
        try: made()
        except OSError: pass
"""
    hostile = isolation.launch(spec(isolation, user, code, name="hostile"))
    await appears(user.home / "ready")
    before = sorted(path.name for path in Path("/etc").iterdir())
    mounts = mounts_of(isolation)
    for _ in range(15):
        try:
            handle = await isolation.start(spec(isolation, user, "pass"))
        except Exception as error:
            assert "making its namespaces" in str(error) or "entering" in str(error)
        else:
            await holds(lambda one=handle: not isolation.alive(one))
            isolation.clean(handle)
    assert isolation.alive(hostile) and sorted(path.name for path in Path("/etc").iterdir()) == before
    assert mounts_of(isolation) == mounts


async def test_mounts_of_the_operator_reach_running_programs(isolation: Isolation) -> None:
    user = isolation.user("alice")
    shared, place = isolation.ground.run / "disks", isolation.ground.run / "disks" / "late"
    place.mkdir(parents=True)
    shared.chmod(0o755)
    code = f"""
import os, time
open("ready", "w").close()
while not os.path.exists({str(place / "seen")!r}): time.sleep(0.01)
open("found", "w").close()
time.sleep(600)
"""
    if isolation.ground.homes.is_relative_to("/tmp"):
        pytest.skip("the state is not below /tmp on a machine where disks come and go")
    # As systemd makes all mounts of a machine.
    subprocess.run(["mount", "--bind", str(shared), str(shared)], check=True)
    try:
        subprocess.run(["mount", "--make-shared", str(shared)], check=True)
        handle = isolation.launch(spec(isolation, user, code))
        await appears(user.home / "ready")
        subprocess.run(["mount", "-t", "tmpfs", "late", str(place)], check=True)
        (place / "seen").touch()
        place.chmod(0o755)
        await appears(user.home / "found")
    finally:
        subprocess.run(["umount", "-R", str(shared)], check=True)
    await isolation.stop(handle, grace=0)


async def test_a_sandbox_can_count_its_own_memory_kills() -> None:
    """As root, because an ordinary user has no control groups on this machine; the sandbox is the same."""
    root = Path(tempfile.mkdtemp(prefix="iso-", dir="/var/lib"))
    isolation = choose_isolation(places(root), require="bubblewrap")
    try:
        if not isolation.capabilities.memory:
            pytest.skip(f"no memory control group on this machine: {isolation.ground.no_cgroups}")
        user = isolation.user("alice")
        code = """
import os, subprocess, sys
def kills():
    lines = open(os.environ["TIDEHUB_MEMORY_EVENTS"]).read().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("oom_kill ")))
before = kills()
child = subprocess.run([sys.executable, "-c", "x = bytearray(300 << 20)"]).returncode
open("result", "w").write(f"{child} {kills() - before}")
try: open(os.environ["TIDEHUB_MEMORY_EVENTS"], "w")
except OSError as error: open("write", "w").write(error.strerror)
"""
        handle = isolation.launch(spec(isolation, user, code, limits=Limits(memory=96 * MIB)))
        await ended(isolation, handle)
        assert (user.home / "result").read_text() == "-9 1"
        assert (user.home / "write").read_text() == "Read-only file system"
        isolation.clean(handle)
    finally:
        await isolation.stop_all(grace=0)
        isolation.dismantle()
        shutil.rmtree(root)
