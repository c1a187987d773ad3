"""What the launcher does with limits, by a real program that it starts."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest

from tidehub.local.launching import OPEN_FILES, Order, launcher_command, launcher_environment, packed

ASK = "import resource; print(*resource.getrlimit(resource.RLIMIT_NOFILE))"


def limits_of(order: Order, before: tuple[int, int]) -> tuple[int, int]:
    descriptor = packed(order)
    try:
        done = subprocess.run(
            launcher_command(descriptor),
            env=launcher_environment(),
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


@pytest.mark.parametrize("hard", [4096, OPEN_FILES, OPEN_FILES * 2])
def test_a_program_may_open_many_files_and_the_hard_limit_stays(hard: int) -> None:
    _, here = resource.getrlimit(resource.RLIMIT_NOFILE)
    if os.geteuid() and here != resource.RLIM_INFINITY and here < hard:
        pytest.skip(f"the hard limit here is {here}")
    order = Order(argv=[sys.executable, "-I", "-c", ASK], env={"PATH": "/usr/bin:/bin"}, cwd="/")
    assert limits_of(order, (1024, hard)) == (min(hard, OPEN_FILES), hard)


def test_a_higher_limit_is_not_lowered() -> None:
    _, here = resource.getrlimit(resource.RLIMIT_NOFILE)
    high = OPEN_FILES * 2
    if os.geteuid() and here != resource.RLIM_INFINITY and here < high:
        pytest.skip(f"the hard limit here is {here}")
    order = Order(argv=[sys.executable, "-I", "-c", ASK], env={"PATH": "/usr/bin:/bin"}, cwd="/")
    assert limits_of(order, (high, high)) == (high, high)
