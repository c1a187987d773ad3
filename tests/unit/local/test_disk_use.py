"""Measuring what users' files take, by the program itself, as root does it and as an ordinary user does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidehub.capacity.disk import DiskUse
from tidehub.local.disk_use import _PROGRAM, Question, measure, read_uses, write_uses
from tidehub.local.software.interpreter import closed_to_others
from tidehub.system.processes import Stat, all_stats

MIB = 2**20
USER = 70124
HOSTILE = Path(__file__).with_name("hostile_swaps.py")
KILLING = """
import os, signal
print('ready', flush=True)
while True:
    for name in os.listdir('/proc'):
        try:
            if name.isdigit() and b'measurer.py\\0' in open(f'/proc/{name}/cmdline', 'rb').read():
                for sent in (signal.SIGSTOP, signal.SIGKILL):
                    os.kill(int(name), sent)
                    print('killed', flush=True)
        except OSError:
            pass
"""
as_root = pytest.mark.skipif(
    os.geteuid() != 0 or closed_to_others(Path(sys.executable)),
    reason="needs root, and an interpreter that other uids may run",
)


@pytest.fixture
def home() -> Iterator[Path]:
    base = Path(tempfile.mkdtemp(prefix="tidehub-measure-", dir="/tmp"))
    base.chmod(0o711)
    made = base / "homes" / "ana"
    made.mkdir(parents=True)
    (base / "homes").chmod(0o711)
    yield made
    # shutil cannot remove a deep tree.
    subprocess.run(["rm", "-rf", str(base)], check=True)


def ask(*trees: Path, uid: int | None = None) -> DiskUse:
    own = os.geteuid() if uid is None else uid

    async def answer() -> DiskUse:
        (one,) = [use async for _, use in measure([Question("ana", own, trees)])]
        return one

    return asyncio.run(answer())


def descendants(pid: int, stats: dict[int, Stat]) -> list[int]:
    """Those of ours that measure."""
    children = [one for one, stat in stats.items() if stat.parent == pid]
    found = [one for child in children for one in (child, *descendants(child, stats))]
    measurer = str(_PROGRAM).encode()
    return [one for one in found if measurer in Path(f"/proc/{one}/cmdline").read_bytes()]


def fill(path: Path, size: int) -> Path:
    path.write_bytes(b"x" * size)
    return path


def given(directory: Path, uid: int = USER) -> Path:
    for path in (directory, *directory.rglob("*")):
        os.chown(path, uid, uid, follow_symlinks=False)
    return directory


def near(use: DiskUse, size: int) -> bool:
    return size <= use.bytes <= size + MIB


def test_what_is_on_the_disk_counts_once_and_holes_do_not(home: Path) -> None:
    fill(home / "one", 3 * MIB)
    os.link(home / "one", home / "the-same")
    (home / "deep" / "er").mkdir(parents=True)
    fill(home / "deep" / "er" / "two", 2 * MIB)
    with (home / "holes").open("wb") as holes:
        holes.truncate(2**40)
    use = ask(home, home.parent / "absent")
    assert near(use, 5 * MIB) and use.complete


def test_links_lead_nowhere(home: Path) -> None:
    outside = home.parent / "outside"
    outside.mkdir()
    fill(outside / "large", 5 * MIB)
    (home / "link").symlink_to(outside)
    (home / "file-link").symlink_to(outside / "large")
    assert near(ask(home), 0)


def test_three_thousand_directories_within_each_other(home: Path) -> None:
    descriptor = os.open(home, os.O_RDONLY)
    for _ in range(3_000):
        os.mkdir("d", dir_fd=descriptor)
        inner = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    file = os.open("large", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor)
    os.write(file, b"x" * MIB)
    os.close(file)
    os.close(descriptor)
    use = ask(home)
    assert use.complete and MIB <= use.bytes < 3_000 * 8192 + 2 * MIB


def test_no_answer_is_no_use(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidehub.local.disk_use._PROGRAM", home / "absent.py")

    async def answers() -> list[tuple[str, DiskUse]]:
        return [one async for one in measure([Question("ana", os.geteuid(), (home,))])]

    assert asyncio.run(answers()) == []


def test_who_no_longer_asks_ends_what_counts(home: Path) -> None:
    for number in range(20_000):
        os.close(os.open(home / str(number), os.O_CREAT | os.O_WRONLY))

    counting: list[int] = []

    async def leave() -> None:
        # The first answer has come; the second question is being worked on.
        questions = [Question("ana", os.geteuid(), ()), Question("bob", os.geteuid(), (home,) * 50)]
        async with contextlib.aclosing(measure(questions)) as answers:
            async for _ in answers:
                while len(found := descendants(os.getpid(), all_stats())) < 2:
                    await asyncio.sleep(0.01)
                counting.extend(map(os.pidfd_open, found))
                break

    began = time.monotonic()
    asyncio.run(leave())
    assert time.monotonic() - began < 5
    assert len(counting) > 1, "the program, and what counts for it"
    for one in counting:
        # A process that is killed takes a moment to end.
        assert select.select([one], [], [], 5)[0], "it has not ended"
        os.close(one)


def test_what_was_measured_is_kept_and_a_damaged_file_is_none(home: Path) -> None:
    path, uses = home / "disk-use.json", {"ana": DiskUse(5), "bob": DiskUse(7, complete=False)}
    write_uses(path, uses)
    assert read_uses(path) == uses and path.stat().st_mode & 0o777 == 0o600
    for damage in ('{"users": [1]}', '{"users"', "[]", "\x00", '{"users": {"ana": {"bytes": -1}}}'):
        path.write_text(damage)
        assert read_uses(path) == {}
    path.write_bytes(b"\xff")
    assert read_uses(path) == {}
    assert read_uses(home / "absent") == {}


@as_root
def test_as_root_a_tree_of_somebody_else_is_not_entered(home: Path) -> None:
    fill(home / "large", 2 * MIB)
    use = ask(home, uid=USER)
    assert use == DiskUse(0, complete=False)


@as_root
def test_as_root_what_a_user_has_closed_to_themselves_counts(home: Path) -> None:
    fill(home / "own", MIB)
    inner = home / "closed" / "twice" / "open"
    inner.mkdir(parents=True)
    fill(inner / "large", 5 * MIB)
    given(home)
    modes = {inner: 0o000, inner.parent: 0o311, inner.parent.parent: 0o600, home: 0o000}
    for directory, mode in modes.items():
        directory.chmod(mode)
    use = ask(home, uid=USER)
    assert near(use, 6 * MIB) and use.complete
    assert {path: path.stat().st_mode & 0o777 for path in modes} == modes, "nothing is changed"


HOLDING = """
import ctypes, os, sys, threading
size = 4 * 2**20
home, other, closed = sys.argv[1:]
if closed:
    assert ctypes.CDLL(None).prctl(4, 0, 0, 0, 0) == 0  # PR_SET_DUMPABLE
def deleted(directory, name):
    file = os.open(f"{directory}/{name}", os.O_CREAT | os.O_RDWR)
    os.write(file, b"x" * size)
    os.unlink(f"{directory}/{name}")
    return file
one = deleted(home, "one")
again = os.dup(one)
empty = os.open(f"{home}/named", os.O_CREAT | os.O_RDWR)
nameless = os.open(home, os.O_TMPFILE | os.O_RDWR)
os.write(nameless, b"x" * size)
memory = os.memfd_create("x")
os.write(memory, b"x" * size)
elsewhere = deleted(other, "elsewhere")
def thread():
    if hasattr(os, "unshare"):
        os.unshare(os.CLONE_FILES)
    else:
        ctypes.CDLL(None).unshare(0x400)
    mine = deleted(home, "mine")
    print("ready", flush=True)
    threading.Event().wait()
threading.Thread(target=thread, daemon=True).start()
sys.stdin.read()
"""
"""Three files without a name in the home, one open twice, one in a thread's own table of files; others elsewhere."""


@as_root
@pytest.mark.parametrize("closed", ["", "closed"])
def test_as_root_what_was_deleted_and_is_still_open_counts(home: Path, closed: str) -> None:
    """Also in a program that lets nobody of its own user look at it, as ssh-agent does."""
    given(home)
    elsewhere = Path(tempfile.mkdtemp(dir="/dev/shm"))
    os.chown(elsewhere, USER, USER)
    argv = [sys.executable, "-I", "-S", "-c", HOLDING, str(home), str(elsewhere), closed]
    try:
        with subprocess.Popen(
            argv, user=USER, group=USER, extra_groups=[], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as holding:
            assert holding.stdout is not None and holding.stdout.readline() == b"ready\n"
            use = ask(home, uid=USER)
            other = ask(given(Path(tempfile.mkdtemp(dir=home.parent)), USER + 1), uid=USER + 1)
            holding.kill()
        assert near(use, 12 * MIB) and use.complete
        assert near(other, 0), "another user's are not counted"
        assert near(ask(home, uid=USER), 0), "they have gone with their program"
    finally:
        shutil.rmtree(elsewhere)


@as_root
def test_as_root_the_rights_to_look_are_kept_and_no_others(home: Path) -> None:
    script = (
        "import os, sys; from tidehub.system.as_user import _become\n"
        f"_become({USER}, look=True)\n"
        "print([line for line in open('/proc/self/status') if line.startswith(('Cap', 'Uid', 'Gid', 'Groups'))])\n"
        f"os.listdir({str(home)!r})\n"
        "for change in (lambda: os.chmod('/', 0o755), lambda: os.setuid(0), lambda: os.chown('/', 1, 1),\n"
        f"               lambda: open({str(home / 'new')!r}, 'w'), lambda: os.kill(1, 0)):\n"
        "    try: change()\n"
        "    except PermissionError: print('refused')\n"
    )
    home.chmod(0o700)
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("refused") == 5, done.stdout
    kept = 1 << 2 | 1 << 19  # CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE
    held = f"'CapPrm:\\t{kept:016x}\\n', 'CapEff:\\t{kept:016x}\\n'"
    assert held in done.stdout and f"'CapInh:\\t{0:016x}\\n'" in done.stdout, done.stdout


@as_root
def test_as_root_the_user_is_who_looks(home: Path) -> None:
    """What the user cannot enter is not counted, and that is said."""
    fill(home / "own", 2 * MIB)
    given(home)
    (home / "roots").mkdir(mode=0o700)
    fill(home / "roots" / "large", 5 * MIB)
    use = ask(home, uid=USER)
    assert near(use, 2 * MIB) and not use.complete


@as_root
def test_a_live_user_who_swaps_every_name_neither_leads_it_out_nor_stops_it(home: Path) -> None:
    """Their process exchanges directories against links to what is not theirs, and kills all it can."""
    outside = home.parent / "outside"
    outside.mkdir(mode=0o755)
    for number in range(20):
        fill(outside / f"large-{number}", 4 * MIB)
        (home / f"d{number}" / "inner").mkdir(parents=True)
        fill(home / f"d{number}" / "inner" / "own", 64 * 1024)
    given(home)
    script = home.parent.parent / "hostile.py"
    shutil.copyfile(HOSTILE, script)
    script.chmod(0o644)
    argv = [sys.executable, "-I", "-S", str(script), str(home), str(outside)]
    killing = [sys.executable, "-I", "-S", "-c", KILLING]
    running = [
        subprocess.Popen(command, user=USER, group=USER, extra_groups=[], stdout=subprocess.PIPE)
        for command in (argv, killing)
    ]
    try:
        for one in running:
            assert one.stdout is not None and one.stdout.readline() == b"ready\n"
        found = [ask(home, uid=USER) for _ in range(15)]
    finally:
        for one in running:
            one.kill()
        said = [one.communicate()[0] for one in running]
    # Lures are links: a directory is counted, or at that moment it was not there; what lies outside never is.
    assert all(0 < use.bytes < 4 * MIB for use in found), found
    assert b"killed" not in said[1]
