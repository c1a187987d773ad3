"""Says how much of the disk users' directories take: `python -I -S measurer.py`, with questions as JSON on
standard input (`[{"uid": 70000, "trees": ["/...", ...]}, ...]`) and one line of JSON for each on standard output.

What lies there was made by users, as in `sweeper.py`, and the same holds here: two open directories however deep a
tree is, a bounded time and bounded memory for each user, nothing followed, nothing reached by a path, and as root a
tree is only entered by a process that has become its owner (`as_user.py`). Nothing is changed. Where something cannot
be counted, the answer says that it is not the whole (`complete`).

As root this process may also look into directories that their owner has closed to themselves: these count as well, else
nobody would have to be above a limit. And it may look at what the user's programs have open, also those that have
closed themselves to the user (PR_SET_DUMPABLE of prctl(2)): a file that was deleted takes room until the last of them
closes it.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import stat
import sys
import time
from collections.abc import Iterator

if __name__ == "__main__":
    # As a program: the package that this file belongs to is found, and nothing else is added to the search.
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))  # noqa: PTH100, PTH120

from tidehub.system.as_user import run_as, step_back

SECONDS = 60.0
"""Of work on all trees of one user. What was counted until then is the answer."""
PATIENCE = 10.0
"""Seconds beyond them after which the process that counts is killed."""
MEMORY = 256 * 2**20
"""Bytes that it may allocate: names of directories that wait to be entered, numbers of files with several names."""
MOST_LINKED = 200_000
"""Files with several names that are remembered, to count each once. Beyond that, each name counts."""

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOK = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_OPEN_TO_ALL = 0o005

Identity = tuple[int, int]


class _Enough(Exception):
    """Time is up."""


class Count:
    """The bytes and the files of some trees, each as far as it can be seen."""

    def __init__(self, until: float) -> None:
        self._until = until
        self._linked: set[Identity] = set()
        self.bytes = 0
        self.files = 0
        self.complete = True

    def tree(self, top: int) -> None:
        """Add what is in the open directory `top`, on its file system."""
        try:
            self._walk(top)
        except (_Enough, OSError, MemoryError):
            self.complete = False

    def deleted(self, devices: set[int]) -> None:
        """Add the user's files on these file systems that have no name any more and are still open somewhere.

        Those that a program has only mapped, or sent to another one that has not taken it yet, nobody but root can see.
        """
        try:
            for process in os.listdir("/proc"):  # noqa: PTH208 - names, not paths
                if process.isdigit() and _belongs_to_us(f"/proc/{process}"):
                    self._open_files(f"/proc/{process}/task", devices)
        except (_Enough, MemoryError):
            self.complete = False

    def _open_files(self, tasks: str, devices: set[int]) -> None:
        # It ends, or does not let us look. A thread may have a table of open files of its own.
        with self._seen_in_part(), os.scandir(tasks) as threads:
            for thread in threads:
                with self._seen_in_part(), os.scandir(f"{thread.path}/fd") as files:
                    for file in files:
                        if time.monotonic() > self._until:
                            raise _Enough
                        with contextlib.suppress(OSError):  # it was closed
                            # Only these are asked for more: the file system of another one may never answer.
                            if os.readlink(file.path).endswith(" (deleted)"):  # noqa: PTH115
                                self._add_deleted(os.stat(file.path), devices)  # noqa: PTH116

    @contextlib.contextmanager
    def _seen_in_part(self) -> Iterator[None]:
        try:
            yield
        except PermissionError:
            self.complete = False
        except OSError:
            pass  # it has ended

    def _add_deleted(self, found: os.stat_result, devices: set[int]) -> None:
        ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and found.st_dev in devices
        if ours and found.st_nlink == 0 and not self._known((found.st_dev, found.st_ino)):
            self._add(found)

    def _walk(self, top: int) -> None:
        here = os.open(".", _OPEN, dir_fd=top)
        try:
            device = self._add_directory(here)
            # For each directory on the way: its name, who it is, the names in it that wait to be entered.
            way = [("", _identity(here), self._directories(here, device))]
            while way:
                if way[-1][2]:
                    inner = self._enter(here, way[-1][2].pop())
                    if inner is None:
                        continue
                    name, descriptor = inner
                    os.close(here)
                    here = descriptor
                    way.append((name, _identity(here), self._directories(here, device)))
                else:
                    way.pop()
                    if way:
                        here = self._back(here, way, top)
        finally:
            os.close(here)

    def _add_directory(self, directory: int) -> int:
        found = os.fstat(directory)
        self._add(found)
        return found.st_dev

    def _directories(self, directory: int, device: int) -> list[str]:
        """Add all that is in `directory`; the names of the directories in it."""
        names = []
        with os.scandir(directory) as entries:
            for entry in entries:
                if time.monotonic() > self._until:
                    raise _Enough
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                except OSError:
                    self.complete = False
                    continue
                if found.st_dev != device:
                    continue
                is_directory = entry.is_dir(follow_symlinks=False)
                if is_directory:
                    names.append(entry.name)
                elif found.st_nlink > 1 and self._known((found.st_dev, found.st_ino)):
                    continue
                self._add(found)
        return names

    def _add(self, found: os.stat_result) -> None:
        self.bytes += found.st_blocks * 512
        self.files += 1

    def _known(self, identity: Identity) -> bool:
        if identity in self._linked:
            return True
        if len(self._linked) < MOST_LINKED:
            self._linked.add(identity)
        return False

    def _enter(self, directory: int, name: str) -> tuple[str, int] | None:
        try:
            inner = os.open(name, _OPEN, dir_fd=directory)
        except FileNotFoundError:
            return None
        except OSError:  # closed by its owner, or something else by now
            self.complete = False
            return None
        found = os.fstat(inner)
        # What others have closed to the user is not looked into, though this process could.
        if found.st_uid == os.geteuid() or found.st_mode & _OPEN_TO_ALL == _OPEN_TO_ALL:
            return name, inner
        os.close(inner)
        self.complete = False
        return None

    def _back(self, here: int, way: list[tuple[str, Identity, list[str]]], top: int) -> int:
        """The last directory of `way`, opened from the one below it; closes `here`. One that was moved meanwhile is
        looked for from the top, and `way` ends where it cannot be found any more."""
        try:
            up = os.open("..", _OPEN, dir_fd=here)
            if _identity(up) == way[-1][1]:
                return up
            os.close(up)
        except OSError:
            pass
        finally:
            os.close(here)
        found = os.open(".", _OPEN, dir_fd=top)
        for place, (name, identity, _) in enumerate(way[1:], start=1):
            inner = self._enter(found, name)
            if inner is None or _identity(inner[1]) != identity:
                if inner is not None:
                    os.close(inner[1])
                self.complete = False
                del way[place:]
                break
            os.close(found)
            found = inner[1]
        return found


def _belongs_to_us(process: str) -> bool:
    """By what the kernel says of its effective uid: its directory is root's if it has closed itself (proc(5))."""
    try:
        owner = os.stat(process).st_uid  # noqa: PTH116
        if owner != 0:
            return owner == os.geteuid()
        with open(f"{process}/status", "rb") as status:  # noqa: PTH123
            uids = next((line.split() for line in status if line.startswith(b"Uid:")), [])
    except OSError:
        return False
    return len(uids) > 2 and int(uids[2]) == os.geteuid()


def _identity(descriptor: int) -> Identity:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def _answer(question: dict[str, object]) -> dict[str, object]:
    """Count the trees, whose parents are ours, in a process that has become their owner."""
    uid, trees = question["uid"], question["trees"]
    assert isinstance(uid, int) and isinstance(trees, list)
    tops, strange = [], False
    for tree in trees:
        try:
            seen = os.open(str(tree), _LOOK)
        except FileNotFoundError:
            continue
        if os.fstat(seen).st_uid == uid:
            tops.append(seen)
        else:
            os.close(seen)
            strange = True

    def count() -> bytes:
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        result = Count(time.monotonic() + SECONDS)
        for top in tops:
            result.tree(top)
        if os.getuid() != os.geteuid():
            # We were root. Else all users are one uid, and nobody knows whose a file without a name is.
            result.deleted({os.fstat(top).st_dev for top in tops})
        found = {"bytes": result.bytes, "files": result.files, "complete": result.complete and not strange}
        return json.dumps(found).encode()

    try:
        said = run_as(uid, count, SECONDS + PATIENCE, keep=tops, look=True)
    finally:
        for top in tops:
            os.close(top)
    nothing: dict[str, object] = {"bytes": 0, "files": 0, "complete": False}
    return {"uid": uid, **(json.loads(said) if said else nothing)}


def main() -> int:
    """Answer the questions one after the other."""
    step_back()
    for question in json.loads(sys.stdin.buffer.read()):
        print(json.dumps(_answer(question)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
