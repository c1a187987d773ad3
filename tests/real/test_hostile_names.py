"""A live process of a user that exchanges names wherever its uid can write, while root makes and removes places there.

Afterwards nothing outside the user's own places has another owner, another mode, other content, or is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from isolation_programs import UIDS, holds, places

from tidehub.local.gateway.workdirs import make_workdir, remove_strays, remove_workdir
from tidehub.local.hub.http_unix import UnixSocketHTTPClient, socket_url
from tidehub.local.isolation import Isolation, User, choose_isolation
from tidehub.local.isolation.homes import make_temporary
from tidehub.system import trash
from tidehub.system.files import make_directory
from tidehub.system.unix_sockets import connect

SOURCE = Path(__file__).with_name("hostile_names.c")
COMPILER = shutil.which("cc") or shutil.which("gcc")
ROUNDS = 150
DEPTH, FILES = 3_000, 60_000
AT_ONCE = 3.0
"""Seconds for a few renames on a machine on which much else happens; what is waited for would take far longer."""

pytestmark = [
    pytest.mark.real,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root acts in places of other uids"),
]


class Ground:
    """Places of one platform, and the user who attacks them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.isolation: Isolation = choose_isolation(places(root), uids=UIDS)
        self.mallory: User = self.isolation.user("mallory")
        self.bob: User = self.isolation.user("bob")
        self.services = make_directory(root / "services", 0o711)
        self.clusters = make_directory(self.services / "clusters", 0o711)
        self.run = self.isolation.ground.run
        self.trashes = (
            trash.beside(self.run),
            trash.beside(self.isolation.ground.homes / "x"),
            self.clusters / ".trash",
        )
        self.target = make_directory(root / "target", 0o755)
        (self.target / "file").write_text("root's own")
        (self.target / "rt").mkdir(mode=0o755)

    def make_server(self, name: str = "default") -> Path:
        return self.isolation.make_server_directory(self.mallory, name)

    def make_cluster(self, name: str) -> Path:
        return make_workdir(self.clusters, name, self.mallory, certificate=b"certificate", key=b"key")

    def outside(self) -> dict[str, tuple[int, int, int, bytes]]:
        """Owner, group, mode and content of everything that is not in a place of mallory's."""
        own = (self.mallory.home, self.isolation.run_directory(self.mallory), self.clusters, *self.trashes)
        found = {}
        for path in (self.root, *self.root.rglob("*")):
            if any(path.is_relative_to(place) for place in own) or path.is_relative_to(
                self.isolation.ground.private
            ):
                continue
            seen = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(seen.st_mode) else b""
            found[str(path)] = (seen.st_uid, seen.st_gid, stat.S_IMODE(seen.st_mode), content)
        return found

    async def swept(self) -> None:
        await holds(lambda: not any(path.is_dir() and any(path.iterdir()) for path in self.trashes), 240)

    def as_mallory(self, code: str, *words: object) -> None:
        argv = [sys.executable, "-c", code, *map(str, words)]
        subprocess.run(
            argv, user=self.mallory.uid, group=self.mallory.gid, extra_groups=[], check=True, env={}
        )


@pytest.fixture
def ground() -> Iterator[Ground]:
    root = Path(tempfile.mkdtemp(prefix="n-", dir="/tmp"))
    made = Ground(root)
    yield made
    made.isolation.dismantle()
    subprocess.run(["rm", "-rf", str(root)], check=True)


@contextlib.contextmanager
def hostile(ground: Ground, *directories: Path) -> Iterator[None]:
    if COMPILER is None:
        pytest.skip("no C compiler on this machine")
    program = ground.root / "hostile"
    subprocess.run([COMPILER, "-O2", "-w", "-o", str(program), str(SOURCE)], check=True)
    program.chmod(0o755)
    argv = [str(program), str(ground.mallory.uid), str(ground.target), *map(str, directories)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.readline() == b"go\n"
        yield
        assert process.poll() is None, "the attack ended before its time"
    finally:
        process.kill()
        process.wait()
        program.unlink()


async def test_names_exchanged_while_servers_start_and_end(ground: Ground) -> None:
    path = ground.make_server()
    before = ground.outside()
    with hostile(ground, path.parent, path, ground.mallory.home):
        for _ in range(ROUNDS):
            assert ground.make_server() == path
            found = path.lstat()
            assert stat.S_ISDIR(found.st_mode) and found.st_uid == ground.mallory.uid
    await ground.swept()
    assert ground.outside() == before


async def test_names_exchanged_while_clusters_come_and_go(ground: Ground) -> None:
    before = ground.outside()
    names = [f"c{number}" for number in range(4)]
    with hostile(ground, ground.clusters, *(ground.clusters / name for name in names)):
        for number in range(ROUNDS):
            path = ground.make_cluster(names[number % 4])
            if number % 3 == 0:
                remove_workdir(ground.clusters, path)
        remove_strays(ground.clusters, set())
    await ground.swept()
    assert ground.outside() == before
    assert [entry.name for entry in ground.clusters.iterdir()] == [".trash"]


async def test_names_exchanged_while_the_platform_stops(ground: Ground) -> None:
    before = {}
    for _ in range(20):
        path = ground.make_server()
        before = before or {
            key: kept for key, kept in ground.outside().items() if not key.startswith(str(ground.run))
        }
        with hostile(ground, path, ground.run, path.parent):
            await asyncio.sleep(0.02)
            assert trash.throw(ground.run)
            trash.sweep(trash.beside(ground.run))
            make_directory(ground.run, 0o711)
    await ground.swept()
    assert {
        key: kept for key, kept in ground.outside().items() if not key.startswith(str(ground.run))
    } == before


BIG = """
import os, sys
top, depth, files = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
os.chdir(top)
for number in range(files):
    os.close(os.open(f"f{number}", os.O_CREAT | os.O_WRONLY))
for _ in range(depth):
    os.mkdir("d")
    os.chdir("d")
os.chmod(".", 0)
os.chmod(top, 0)
"""


async def test_what_a_user_piles_up_is_waited_for_by_nobody(ground: Ground) -> None:
    """Files and nested directories in every place that is removed; the event loop goes on, start and stop are quick."""
    homes = ground.isolation.ground.homes
    for depth, files in ((DEPTH, 0), (0, FILES)):
        cluster = ground.make_cluster("big")
        temporary = make_temporary(homes, "mallory", fresh=True, uid=os.geteuid(), gid=os.getegid())
        os.chown(temporary, ground.mallory.uid, ground.mallory.gid)
        (homes / ".tmp").chmod(0o711)
        server = ground.make_server()
        for place in (cluster, temporary, server):
            await asyncio.to_thread(ground.as_mallory, BIG, place, depth, files)
        (homes / ".tmp").chmod(0o700)
        taken: dict[str, float] = {}
        with worst_pause() as pause:
            for name, work in (
                ("server start", ground.make_server),
                ("cluster end", lambda path=cluster: remove_workdir(ground.clusters, path)),
                (
                    "sandbox start",
                    lambda: make_temporary(homes, "mallory", fresh=True, uid=os.geteuid(), gid=os.getegid()),
                ),
                ("gateway start", lambda: remove_strays(ground.clusters, set())),
            ):
                start = time.monotonic()
                # In the event loop itself, although the platform uses threads: it must not even then be noticed.
                work()
                taken[name] = time.monotonic() - start
                await asyncio.sleep(0)
        assert max(taken.values()) < AT_ONCE and pause() < AT_ONCE, (taken, pause())
    server = ground.make_server()
    await asyncio.to_thread(ground.as_mallory, BIG, server, DEPTH, 1_000)
    start = time.monotonic()
    assert trash.throw(ground.run)
    trash.sweep(trash.beside(ground.run))
    assert time.monotonic() - start < AT_ONCE
    make_directory(ground.run, 0o711)
    await ground.swept()


@contextlib.contextmanager
def worst_pause() -> Iterator[object]:
    """The longest time for which the event loop did nothing else."""
    worst = 0.0

    async def tick() -> None:
        nonlocal worst
        last = time.monotonic()
        while True:
            await asyncio.sleep(0)
            worst, last = max(worst, time.monotonic() - last), time.monotonic()

    task = asyncio.ensure_future(tick())
    try:
        yield lambda: worst
    finally:
        task.cancel()


STOP_ALL = """
import os, signal, sys
print("go", flush=True)
while True:
    try:
        os.kill(-1, signal.SIGSTOP)
    except ProcessLookupError:
        pass
"""


async def test_a_user_who_stops_all_they_can_holds_up_no_sweeper(ground: Ground) -> None:
    """The process that empties mallory's tree has mallory's rights, and takes none of mallory's signals."""
    bobs = ground.isolation.make_server_directory(ground.bob, "default")
    mallorys = ground.make_server()
    (bobs / "file").write_text("")
    ground.as_mallory(BIG, mallorys, 0, 20_000)
    argv = [sys.executable, "-c", STOP_ALL]
    attacker = subprocess.Popen(
        argv,
        user=ground.mallory.uid,
        group=ground.mallory.gid,
        extra_groups=[],
        env={},
        stdout=subprocess.PIPE,
    )
    try:
        assert attacker.stdout is not None and attacker.stdout.readline() == b"go\n"
        ground.make_server()
        ground.isolation.make_server_directory(ground.bob, "default")

        await ground.swept()
    finally:
        attacker.send_signal(signal.SIGKILL)
        attacker.wait()


SWAP = """
import ctypes, os, socket, sys
place, target = sys.argv[1:3]
os.chdir(place)
own = socket.socket(socket.AF_UNIX)
own.bind("nb.sock:80")
own.listen(1000)
own.setblocking(False)
os.symlink(target, "link")
libc = ctypes.CDLL(None)
print("go", flush=True)
while True:
    for _ in range(1000):
        libc.renameat2(-100, b"nb.sock:80", -100, b"link", 2)
    try:
        while True:
            own.accept()[0].close()
    except BlockingIOError:
        pass
"""


async def test_the_hub_is_led_to_no_other_socket(ground: Ground) -> None:
    """A user exchanges their server's socket with a link to a service's while the hub connects."""
    server = ground.make_server()
    path = ground.root / "api.sock"
    with socket.socket(socket.AF_UNIX) as service:
        service.bind(str(path))
        path.chmod(0o777)
        service.listen(1000)
        service.setblocking(False)
        argv = [sys.executable, "-c", SWAP, str(server), str(path)]
        attacker = subprocess.Popen(
            argv,
            user=ground.mallory.uid,
            group=ground.mallory.gid,
            extra_groups=[],
            env={},
            stdout=subprocess.PIPE,
        )
        connected = refused = 0
        try:
            assert attacker.stdout is not None and attacker.stdout.readline() == b"go\n"
            for _ in range(3_000):
                try:
                    connect(server / "nb.sock:80").close()
                    connected += 1
                except BlockingIOError:
                    continue
                except OSError:
                    refused += 1
            client = UnixSocketHTTPClient(force_instance=True)
            for _ in range(20):
                with pytest.raises(Exception):  # noqa: B017 - refused, or closed by the attacker
                    await client.fetch(socket_url(str(server / "nb.sock:80"), "/api"), request_timeout=5)
            client.close()
        finally:
            attacker.kill()
            attacker.wait()
        assert connected and refused, (connected, refused)
        with pytest.raises(BlockingIOError):
            service.accept()
