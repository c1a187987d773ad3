"""The tests themselves are killed while a machine boots."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import guest_image

SUITE = "bookworm"
BOOT = f"from guest_machine import Guest\nGuest({SUITE!r}).__enter__()\n"


def naming(path: Path) -> list[list[str]]:
    """The command lines of all processes that name a path in this directory."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_text(errors="replace").split("\0")
        except OSError:
            continue
        if any(str(path) in word for word in words):
            found.append(words)
    return found


def wait(what: Callable[[], bool], saying: str, within: float = 60) -> None:
    until = time.monotonic() + within
    while not what():
        assert time.monotonic() < until, f"not within {within:g} s: {saying}"
        time.sleep(0.05)


def test_no_process_no_memory_and_no_disk_is_left(tmp_path: Path) -> None:
    search = f"{guest_image.HERE}:{guest_image.CHECKOUT / 'src'}"
    env = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": search}
    tests = subprocess.Popen([sys.executable, "-c", BOOT], env=env)
    try:
        wait(
            lambda: tests.poll() is not None or any(tmp_path.glob("*/changes")),
            "the kernel writes into its copy of the disk",
        )
        words = [word for line in naming(tmp_path) for word in line if word.startswith("uml_dir=")]
        memory = Path(words[0].removeprefix("uml_dir="))
        assert memory.is_dir()
    finally:
        tests.kill()
        tests.wait()
    wait(lambda: naming(tmp_path) == [], "all processes end")
    wait(lambda: not any(tmp_path.iterdir()) and not memory.exists(), "its disk and memory are removed")
