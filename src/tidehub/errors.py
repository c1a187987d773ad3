"""The one family of errors that a user reads.

Every failure that tidehub foresees is a `TidehubError`: what is wrong, where, what was expected, what to do.
`tidehub.cli.main` prints it and turns it into an exit code; nothing else prints errors.
"""

from __future__ import annotations

from dataclasses import dataclass, field

FAILED = 1
"""Exit code: a problem was found, or the work failed."""
USAGE = 2
"""Exit code: wrong usage (options, or a site file that cannot be used)."""
INTERRUPTED = 130
"""Exit code: the user pressed Ctrl-C."""


@dataclass(frozen=True)
class Place:
    """Where in a file something stands. Lines and columns count from 1; 0 means unknown."""

    file: str
    line: int = 0
    column: int = 0
    end_line: int = field(default=0, compare=False)
    end_column: int = field(default=0, compare=False)
    """Where it ends: the column after its last character."""

    def __str__(self) -> str:
        if not self.line:
            return self.file
        return f"{self.file}:{self.line}:{self.column}" if self.column else f"{self.file}:{self.line}"


class TidehubError(Exception):
    """Something a user can act on. `str(error)` is the whole message, without a traceback.

    Secrets never go into any of the parts.
    """

    exit_code = FAILED

    def __init__(
        self,
        what: str,
        *,
        where: Place | None = None,
        expected: str | None = None,
        fix: str | None = None,
    ) -> None:
        self.what = what
        self.where = where
        self.expected = expected
        self.fix = fix
        super().__init__(what)

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.what}" if self.where else self.what]
        if self.expected:
            lines.append(f"  expected: {self.expected}")
        if self.fix:
            lines.append(f"  to do: {self.fix}")
        return "\n".join(lines)


class UsageError(TidehubError):
    """The command line or the site file asks for something that cannot be."""

    exit_code = USAGE
