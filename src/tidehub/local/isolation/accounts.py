"""The private /etc/passwd and /etc/group of a user's programs (pure but for `system_accounts`).

No account is ever made on the machine, and none is needed: programs that look up who they are (whoami, ssh, git,
`pwd.getpwuid`) read files of their own. Formats as in passwd(5) and group(5).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path

from .model import User

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
"""Names that programs and shells take as they are."""


@dataclass(frozen=True)
class Accounts:
    """The text of both files."""

    passwd: str
    group: str

    def names(self) -> frozenset[str]:
        """The names of all users and groups."""
        lines = [*self.passwd.splitlines(), *self.group.splitlines()]
        return frozenset(line.partition(":")[0] for line in lines)

    def with_user(self, name: str, user: User, shell: str) -> Accounts:
        """Both files with `user` under this name. First, because readers take the first line that fits."""
        home, shell = (re.sub(r"[:\n]", "-", field) for field in (str(user.home), shell))
        return Accounts(
            f"{name}:x:{user.uid}:{user.gid}:{name}:{home}:{shell}\n{self.passwd}",
            f"{name}:x:{user.gid}:\n{self.group}",
        )


ALONE = Accounts("nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n", "nogroup:x:65534:\n")
"""What a sandbox with one user in it knows of others."""


def system_accounts() -> Accounts:
    """The machine's own files; empty where there is none. Never users' input: only root writes them."""
    texts = []
    for path in (Path("/etc/passwd"), Path("/etc/group")):
        text = ""
        with contextlib.suppress(OSError):
            text = path.read_text(encoding="utf-8", errors="surrogateescape")
        texts.append(text)
    return Accounts(*texts)


def account_name(user: User, taken: Set[str] = frozenset()) -> str:
    """The Unix name of a hub user: their own where programs take it and nobody else has it, never that of another.

    A hub user may be called `root` or `Zoë Müller`. The name of the home directory is safe and of one user only.
    """
    for name in (user.name, user.home.name):
        if _PLAIN.fullmatch(name) and name not in taken:
            return name
    return f"user-{user.uid}"
