"""Empties a trash directory in the background: `python -I -S sweeper.py DESCRIPTOR`. With a uid after it, what is that
user's in a directory shared with others is removed, for one round.

What lies there was made by users: as deep, as wide and as hostile as they like. So the work is bounded in everything
but its total: two open directories however deep a tree is, no list of a user's names, a few seconds for one thing
before the next has its turn. Nothing is followed, nothing is reached by a path, and as root a directory is only ever
emptied by a process that has become its owner (`as_user.py`); root removes the empty top, by its name in root's own
directory.

One at a time works on a trash directory. What a crash leaves is there for the next.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
import sys
import time
from collections.abc import Callable, Iterator

if __name__ == "__main__":
    # As a program: the package that this file belongs to is found, and nothing else is added to the search.
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))  # noqa: PTH100, PTH120

from tidehub.system.as_user import run_as, step_back

ROUND = 5.0
"""Seconds of work on one thing before the next has its turn."""
ROUNDS = 120
"""Turns after which a thing is left for the next sweeper: somebody may be filling it as fast as it is emptied."""
PATIENCE = 10.0
"""Seconds beyond its round after which a process that became a user is killed."""

DONE, MORE, STUCK = 0, 1, 2

_stubborn: set[int] = set()
"""Users whose process did not come to an end: what is theirs is left for the next sweeper, and delays nobody else."""

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOK = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class _TimeUp(Exception):
    """The round is over."""


class Emptying:
    """One round of work on one directory, by whoever owns it."""

    def __init__(
        self, top: int, until: float, elsewhere: int | None = None, *, of_anybody: bool = False
    ) -> None:
        self._top = top
        self._until = until
        self._elsewhere = elsewhere
        """Where directories of other owners are moved, for their owners to empty. None: they stay."""
        self._owner = None if of_anybody else os.geteuid()
        """Whose directories are entered. None, everybody's: only where nobody but us can reach them."""

    def run(self) -> int:
        """`DONE`: it is empty. `MORE`: the time is over. `STUCK`: what is left cannot be removed."""
        try:
            while True:
                found = removed = False
                for name, is_directory in self._entries(self._top):
                    found = True
                    removed |= self._dissolve(name) if is_directory else _unlink(self._top, name)
                if not found:
                    return DONE
                if not removed:
                    return STUCK
        except _TimeUp:
            return MORE
        except OSError:
            return STUCK

    def _dissolve(self, name: str) -> bool:
        """Remove the directory `name` of the top: what it holds goes, the directories in it come up to the top.

        So depth costs nothing, and no way back ("..") is ever needed, which somebody could have bent.
        """
        inner = _open_own(self._top, name, self._owner)
        if inner is None:
            return self._set_aside(name)
        removed = False
        try:
            for entry, is_directory in self._entries(inner):
                removed |= self._bring_up(inner, entry) if is_directory else _unlink(inner, entry)
        finally:
            os.close(inner)
        return _remove_empty(self._top, name) or removed

    def _bring_up(self, inner: int, name: str) -> bool:
        return _move(inner, name, self._top) or _remove_empty(inner, name)

    def _set_aside(self, name: str) -> bool:
        if _remove_empty(self._top, name):
            return True
        return self._elsewhere is not None and _move(self._top, name, self._elsewhere)

    def _entries(self, directory: int) -> Iterator[tuple[str, bool]]:
        with os.scandir(directory) as entries:
            for entry in entries:
                if time.monotonic() > self._until:
                    raise _TimeUp
                yield entry.name, entry.is_dir(follow_symlinks=False)


def _open_own(parent: int, name: str, owner: int | None) -> int | None:
    """Open a directory of `owner`, whatever mode it was given; None if it is not theirs or cannot be opened."""
    try:
        seen = os.open(name, _LOOK, dir_fd=parent)
        try:
            found = os.fstat(seen)
            if owner is not None and found.st_uid != owner:
                return None
            _make_usable(seen, found)
            return os.open(f"/proc/self/fd/{seen}", _OPEN & ~os.O_NOFOLLOW)
        finally:
            os.close(seen)
    except OSError:
        return None


def _make_usable(seen: int, found: os.stat_result) -> None:
    """Let the owner list and change a directory. `seen` is an O_PATH descriptor, which fchmod(2) refuses; the link
    in /proc leads to the directory that was opened and to no other."""
    if stat.S_IMODE(found.st_mode) & 0o700 != 0o700:
        os.chmod(f"/proc/self/fd/{seen}", 0o700)  # noqa: PTH101 - no pathlib here


def _move(parent: int, name: str, to: int) -> bool:
    fresh = secrets.token_hex(8)
    for _ in range(2):
        try:
            os.rename(name, fresh, src_dir_fd=parent, dst_dir_fd=to)
        except PermissionError:
            # Moving a directory writes into it (its ".."), which its mode may forbid its owner.
            opened = _open_own(parent, name, os.geteuid())
            if opened is None:
                return False
            os.close(opened)
        except OSError:
            return False
        else:
            return True
    return False


def _unlink(parent: int, name: str) -> bool:
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _remove_empty(parent: int, name: str) -> bool:
    try:
        os.rmdir(name, dir_fd=parent)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _remove(trash: int, name: str) -> int:
    """One round of work on one thing in the trash."""
    try:
        found = os.stat(name, dir_fd=trash, follow_symlinks=False)
    except FileNotFoundError:
        return DONE
    if not stat.S_ISDIR(found.st_mode):
        return DONE if _unlink(trash, name) else STUCK
    if found.st_uid == os.geteuid():
        top = _open_own(trash, name, found.st_uid)
        if top is None:
            return STUCK
        try:
            result = Emptying(top, time.monotonic() + ROUND, elsewhere=trash).run()
        finally:
            os.close(top)
    elif os.geteuid() == 0 and found.st_uid not in _stubborn:
        result = _as_owner(trash, name, found.st_uid)
    else:
        return STUCK
    return DONE if _remove_empty(trash, name) else max(result, MORE)


def _as_owner(trash: int, name: str, uid: int) -> int:
    # Opened while root: the trash itself lets nobody else through. The top cannot be exchanged there.
    seen = os.open(name, _LOOK, dir_fd=trash)

    def empty() -> int:
        found = os.fstat(seen)
        if found.st_uid != os.geteuid():
            return STUCK
        _make_usable(seen, found)
        return Emptying(os.open(".", _OPEN, dir_fd=seen), time.monotonic() + ROUND).run()

    try:
        return _round_as(uid, empty, seen)
    finally:
        os.close(seen)


def _round_as(uid: int, empty: Callable[[], int], top: int) -> int:
    said = run_as(uid, lambda: bytes([empty()]), ROUND + PATIENCE, keep=(top,))
    if not said:
        _stubborn.add(uid)
    return said[0] if said else MORE


def _sweep(trash: int, turns: dict[str, int]) -> None:
    while names := _left(trash, turns):
        for name in names:
            result = _remove(trash, name)
            turns[name] = ROUNDS if result == STUCK else turns.get(name, 0) + 1
            if result == DONE:
                del turns[name]


def _left(trash: int, turns: dict[str, int]) -> list[str]:
    return [name for name in os.listdir(trash) if turns.get(name, 0) < ROUNDS]


def main() -> int:
    """Sweep until nothing is left that can be removed."""
    trash = int(sys.argv[1])
    if sys.argv[2:]:
        return _round_as(int(sys.argv[2]), lambda: Emptying(trash, time.monotonic() + ROUND).run(), trash)
    step_back()
    os.set_inheritable(trash, False)
    found = os.fstat(trash)
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return 2
    turns: dict[str, int] = {}
    while _left(trash, turns):
        try:
            fcntl.flock(trash, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0  # the other one looks once more after it has let go
        try:
            _sweep(trash, turns)
        finally:
            fcntl.flock(trash, fcntl.LOCK_UN)
    return 0


if __name__ == "__main__":
    sys.exit(main())
