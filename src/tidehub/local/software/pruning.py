"""Which of the shared software is in use, and the end of what is not: old environments, Node.js, proxies, and the files
of ours that run in users' servers.

Every platform writes down what its site needs, in `uses/` below the software root; what its users' programs were
started from, it knows by the table of launches; and what any program of the machine has mapped, the kernel tells
(proc(5), maps). A directory goes when it was written down once and none of the three has it any more. What nobody ever
wrote down may be an older tidehub's, and stays.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tidehub.local.software import directories
from tidehub.local.software.layout import PRIVATE_DIRECTORY, PRIVATE_FILE, digest, ours
from tidehub.local.software.progress import Silent

SMALL = "notebook-side"
SMALL_STAY = 86_400.0
"""Seconds after it was made for which an entry of `SMALL` stays in any case: ordinary users who use root's software
write down nothing, and could not make it anew."""
KINDS = ("environments", "node", "proxy", SMALL)
"""Directories of the software root whose entries come and go with sites, release sets and versions of tidehub. A server
maps nothing of the last; its command names it."""
_USES, _SEEN, _LOCK = "uses", "seen", "uses"


@contextmanager
def choosing(root: Path) -> Iterator[None]:
    """Nothing is pruned while this lasts: from the choice of software until it is written down.

    Raises `TidehubError`.
    """
    if not ours(root):
        yield
        return
    try:
        descriptor = directories.open_lock(root, _LOCK)
    except OSError as error:
        raise directories.from_os_error(error, root) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def write_down(root: Path, state: Path, used: Iterable[Path]) -> None:
    """Say what the platform of `state` needs, in place of what it needed before. Nothing where the root is another
    user's, who then prunes by the two other signs alone. Raises `TidehubError`.
    """
    if not ours(root):
        return
    names = sorted({name for path in used if (name := _name(root, path)) is not None})
    content = json.dumps({"state": str(state), "uses": names}, indent=1)
    try:
        folder = directories.make_folder(root / _USES, PRIVATE_DIRECTORY)
        seen = directories.make_folder(folder / _SEEN, PRIVATE_DIRECTORY)
        for name in names:
            if not (mark := seen / name.replace("/", ".")).exists():
                directories.write_text(mark, "", PRIVATE_FILE)
        directories.write_text(folder / _file(state), content + "\n", PRIVATE_FILE)
    except OSError as error:
        raise directories.from_os_error(error, root) from error


def prune(root: Path, state: Path, running: Iterable[Path] = ()) -> list[Path]:
    """Remove what no platform and no running program of the machine uses; returns the paths. `running`: programs of
    the users of `state`, which is this process' own.

    Waits until nobody is choosing software. Raises `OSError`, and `ValueError` when what a platform wrote down cannot
    be read.
    """
    if not ours(root) or not (root / _USES).is_dir():
        return []
    descriptor = directories.open_lock(root, _LOCK)
    removed: list[Path] = []
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # The last is what `tidehub up` starts to see whether the parts' user can.
        used = [*running, (root / "profiles" / "default").resolve()]
        kept = _written_down(root, state) | {name for path in used if (name := _name(root, path))}
        candidates = [one for one in _candidates(root) if _name(root, one) not in kept]
        mapped = mapped_below(root) if candidates else set()
        for directory in candidates:
            name = _name(root, directory)
            if name is None or name in mapped:
                continue
            with directories.locked(root, f"{directory.parent.name}-{directory.name}", Silent()):
                directories.remove(directory)
            (root / _USES / _SEEN / name.replace("/", ".")).unlink(missing_ok=True)
            removed.append(directory)
        if removed:
            _remove_links(root)
    finally:
        os.close(descriptor)
    return removed


def mapped_below(root: Path) -> set[str]:
    """The directories that programs of this machine run from, as `kind/name`. One that this user cannot look into (an
    agent that guards its memory, another user's) is known by the words of its command alone.
    """
    found: set[str] = set()
    base = f"{root.resolve()}/"
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        text = ""
        for name in ("cmdline", "maps"):
            with contextlib.suppress(OSError):  # it has ended, or is not ours to look into
                text += (process / name).read_text(errors="replace").replace("\0", "\n") + "\n"
        for piece in text.split(base)[1:]:
            kind, _, rest = piece.partition("/")
            if kind in KINDS:
                found.add(f"{kind}/{rest.partition('/')[0].strip()}")
    return found


def _written_down(root: Path, state: Path) -> set[str]:
    """What all platforms need; what a removed state needed is forgotten. Raises for a file that cannot be read."""
    kept: set[str] = set()
    for file in (root / _USES).glob("*.json"):
        found = json.loads(file.read_text(encoding="utf-8"))
        if file.name != _file(state) and not Path(found["state"]).exists():
            file.unlink(missing_ok=True)
            continue
        kept.update(str(name) for name in found["uses"])
    return kept


def _remove_links(root: Path) -> None:
    """Links of profiles that are gone with their environments."""
    for link in (root / "profiles").glob("*"):
        if link.is_symlink() and not link.exists():
            link.unlink(missing_ok=True)


def _candidates(root: Path) -> list[Path]:
    seen = root / _USES / _SEEN
    return [
        directory
        for kind in KINDS
        for directory in sorted((root / kind).glob("*"))
        if directory.is_dir()
        and (seen / f"{kind}.{directory.name}").exists()
        and not (kind == SMALL and time.time() - directory.stat().st_mtime < SMALL_STAY)
    ]


def _name(root: Path, path: Path) -> str | None:
    """`kind/name` of the directory that `path` is in; None for one of another kind."""
    try:
        kind, name, *_ = path.relative_to(root).parts
    except ValueError:
        return None
    return f"{kind}/{name}" if kind in KINDS else None


def _file(state: Path) -> str:
    return f"{digest(os.fsencode(state))}.json"
