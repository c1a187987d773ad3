"""The writer of users' logs on real pipes: bounds, fairness, ends; and the policy without any."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from tidehub.errors import TidehubError
from tidehub.local.logs.pipes import CAPACITY, HeldPipes, Pipe, goes_round, open_pipe, settle
from tidehub.local.logs.policy import Bucket, LogFile, LogLimits, to_remove
from tidehub.local.logs.writer import LogWriter

KIB, MIB = 2**10, 2**20
FAST = LogLimits(owner_rate=1e12, total_rate=1e12)


class Ground:
    def __init__(self, root: Path) -> None:
        self.logs, self.pipes = root / "logs", root / "run"
        self.logs.mkdir()
        self.held = HeldPipes()
        self._opened: list[tuple[int, int]] = []

    def log(self, name: str) -> Path:
        return self.logs / "servers" / name / "default.log"

    def open(self, name: str) -> int:
        descriptor = open_pipe(self.pipes, self.logs, self.log(name), name)
        self.held.hold(descriptor)
        self._opened.append((descriptor, os.fstat(descriptor).st_ino))
        return descriptor

    def close(self) -> None:
        """Close what the test left open: an ordinary user may have only so many pages in pipes (pipe(7))."""
        held = [(one, os.fstat(one).st_ino) for one in self.held._held]
        for descriptor, number in [*self._opened, *held]:
            with contextlib.suppress(OSError):
                if os.fstat(descriptor).st_ino == number:
                    os.close(descriptor)

    @contextlib.contextmanager
    def writer(self, limits: LogLimits = FAST) -> Iterator[LogWriter]:
        writer = LogWriter(self.logs, self.pipes, lambda data: data.replace(b"secret", b"[hidden]"), limits)
        try:
            yield writer
        finally:
            writer.close()

    def names(self) -> list[str]:
        return [path.name for path in self.pipes.iterdir() if Pipe.parse(path.name)]


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    made = Ground(tmp_path)
    yield made
    made.close()


def until(writer: LogWriter, what: Callable[[], object], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "this never came true"
        writer.step()


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def everything(log: Path) -> int:
    return sum(file.stat().st_size for file in log.parent.glob("*.log*"))


def test_what_is_written_arrives_and_the_pipe_goes_with_its_program(ground: Ground) -> None:
    descriptor = ground.open("alice")
    os.write(descriptor, b"before anybody reads\n")
    with ground.writer() as writer:
        until(writer, lambda: size(ground.log("alice")))
        os.write(descriptor, b"a secret, without an end")
        os.close(descriptor)
        until(writer, lambda: not ground.names())
    log = ground.log("alice")
    assert log.read_bytes() == b"before anybody reads\na [hidden], without an end\n"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600 and stat.S_IMODE(log.parent.stat().st_mode) == 0o700


def test_a_pipe_is_private_large_and_never_breaks(ground: Ground) -> None:
    descriptor = ground.open("alice")
    found = os.fstat(descriptor)
    assert stat.S_ISFIFO(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o600
    assert stat.S_IMODE(ground.pipes.stat().st_mode) == 0o700
    assert os.get_blocking(descriptor)
    with ground.writer() as writer:
        until(writer, lambda: ground.names())
    # The writer has gone, and what it would have read waits for the next: no SIGPIPE, no end.
    os.set_blocking(descriptor, False)
    assert os.write(descriptor, b"x" * CAPACITY * 2) == fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ)
    os.close(descriptor)


def test_what_a_program_said_before_the_writer_came_is_not_lost(ground: Ground) -> None:
    for name, text in (("alice", b"cannot start\n"), ("bob", b"b" * CAPACITY), ("carol", b"")):
        descriptor = ground.open(name)
        os.write(descriptor, text)
        os.close(descriptor)
    with ground.writer() as writer:
        until(writer, lambda: not ground.names(), 1)
    assert ground.log("alice").read_bytes() == b"cannot start\n"
    assert everything(ground.log("bob")) >= CAPACITY and ground.log("carol").read_bytes() == b""
    before = len(list(Path("/proc/self/fd").iterdir()))
    os.close(ground.open("dora"))
    # All that were held are let go when the next one comes.
    assert len(list(Path("/proc/self/fd").iterdir())) == before - 2


def test_the_next_writer_goes_on(ground: Ground) -> None:
    descriptor = ground.open("alice")
    for number in range(3):
        with ground.writer() as writer:
            os.write(descriptor, b"%d\n" % number)
            until(
                writer,
                lambda number=number: (
                    b"%d" % number in ground.log("alice").read_bytes() if size(ground.log("alice")) else False
                ),
            )  # type: ignore[misc]
    os.close(descriptor)
    assert ground.log("alice").read_bytes() == b"0\n1\n2\n"


def test_a_flood_stays_within_its_size_and_rate_and_nobody_else_waits(ground: Ground) -> None:
    limits = LogLimits(file=MIB, kept=2, owner_rate=2 * MIB, owner_burst=MIB)
    flooding, quiet = ground.open("mallory"), ground.open("alice")
    os.set_blocking(flooding, False)
    with ground.writer(limits) as writer:
        begun, cpu, written, told, arrived = time.monotonic(), time.process_time(), 0, 0.0, 0.0
        while time.monotonic() < begun + 4:
            with contextlib.suppress(BlockingIOError):
                written += os.write(flooding, b"flood " * 11_000)
            if not told and time.monotonic() > begun + 2:
                told = time.monotonic()
                os.write(quiet, b"still here\n")
            if told and not arrived and size(ground.log("alice")):
                arrived = time.monotonic()
                assert arrived - told < 1.0
            writer.step()
        spent = time.process_time() - cpu
    assert arrived
    assert 6 * MIB < written < 13 * MIB
    assert everything(ground.log("mallory")) <= 3 * MIB
    assert ground.log("alice").read_bytes() == b"still here\n"
    assert spent < 3


@pytest.mark.parametrize("packets", [b"\n" * 64 * KIB, b"x"])
def test_small_packets_and_empty_lines_cost_no_more_than_bytes(ground: Ground, packets: bytes) -> None:
    descriptor = ground.open("mallory")
    # pipe(2): in packet mode each read gives one packet, however small.
    fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_DIRECT | os.O_NONBLOCK)
    pid = os.fork()
    if pid == 0:
        while True:
            with contextlib.suppress(OSError):
                os.write(descriptor, packets)
    try:
        with ground.writer(LogLimits(owner_burst=64 * KIB)) as writer:
            end = time.monotonic() + 2
            cpu = time.process_time()
            while time.monotonic() < end:
                writer.step()
            assert time.process_time() - cpu < 1.0
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def test_a_line_without_end_is_cut(ground: Ground) -> None:
    descriptor = ground.open("mallory")
    with ground.writer() as writer:
        for _ in range(30):
            os.write(descriptor, b"y" * 32 * KIB)
            writer.step()
        os.close(descriptor)
        until(writer, lambda: not ground.names())
    lines = ground.log("mallory").read_bytes().split(b"\n")
    assert sum(map(len, lines)) == 30 * 32 * KIB and max(map(len, lines)) <= 128 * KIB


def test_a_user_with_too_many_pipes_loses_some_of_them(ground: Ground) -> None:
    logs = [ground.logs / "clusters" / "c" / f"{number}.log" for number in range(6)]
    opened = [open_pipe(ground.pipes, ground.logs, log, "mallory") for log in logs]
    other = ground.open("alice")
    with ground.writer(replace(FAST, owner_pipes=4)) as writer:
        until(writer, lambda: len(ground.names()) == 5)
        for descriptor in (*opened, other):
            os.write(descriptor, b"x\n")
            os.close(descriptor)
        until(writer, lambda: not ground.names())
    assert sum(map(size, logs)) == 8 and size(ground.log("alice")) == 2


def test_running_logs_are_tidied_as_well(ground: Ground) -> None:
    descriptor = ground.open("mallory")
    with ground.writer(replace(FAST, owner=100 * KIB, file=MIB)) as writer:
        for _ in range(8):
            os.write(descriptor, b"z" * 32 * KIB + b"\n")
            writer.step()
        until(writer, lambda: everything(ground.log("mallory")) > 200 * KIB)
        writer.tidy()
        assert everything(ground.log("mallory")) == 0
        os.write(descriptor, b"after\n")
        until(writer, lambda: size(ground.log("mallory")))
    os.close(descriptor)
    assert ground.log("mallory").read_bytes() == b"after\n"


def test_what_an_ended_program_said_is_there_in_time(ground: Ground) -> None:
    import threading

    with ground.writer() as writer:
        thread = threading.Thread(target=writer.run)
        thread.start()
        try:
            for number in range(20):
                descriptor = ground.open("alice")
                os.write(descriptor, b"%d" % number)
                os.close(descriptor)
                settle(ground.pipes, ground.logs, ground.log("alice"), 10)
                assert ground.log("alice").read_bytes().endswith(b"%d\n" % number)
        finally:
            writer.stop()
            thread.join()
            writer.close = lambda: None  # type: ignore[method-assign]


def test_without_a_writer_nobody_waits_for_ever(ground: Ground) -> None:
    descriptor = ground.open("alice")
    os.write(descriptor, b"x")
    begun = time.monotonic()
    settle(ground.pipes, ground.logs, ground.log("alice"), 0.2)
    assert 0.2 <= time.monotonic() - begun < 2
    os.close(descriptor)


async def test_the_part_is_ready_while_it_goes_round(ground: Ground) -> None:
    ready = goes_round(ground.pipes)
    assert not (await ready()).ok
    with ground.writer() as writer:
        writer.step()
        assert (await ready()).ok
    (ground.pipes / "alive").write_text(f"{time.monotonic() - 60:020.3f}\n")
    assert "60 s ago" in (await ready()).why


def test_a_stranger_in_place_of_a_pipe_or_log_is_left_alone(ground: Ground) -> None:
    secret = ground.logs.parent / "private"
    secret.write_text("kept")
    descriptor = ground.open("alice")
    ground.log("alice").parent.mkdir(parents=True)
    ground.log("alice").symlink_to(secret)
    (ground.pipes / Pipe.new("bob", PurePosixPath("servers/bob/default.log")).name).write_text("a file")
    with ground.writer() as writer:
        os.write(descriptor, b"overwritten\n")
        os.close(descriptor)
        until(writer, lambda: len(ground.names()) == 1)
    assert secret.read_text() == "kept" and not ground.log("bob").exists()


@pytest.mark.parametrize("log", ["../private/x.log", "../x.log", "servers/../../x.log", "x.txt"])
def test_no_pipe_leads_out_of_the_logs(ground: Ground, log: str) -> None:
    with pytest.raises(TidehubError):
        open_pipe(ground.pipes, ground.logs, Path(f"{ground.logs}/{log}"), "mallory")
    assert Pipe.parse(f"0123456789abcdef,mallory,{log.replace('/', '%2F')}") is None


def file(owner: str, name: str, size: int, changed: float, live: bool = False) -> LogFile:
    return LogFile(f"{owner}/{name}", owner, size, changed, live)


def test_old_logs_go_and_running_programs_come_last() -> None:
    limits = LogLimits(owner=100, total=150, age=50, owner_files=3)
    files = [
        file("a", "old", 1, 10), file("a", "running", 90, 10, live=True), file("a", "new", 60, 99),
        file("b", "1", 10, 90), file("b", "2", 10, 91), file("b", "3", 10, 92), file("b", "4", 10, 93),
        file("c", "1", 40, 99),
    ]  # fmt: skip
    gone = [one.path for one in to_remove(files, limits, now=100)]
    assert gone == ["a/old", "a/new", "b/1", "a/running"]


def test_a_bucket_refills_and_its_debt_is_waited_for() -> None:
    bucket = Bucket(rate=10, burst=100, now=0)
    bucket.take(150, 0)
    assert bucket.level(0) == -50 and bucket.wait(0) == 5
    assert bucket.level(5) == 0 and not bucket.plenty(9.9) and bucket.plenty(10) and bucket.level(1000) == 100
