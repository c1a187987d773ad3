"""Which platform of this machine a uid belongs to.

Every state has its own table of users, and all count from the same first uid. Two platforms of one machine would
give one uid to two users, who could then read each other's files and end each other's programs. So a uid is
claimed for the whole machine before it is given out: one file a uid, made with O_EXCL.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from tidehub.errors import TidehubError
from tidehub.system.files import PRIVATE_DIRECTORY, make_directory, write_private

DEFAULT_DIRECTORY = Path("/var/lib/tidehub-uids")


class UidClaims:
    """The claims of one platform. `state` is its state directory, `platform` its id, which moves with the state."""

    def __init__(self, state: Path, platform: str, directory: Path = DEFAULT_DIRECTORY) -> None:
        self.state = state
        self.platform = platform
        self.directory = directory

    def take(self, uid: int) -> bool:
        """Make `uid` this platform's; False when it is another's. Raises `TidehubError` when nothing can be written."""
        return (
            self._holder(uid)[0] == self.platform or self._write(uid) or self._holder(uid)[0] == self.platform
        )

    def take_abandoned(self, uid: int) -> bool:
        """Take over a uid whose platform is gone with its homes. For when no other uid is left."""
        platform, state = self._holder(uid)
        if platform == self.platform or _lives(state, platform):
            return False
        self._path(uid).unlink(missing_ok=True)
        return self._write(uid)

    def home(self) -> Path | None:
        """The state directory in which this platform lives on this machine; None when it does not."""
        with contextlib.suppress(OSError):
            for path in sorted(self.directory.iterdir()):
                if path.name.isdigit():
                    platform, state = self._holder(int(path.name))
                    if platform == self.platform and _lives(state, platform):
                        return state
        return None

    def holder(self, uid: int) -> Path:
        """The state whose platform has the uid."""
        return self._holder(uid)[1]

    def settle(self, uids: Iterable[int]) -> None:
        """This platform's claims name the state as it is now: a claim of a moved state would look abandoned."""
        for uid in uids:
            platform, state = self._holder(uid)
            if platform == self.platform and state != self.state:
                self._path(uid).unlink(missing_ok=True)
                self._write(uid)

    def _path(self, uid: int) -> Path:
        return self.directory / str(uid)

    def _write(self, uid: int) -> bool:
        claim = json.dumps({"platform": self.platform, "state": str(self.state)})
        fresh = self.directory / f".{uid}.{os.getpid()}"
        try:
            make_directory(self.directory, PRIVATE_DIRECTORY)
            write_private(fresh, claim)
            try:
                # link(2) fails when the name exists, and what appears under it is whole.
                os.link(fresh, self._path(uid))
            except FileExistsError:
                return False
            finally:
                fresh.unlink(missing_ok=True)
        except (OSError, TidehubError) as error:
            reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else error.what
            raise TidehubError(
                f"uid {uid} cannot be claimed in {self.directory}: {reason}",
                expected="a directory that root may write: it keeps platforms of one machine from sharing uids",
            ) from error
        return True

    def _holder(self, uid: int) -> tuple[str, Path]:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            claim = json.loads(self._path(uid).read_text(encoding="utf-8"))
            return str(claim["platform"]), Path(claim["state"])
        # Unreadable: somebody's, and nobody can say whose.
        return "", Path("/")


def _lives(state: Path, platform: str) -> bool:
    if not platform:
        return True
    try:
        return (state / "private" / "platform-id").read_text(encoding="utf-8").strip().startswith(platform)
    except FileNotFoundError:
        return False
    except OSError:
        return True
