"""Work with the rights of a user, next to live processes of that user which attack it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tidehub.local.software.interpreter import closed_to_others
from tidehub.system import sweeper, trash
from tidehub.system.as_user import SHIELD, run_as
from tidehub.system.processes import children_of

USER = 70_126
as_root = pytest.mark.skipif(
    os.geteuid() != 0 or closed_to_others(Path(sys.executable)),
    reason="needs root, and an interpreter that other uids may run",
)

ATTACK = """
import ctypes, os, resource, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
print("ready", flush=True)
def works(what):
    try:
        what()
    except (PermissionError, ProcessLookupError, FileNotFoundError):
        return False
    return True
def attach(pid):
    if libc.ptrace(16, pid, 0, 0):  # PTRACE_ATTACH
        raise PermissionError
while True:
    for name in os.listdir("/proc"):
        try:
            found = open(f"/proc/{name}/status").read() if name.isdigit() else "Uid: 0 0"
        except OSError:
            continue
        real, effective = found.split("Uid:")[1].split()[:2]
        if real == effective or effective != str(os.geteuid()):
            continue
        pid = int(name)
        print("seen", flush=True)
        for what, attempt in {
            "traced": lambda: attach(pid),
            "memory": lambda: open(f"/proc/{pid}/mem", "rb"),
            "files": lambda: os.listdir(f"/proc/{pid}/fd"),
            "limits": lambda: resource.prlimit(pid, resource.RLIMIT_CPU, (0, 0)),
            "stopped": lambda: os.kill(pid, signal.SIGSTOP),
            "ended": lambda: os.kill(pid, signal.SIGTERM),
            "killed": lambda: os.kill(pid, signal.SIGKILL),
        }.items():
            if works(attempt):
                print(what, flush=True)
"""
"""Attacks whatever acts with this user's rights and has another real uid, and says what it reached."""


@contextmanager
def attacked() -> Iterator[Callable[[], set[str]]]:
    """A live process of the user; afterwards, all that it said."""
    argv = [sys.executable, "-I", "-S", "-c", ATTACK]
    with subprocess.Popen(
        argv, user=USER, group=USER, extra_groups=[], stdout=subprocess.PIPE, text=True
    ) as attacker:
        said: set[str] = set()
        try:
            assert attacker.stdout is not None and attacker.stdout.readline() == "ready\n"
            yield lambda: said
        finally:
            attacker.kill()
            said |= set((attacker.communicate()[0] or "").split())


@as_root
def test_its_user_sees_it_and_cannot_touch_it() -> None:
    def work() -> bytes:
        time.sleep(2)
        return f"{os.getresuid()} {os.getresgid()} {os.getgroups()}".encode()

    with attacked() as said:
        answer = run_as(USER, work, 20)
    assert answer.decode() == f"{(SHIELD, USER, SHIELD)} {(SHIELD, USER, SHIELD)} []"
    assert said() == {"seen"}


@as_root
def test_what_empties_a_users_tree_is_not_stopped_by_them(tmp_path: Path) -> None:
    """30,000 files: the attacker sees the process for seconds."""
    thing = tmp_path / "thing"
    thing.mkdir()
    for number in range(30_000):
        os.close(os.open(thing / str(number), os.O_CREAT | os.O_WRONLY))
    os.chown(thing, USER, USER)
    assert trash.throw(thing)
    bin_ = os.open(trash.beside(thing), os.O_RDONLY)
    try:
        with attacked() as said:
            turns: dict[str, int] = {}
            sweeper._sweep(bin_, turns)
        assert said() == {"seen"}
        assert not os.listdir(bin_) and not turns  # noqa: PTH208 - a descriptor
    finally:
        os.close(bin_)


@as_root
def test_it_has_the_users_rights_and_what_it_is_given_alone(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("root's")
    secret.chmod(0o600)
    given, kept_back = os.open("/dev/null", os.O_RDONLY), os.open(secret, os.O_RDONLY)

    def work() -> bytes:
        with pytest.raises(PermissionError):
            secret.read_text()
        for regain in (os.setuid, os.seteuid):
            with pytest.raises(PermissionError):
                regain(0)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(kept_back)
        os.fstat(given)
        return b"all of it"

    try:
        assert run_as(USER, work, 20, keep=(given,)) == b"all of it"
    finally:
        os.close(given)
        os.close(kept_back)


def test_one_that_fails_or_takes_too_long_has_no_answer() -> None:
    before = {child.pid for child in children_of(os.getpid())}
    assert run_as(os.geteuid(), lambda: b"answer", 20) == b"answer"
    assert run_as(os.geteuid(), lambda: bytes(1 // 0), 20) == b""
    began = time.monotonic()
    assert run_as(os.geteuid(), lambda: bytes(int(time.sleep(60) or 0)), 0.2) == b""
    assert time.monotonic() - began < 20
    assert {child.pid for child in children_of(os.getpid())} <= before, "nothing of it is left"
