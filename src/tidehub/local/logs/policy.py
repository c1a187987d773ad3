"""How fast logs may grow and which of them stay: one policy for all that users' programs write (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MIB = 2**20


@dataclass(frozen=True)
class LogLimits:
    """Bytes, bytes a second, seconds."""

    file: int = 4 * MIB
    """One file; a full one becomes `NAME.log.1`, and so on."""
    kept: int = 2
    """Full files kept of one log."""
    owner: int = 64 * MIB
    """All logs of one user."""
    total: int = 512 * MIB
    """All logs of all users."""
    owner_files: int = 1000
    """Files of one user: many small logs are work too."""
    age: float = 14 * 86400.0
    """A log whose program has ended is kept this long after its last line."""
    owner_rate: float = 1.0 * MIB
    owner_burst: float = 8.0 * MIB
    total_rate: float = 8.0 * MIB
    total_burst: float = 32.0 * MIB
    owner_pipes: int = 512
    """Programs of one user whose output is read at the same time."""
    read_cost: int = 1024
    """What reading costs at least, however little it brings: pipes in packet mode (pipe(2), O_DIRECT) give single
    bytes, and a reader that counts bytes alone would spend a core on them."""


class Bucket:
    """A token bucket: `rate` bytes a second for ever, `burst` at once. May go into debt by one read."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._at = now

    def level(self, now: float) -> float:
        """What may be taken now; negative: debt."""
        self._level = min(self._burst, self._level + max(0.0, now - self._at) * self._rate)
        self._at = now
        return self._level

    def take(self, amount: float, now: float) -> None:
        self._level = self.level(now) - amount

    def wait(self, now: float, amount: float = 0.0) -> float:
        """Seconds until more than `amount` may be taken; 0 when it may be now."""
        return max(0.0, (amount - self.level(now)) / self._rate)

    def plenty(self, now: float) -> bool:
        """Whether at least half of the burst is left: who wrote little of late is not made to wait for others."""
        return self.level(now) >= self._burst / 2


@dataclass(frozen=True)
class LogFile:
    """One file of users' logs. `live`: the file that a running program's log is written to now."""

    path: str
    owner: str
    size: int
    changed: float
    live: bool


def to_remove(files: Iterable[LogFile], limits: LogLimits, now: float) -> list[LogFile]:
    """The files that go: too old, or the oldest beyond a user's share or that of all; running programs' last.

    A user's own logs make room for each other first; the total then takes from who has most.
    """
    left: dict[str, list[LogFile]] = {}
    gone: list[LogFile] = []
    for file in files:
        if not file.live and now - file.changed > limits.age:
            gone.append(file)
        else:
            left.setdefault(file.owner, []).append(file)
    sizes: dict[str, int] = {}
    for owner, own in left.items():
        # The last of the list is the first to go.
        own.sort(key=lambda file: (file.live, file.changed), reverse=True)
        sizes[owner] = sum(file.size for file in own)
        while own and (sizes[owner] > limits.owner or len(own) > limits.owner_files):
            gone.append(own.pop())
            sizes[owner] -= gone[-1].size
    total = sum(sizes.values())
    while total > limits.total:
        largest = max(sizes, key=lambda owner: sizes[owner])
        gone.append(left[largest].pop())
        sizes[largest] -= gone[-1].size
        total -= gone[-1].size
    return gone
