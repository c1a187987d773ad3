"""How `tidehub up` parts from its terminal: the signals that ask it to stop, and `--detach`.

With that the supervisor goes on as a daemon; the command returns when all is ready or has failed. A SIGHUP that was
ignored when tidehub was started stays ignored (`nohup`, and `--detach` always).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, NoReturn

from tidehub.errors import FAILED, INTERRUPTED, TidehubError
from tidehub.local.supervisor.platform import Platform, Say
from tidehub.program import stay_here

DAEMON = "TIDEHUB_DAEMON"
"""Set in a daemon, for the program that it may become: what that prints goes to a log, where passwords must not be."""
_METHODS = ("step", "done", "note", "warn")


class DaemonFailed(TidehubError):
    """What the daemon said before it ended."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class _PipeSay:
    """Sends what is said to the command that waits; after that has gone, says nothing."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream: IO[str] | None = stream

    def step(self, text: str) -> None:
        self.send({"step": text})

    def done(self, text: str) -> None:
        self.send({"done": text})

    def note(self, text: str) -> None:
        self.send({"note": text})

    def warn(self, text: str) -> None:
        self.send({"warn": text})

    def send(self, message: dict[str, object]) -> None:
        if self._stream is not None:
            try:
                self._stream.write(json.dumps(message) + "\n")
                self._stream.flush()
            except OSError:
                self.close()

    def close(self) -> None:
        if self._stream is not None:
            with contextlib.suppress(OSError):
                self._stream.close()
            self._stream = None


Body = Callable[[Say, Callable[[Platform], None]], int]
"""`session.run` with its places and preparation: gets what says and what is called when all is ready."""


def detach(body: Body, say: Say, log: Path) -> Sequence[str]:
    """Run `body` in a daemon; returns the closing lines when all is ready. Call before any thread is started.

    Raises `DaemonFailed` with the daemon's reason, `KeyboardInterrupt` (after the daemon was asked to stop).
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            os.setsid()
            if os.fork() != 0:
                os._exit(0)
            _become_daemon(log)
            _serve(body, writing)
        finally:
            os._exit(FAILED)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading, encoding="utf-8") as stream:
        return _follow(stream, say, log)


def _follow(stream: IO[str], say: Say, log: Path) -> Sequence[str]:
    daemon = 0
    try:
        for line in stream:
            message = json.loads(line)
            if "pid" in message:
                daemon = message["pid"]
            elif "ready" in message:
                return [str(text) for text in message["ready"]]
            elif "failed" in message:
                raise DaemonFailed(message["failed"], message["code"])
            else:
                for method in _METHODS:
                    if method in message:
                        getattr(say, method)(message[method])
    except KeyboardInterrupt:
        if daemon:
            with contextlib.suppress(ProcessLookupError):
                os.kill(daemon, signal.SIGTERM)
            for _ in stream:
                pass
        raise
    raise DaemonFailed(f"the supervisor ended without a message\n  to do: look into {log}", FAILED)


def _become_daemon(log: Path) -> None:
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.environ[DAEMON] = "1"
    with contextlib.suppress(FileNotFoundError):
        stay_here()
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(nothing)
    os.close(output)


def _serve(body: Body, writing: int) -> NoReturn:
    say = _PipeSay(os.fdopen(writing, "w", encoding="utf-8"))
    say.send({"pid": os.getpid()})

    def ready(platform: Platform) -> None:
        say.send({"ready": list(platform.closing_lines())})
        say.close()

    code = FAILED
    try:
        code = body(say, ready)
        if code == INTERRUPTED:
            say.send({"failed": "stopped before all was ready", "code": code})
    except TidehubError as error:
        code = error.exit_code
        say.send({"failed": str(error), "code": code})
    except BaseException:
        traceback.print_exc()
        say.send({"failed": "an unexpected error; its traceback is in logs/supervisor.log", "code": FAILED})
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def stop_signals() -> tuple[signal.Signals, ...]:
    """What asks this process to stop."""
    hangup = () if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (signal.SIGHUP,)
    return (signal.SIGINT, signal.SIGTERM, *hangup)


@contextlib.contextmanager
def stop_signals_interrupt() -> Iterator[None]:
    """SIGTERM and SIGHUP, like Ctrl-C, raise `KeyboardInterrupt` in the block."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in stop_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
