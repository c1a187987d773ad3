"""The edge to other programs: secrets go in and come out through pipes, never through arguments or files."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tidehub.secrets.private_file import LARGEST


@dataclass(frozen=True)
class Answer:
    """How a program ended. What it wrote may hold secrets, its complaints too: neither is ever shown."""

    code: int
    output: bytes
    complaint: str

    def __repr__(self) -> str:
        return f"Answer(code={self.code})"


class NotInstalled(Exception):
    """There is no such program."""


class TooSlow(Exception):
    """A program was ended because it did not answer in time."""


def ask(
    argv: Sequence[str],
    *,
    deadline: float,
    given: bytes | None = None,
    env: Mapping[str, str] | None = None,
) -> Answer:
    """Run a program without a terminal for at most `deadline` seconds; `given` is its standard input.

    The program is told nothing of the secrets in our own environment. Raises `NotInstalled`, `TooSlow`.
    """
    try:
        child = subprocess.Popen(
            list(argv),
            env=dict(_without_secrets(os.environ if env is None else env)),
            stdin=subprocess.DEVNULL if given is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise NotInstalled(argv[0]) from error
    try:
        output, complaint = child.communicate(given, timeout=deadline)
    except subprocess.TimeoutExpired:
        _end(child)
        raise TooSlow(argv[0]) from None
    except BaseException:
        _end(child)
        raise
    return Answer(child.returncode, output[: LARGEST + 1], complaint.decode(errors="replace"))


def _without_secrets(environ: Mapping[str, str]) -> Mapping[str, str]:
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith("TIDEHUB_SECRET_") and name != "TIDEHUB_CLIENT_SECRET"
    }


def _end(child: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    child.communicate()
