"""The one place that starts programs and waits for them.

Quiet when they succeed; when they fail, the error carries their last lines, without secrets. Long-running
parts are the supervisor's and the isolation's matter, not this module's. Only the standard library: the first
set-up uses it.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tidehub.errors import TidehubError

LAST_LINES = 12
_CREDENTIALS_IN_ADDRESS = re.compile(r"(?<=://)[^/\s@]+@")
_NAMED_SECRET = re.compile(
    r"(?i)\b(authorization|password|passwd|secret|token|api[-_]?key)(['\"]?\s*[=:]\s*)(\S+)"
)


class ProgramFailed(TidehubError):
    """A program failed. `code` is its exit code (negative: the signal), `output` its last lines."""

    def __init__(self, what: str, *, code: int | None, output: str, fix: str | None = None) -> None:
        super().__init__(what, fix=fix)
        self.code = code
        self.output = output

    def __str__(self) -> str:
        quoted = "\n".join(f"    {line}" for line in self.output.splitlines())
        lines = [self.what, quoted] if quoted else [self.what]
        if self.fix:
            lines.append(f"  to do: {self.fix}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Finished:
    """What a program that succeeded wrote."""

    stdout: str
    stderr: str


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` without the given secrets, without credentials in addresses and without values named like
    secrets.
    """
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    return _NAMED_SECRET.sub(r"\1\2***", _CREDENTIALS_IN_ADDRESS.sub("***@", text))


def run(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    deadline: float,
    on_line: Callable[[str], None] | None = None,
    secrets: Sequence[str] = (),
    stdin: str | None = None,
    umask: int = 0o022,
    uid: int | None = None,
    gid: int | None = None,
    most: int | None = None,
) -> Finished:
    """Run a program to its end, at most `deadline` seconds, and return what it wrote.

    `on_line` is called from another thread with each redacted line of standard error. With `uid` (root only)
    the program runs as that user with no other groups. The program has a process group of its own, which is
    killed when the deadline passes or the user presses Ctrl-C, or when it writes more than `most` characters.

    Raises `ProgramFailed`, also for a program that does not exist or takes too long.
    """
    words = [str(word) for word in argv]
    name = Path(words[0]).name
    try:
        child = subprocess.Popen(
            words,
            env=None if env is None else dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
            umask=umask,
            user=uid,
            group=gid,
            extra_groups=None if uid is None else [],
        )
    except OSError as error:
        raise ProgramFailed(
            f"{words[0]} cannot be started: {error.strerror}", code=None, output=""
        ) from error

    out: list[str] = []
    err: list[str] = []
    last: deque[str] = deque(maxlen=LAST_LINES)
    too_much = threading.Event()

    def read(stream: IO[str], kept: list[str], tell: Callable[[str], None] | None) -> None:
        size = 0
        while line := stream.readline(-1 if most is None else most + 1):
            size += len(line)
            if most is not None and size > most:
                too_much.set()
                _signal_group(child)
                return
            kept.append(line)
            plain = redact(line.rstrip(), secrets)
            if plain:
                last.append(plain)
                if tell:
                    tell(plain)

    assert child.stdout and child.stderr
    readers = [
        threading.Thread(target=read, args=(child.stdout, out, None), daemon=True),
        threading.Thread(target=read, args=(child.stderr, err, on_line), daemon=True),
    ]
    for reader in readers:
        reader.start()
    try:
        if stdin is not None:
            _feed(child, stdin)
        code = child.wait(deadline)
        for reader in readers:
            reader.join(5)
    except subprocess.TimeoutExpired:
        _kill_group(child)
        raise ProgramFailed(
            f"{name} took longer than {deadline:.0f} s and was ended", code=None, output="\n".join(last)
        ) from None
    except BaseException:
        _kill_group(child)
        raise
    finally:
        if not any(reader.is_alive() for reader in readers):
            child.stdout.close()
            child.stderr.close()
    if too_much.is_set():
        raise ProgramFailed(f"{name} wrote more than {most} characters and was ended", code=code, output="")
    if code != 0:
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"failed with exit code {code}"
        raise ProgramFailed(f"{name} {how}", code=code, output="\n".join(last))
    return Finished("".join(out), "".join(err))


def _feed(child: subprocess.Popen[str], text: str) -> None:
    assert child.stdin
    try:
        child.stdin.write(text)
        child.stdin.close()
    except BrokenPipeError:
        pass  # its exit code says more


def _kill_group(child: subprocess.Popen[str]) -> None:
    _signal_group(child)
    child.wait()


def _signal_group(child: subprocess.Popen[str]) -> None:
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
