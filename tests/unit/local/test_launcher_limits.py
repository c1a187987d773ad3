"""What the launcher does with limits, by a real program that it starts."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest

from tidehub.local.launching import OPEN_FILES, Order, launcher_command, packed
from tidehub.system.processes import interpreter_environment

ASK = "import resource; print(*resource.getrlimit(resource.RLIMIT_NOFILE))"


def limits_of(order: Order, before: tuple[int, int]) -> tuple[int, int]:
    descriptor = packed(order)
    try:
        done = subprocess.run(
            launcher_command(descriptor),
            env=interpreter_environment(),
            pass_fds=[descriptor],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, before),
        )
    finally:
        os.close(descriptor)
    soft, hard = done.stdout.split()
    return int(soft), int(hard)


@pytest.mark.parametrize(
    ("asked", "before", "after"),
    [
        (OPEN_FILES, (1024, 4096), (4096, 4096)),
        (2048, (1024, 8192), (2048, 8192)),
        (2048, (4096, 8192), (4096, 8192)),
        (None, (1024, 4096), (1024, 4096)),
    ],
)
def test_a_program_may_open_many_files_and_the_hard_limit_stays(
    asked: int | None, before: tuple[int, int], after: tuple[int, int]
) -> None:
    order = Order(
        argv=[sys.executable, "-I", "-c", ASK], env={"PATH": "/usr/bin:/bin"}, cwd="/", open_files=asked
    )
    assert limits_of(order, before) == after
