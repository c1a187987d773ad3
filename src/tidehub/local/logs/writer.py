"""The part `logs`: reads the pipes of all users' programs and appends to their log files, within bounds.

Runs as `python -m tidehub.local.logs.writer STATE`. It may be killed at any time: the pipes stay, and the next
one opens them again. It works on chunks, never on lines, so a chunk of a million empty lines costs no more than any
other. Who floods is read at a fixed rate, so the flooding program waits in `write`; others are read meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from tidehub.errors import TidehubError
from tidehub.local.logs.pipes import ALIVE, CAPACITY, DRAFT, Pipe, open_reader
from tidehub.local.logs.policy import Bucket, LogFile, LogLimits, to_remove
from tidehub.local.logs.rotating import LineCutter, RotatingLog
from tidehub.system.files import PRIVATE_DIRECTORY, make_directory, write_private

CHUNK = 64 * 2**10
LOOK = 0.25
"""Seconds between two looks for new pipes: one stat of their directory."""
SCAN = 2.0
"""Seconds after which the directory is listed even if its time says that nothing changed."""
TIDY = 60.0
PARKED_LOOK = 0.05
OWNER = ".owner"
"""In each directory of users' logs: whose they are."""
FAMILIES = ("servers", "clusters")


class _Target:
    """One log file, fed by one pipe or, for a moment, by those of a program and of its successor."""

    def __init__(self, path: Path, limits: LogLimits) -> None:
        self.log = RotatingLog(path, limit=limits.file, kept=limits.kept)
        self.pipes = 0


class _Reading:
    """One pipe being read."""

    def __init__(
        self, pipe: Pipe, descriptor: int, target: _Target, redact: Callable[[bytes], bytes]
    ) -> None:
        self.pipe = pipe
        self.descriptor = descriptor
        self.target = target
        self.cutter = LineCutter(redact)
        self.last_read = time.monotonic()


class _Owner:
    """One user: the rate of all their pipes together, and the pipes that wait for it, in their turn."""

    def __init__(self, limits: LogLimits, now: float) -> None:
        self.bucket = Bucket(limits.owner_rate, limits.owner_burst, now)
        self.parked: deque[_Reading] = deque()
        self.pipes = 0


class LogWriter:
    """All pipes of one platform. `step` is one round; `run` goes on until `stop`."""

    def __init__(
        self, logs: Path, pipes: Path, redact: Callable[[bytes], bytes], limits: LogLimits | None = None
    ) -> None:
        self._logs = logs
        self._pipes = make_directory(pipes, PRIVATE_DIRECTORY)
        self._redact = redact
        self._limits = limits or LogLimits()
        self._epoll = select.epoll()
        self._readings: dict[int, _Reading] = {}
        self._names: set[str] = set()
        self._targets: dict[Path, _Target] = {}
        self._owners: dict[str, _Owner] = {}
        now = time.monotonic()
        self._all = Bucket(self._limits.total_rate, self._limits.total_burst, now)
        self._scanned = self._looked = self._tidied = -1e9
        self._changed = 0
        self._stopping = False
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._alive = os.open(self._pipes / ALIVE, flags, 0o600)

    def run(self) -> None:
        """Work until `stop`; then take what already lies in the pipes, once round, and end."""
        while not self._stopping:
            self.step()
        for reading in list(self._readings.values()):
            self._read(reading, time.monotonic())
        self.close()

    def stop(self) -> None:
        self._stopping = True

    def close(self) -> None:
        """Let go of everything; the pipes of running programs stay for the next writer."""
        for reading in list(self._readings.values()):
            self._write(reading, reading.cutter.rest())
            self._let_go(reading)
        self._epoll.close()
        os.close(self._alive)

    def step(self) -> None:
        """One round: new pipes, what can be read now, and from time to time old logs."""
        now = time.monotonic()
        if now - self._looked >= LOOK:
            self._looked = now
            os.pwrite(self._alive, f"{now:020.3f}\n".encode(), 0)
            self._look(now)
        if now - self._tidied >= TIDY:
            self._tidied = now
            self.tidy()
        parked = self._unpark(now)
        for descriptor, _ in self._epoll.poll(PARKED_LOOK if parked else LOOK, 1024):
            reading = self._readings[descriptor]
            now = time.monotonic()
            if self._may_read(self._owners[reading.pipe.owner], now):
                self._read(reading, now)
            else:
                # Taken out, not only masked: the end of a pipe would be reported all the time.
                self._epoll.unregister(descriptor)
                self._owners[reading.pipe.owner].parked.append(reading)

    def tidy(self) -> None:
        """Remove what is too old or too much; see `policy.to_remove`."""
        for file in to_remove(self._files(), self._limits, time.time()):
            path = Path(file.path)
            if path in self._targets:
                self._targets[path].log.close()
            with contextlib.suppress(OSError):
                path.unlink()
        live = {path.parent for path in self._targets}
        for directory in self._directories():
            with contextlib.suppress(OSError):
                if directory not in live and [entry.name for entry in os.scandir(directory)] == [OWNER]:
                    (directory / OWNER).unlink()
                    directory.rmdir()

    # Rates

    def _may_read(self, owner: _Owner, now: float) -> bool:
        if owner.bucket.level(now) <= 0:
            return False
        return owner.bucket.plenty(now) or self._all.level(now) > 0

    def _unpark(self, now: float) -> bool:
        """Give pipes that waited their turn again, only as many as may be read now; whether any still wait."""
        waiting = False
        for owner in self._owners.values():
            turns = 1 + int(max(0.0, owner.bucket.level(now)) // CHUNK)
            while owner.parked and turns and self._may_read(owner, now):
                turns -= 1
                self._epoll.register(owner.parked.popleft().descriptor, select.EPOLLIN)
            waiting = waiting or bool(owner.parked)
        return waiting

    # Pipes

    def _look(self, now: float) -> None:
        changed = self._pipes.stat().st_mtime_ns
        if changed == self._changed and now - self._scanned < SCAN:
            return
        self._changed, self._scanned = changed, now
        for reading in list(self._readings.values()):
            if now - reading.last_read > SCAN and reading not in self._owners[reading.pipe.owner].parked:
                self._read(reading, now)
        for name in os.listdir(self._pipes):  # noqa: PTH208 - names, not paths
            if name.startswith(DRAFT):
                self._forget_draft(self._pipes / name)
            elif name not in self._names and (pipe := Pipe.parse(name)) is not None:
                self._take(pipe, now)

    def _take(self, pipe: Pipe, now: float) -> None:
        try:
            descriptor = open_reader(self._pipes / pipe.name)
            if descriptor is None:
                return
            path = self._logs / pipe.log
            self._own(path.parent, pipe.owner)
        except (OSError, TidehubError) as error:
            # Too many open files, a full disk: the pipe waits, and the next scan tries again.
            print(f"cannot read the pipe of {pipe.log}: {error}", file=sys.stderr, flush=True)
            return
        owner = self._owners.setdefault(pipe.owner, _Owner(self._limits, now))
        if owner.pipes >= self._limits.owner_pipes:
            own = (one for one in self._readings.values() if one.pipe.owner == pipe.owner)
            self._end(min(own, key=lambda one: one.last_read))
        target = self._targets.setdefault(path, _Target(path, self._limits))
        target.pipes += 1
        owner.pipes += 1
        self._names.add(pipe.name)
        self._readings[descriptor] = reading = _Reading(pipe, descriptor, target, self._redact)
        self._epoll.register(descriptor, select.EPOLLIN)
        # So that there is a log also of a program that says nothing.
        target.log.write(b"")
        # Of a pipe whose program had ended before, poll(2) never tells the end: only reading does.
        left = CAPACITY
        while left >= 0 and (count := self._read(reading, now)):
            left -= count

    def _own(self, directory: Path, owner: str) -> None:
        make_directory(directory, PRIVATE_DIRECTORY)
        mark = directory / OWNER
        if not mark.exists():
            write_private(mark, owner)

    def _read(self, reading: _Reading, now: float) -> int:
        """Read once and write that down; how much it was. Ends the reading of a pipe without writers."""
        try:
            data = os.read(reading.descriptor, CHUNK)
        except BlockingIOError:
            return 0
        if not data:
            # Nobody can write to it any more: its program has ended, with all that it left behind.
            self._write(reading, reading.cutter.rest())
            self._end(reading)
            return 0
        cost = max(len(data), self._limits.read_cost)
        self._owners[reading.pipe.owner].bucket.take(cost, now)
        self._all.take(cost, now)
        reading.last_read = now
        self._write(reading, reading.cutter.feed(data))
        return len(data)

    def _write(self, reading: _Reading, data: bytes) -> None:
        if data:
            reading.target.log.write(data)

    def _end(self, reading: _Reading) -> None:
        with contextlib.suppress(OSError):
            (self._pipes / reading.pipe.name).unlink()
        self._let_go(reading)

    def _let_go(self, reading: _Reading) -> None:
        pipe, target = reading.pipe, reading.target
        owner = self._owners[pipe.owner]
        if reading in owner.parked:
            owner.parked.remove(reading)
        del self._readings[reading.descriptor]
        self._names.discard(pipe.name)
        os.close(reading.descriptor)
        target.pipes -= 1
        if not target.pipes:
            target.log.close()
            self._targets.pop(self._logs / pipe.log, None)
        owner.pipes -= 1
        # Not at once: who starts program after program would have a fresh burst with each.
        if not owner.pipes and owner.bucket.plenty(time.monotonic()):
            del self._owners[pipe.owner]

    def _forget_draft(self, path: Path) -> None:
        """A pipe whose maker was killed before it was given a name."""
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > TIDY:
                path.unlink()

    # Files

    def _directories(self) -> Iterator[Path]:
        for family in FAMILIES:
            with contextlib.suppress(OSError):
                for entry in os.scandir(self._logs / family):
                    if entry.is_dir(follow_symlinks=False):
                        yield Path(entry.path)

    def _files(self) -> Iterator[LogFile]:
        # In the families themselves lie the logs of earlier versions.
        for directory in (*(self._logs / family for family in FAMILIES), *self._directories()):
            with contextlib.suppress(OSError):
                mark = directory / OWNER
                owner = mark.read_text(encoding="utf-8") if mark.exists() else directory.name
                for entry in os.scandir(directory):
                    if entry.name != OWNER and entry.is_file(follow_symlinks=False):
                        found = entry.stat(follow_symlinks=False)
                        live = Path(entry.path) in self._targets
                        yield LogFile(entry.path, owner, found.st_size, found.st_mtime, live)


def main() -> None:
    """Serve the state named in the first argument, until SIGTERM."""
    from tidehub.local.places import Places
    from tidehub.local.secrets import stored_values
    from tidehub.secrets.redaction import Redactor
    from tidehub.secrets.secret import Secret

    places = Places.of(sys.argv[1])
    known = [*stored_values(places.secrets), Secret(os.environ.get("TIDEHUB_OIDC_CLIENT_SECRET", ""))]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    writer = LogWriter(places.logs, places.log_pipes, Redactor(known))
    signal.signal(signal.SIGTERM, lambda number, frame: writer.stop())
    writer.run()


if __name__ == "__main__":
    main()
