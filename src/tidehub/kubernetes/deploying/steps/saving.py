"""Copies what is there away before it is changed."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from tidehub.errors import TidehubError
from tidehub.kubernetes.deploying import copies
from tidehub.kubernetes.deploying.copies import BackUp
from tidehub.kubernetes.deploying.running import Step, Work, any_needed
from tidehub.kubernetes.deploying.stored import live_release
from tidehub.kubernetes.deploying.words import now

KEPT = 10
"""Copies of one namespace that stay on this machine."""
SAVED_AT = "saved to "
"""Begin of the journal's note, before the path."""


@dataclass(frozen=True)
class Save:
    """Takes a backup where a release would be changed. It is there for a rollback of the database."""

    releases: tuple[str, ...]
    """Names of what may be there already."""
    guarded: tuple[Step, ...]
    """Steps before which to save."""
    back_up: BackUp
    must: bool = False
    """Whether the database has to be in it: where it is about to be changed for good."""
    name: str = "save"
    title: str = "Copy of what is there"

    def needed(self, work: Work) -> bool:
        """Where something is there, and something would be done to it."""
        if not work.options.save or not any(live_release(work, name) for name in self.releases):
            return False
        return any_needed(work, self.guarded)

    def run(self, work: Work) -> str:
        """Raises `TidehubError` where the database must be saved and cannot be."""
        path = place(work) / f"{now().replace(':', '')}.tar.gz"
        there = copies.has_hub(work)
        # Without a hub that runs, a pod of our own has to hold the volume: minutes, where its image is what fails.
        database = there and (self.must or copies.hub_runs(work))
        if there and not database:
            work.say.warn(
                "The hub does not run: its database is not in the copy, and stays as it is on its volume"
            )
        try:
            said = self.back_up(work, path, database)
        except TidehubError as error:
            if not database:
                raise
            if self.must:
                raise TidehubError(
                    f"the hub's database cannot be copied, and this changes it for good: {error.what}",
                    expected="a copy to go back to",
                    fix="find out why; --no-backup continues without a copy to go back to",
                ) from error
            work.say.warn(f"The hub's database is not in the copy: {error.what}")
            said = self.back_up(work, path, False)
        prune(path.parent)
        return f"{SAVED_AT}{path} ({said})"


def place(work: Work) -> Path:
    """The directory of this namespace's copies, 0700. Raises `TidehubError`."""
    root = platformdirs.user_state_path("tidehub-copies")
    safe = re.sub(r"[^A-Za-z0-9.-]+", "-", work.cluster.name).strip("-.") or "cluster"
    directory = root / safe / work.namespace
    try:
        for one in (root, root / safe, directory):
            one.mkdir(mode=0o700, parents=True, exist_ok=True)
            # What is in it holds secrets; an earlier umask or hand may have left it open.
            one.chmod(0o700)
    except OSError as error:
        raise TidehubError(
            f"the directory of copies {directory} cannot be made ({error.strerror or error})",
            fix="make room or give access to it; XDG_STATE_HOME chooses another place",
        ) from error
    return directory


def prune(directory: Path, keep: int = KEPT) -> None:
    """Forgets the oldest copies."""
    for old in sorted(directory.glob("*.tar.gz"))[:-keep]:
        with contextlib.suppress(OSError):
            old.unlink()


def saved_path(note: str) -> Path | None:
    """The file in a journal's note; None where nothing was saved."""
    if not note.startswith(SAVED_AT):
        return None
    return Path(note.removeprefix(SAVED_AT).rpartition(" (")[0])
