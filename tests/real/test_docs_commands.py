"""The commands of the pages about one machine, as they stand there: an ordinary user with an empty home runs them in
the order of the pages. `tests/unit/docs/shell_blocks.toml` says which commands these are."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from real_platform import REPOSITORY, UNPRIVILEGED_UID

from tidehub.local.software import layout

pytestmark = pytest.mark.real

README, TUTORIAL = "README.md", "docs/tutorial/first-platform.md"
REAL_SITE, CHANGE = "docs/how-to/real-site.md", "docs/how-to/change-and-upgrade.md"
WRONG, BACK_UP = "docs/how-to/when-something-is-wrong.md", "docs/how-to/back-up.md"
SIZE, REMOVE = "docs/how-to/size-a-machine.md", "docs/how-to/remove-tidehub.md"
LIST = tomllib.loads((REPOSITORY / "tests" / "unit" / "docs" / "shell_blocks.toml").read_text("utf-8"))
MINUTES = 10 * 60


@dataclass
class Newcomer:
    """A user with a checkout and nothing else. Paths that the pages only give as examples lie in their home."""

    home: Path
    uid: int
    ran: set[tuple[str, str]]

    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "PATH": f"{self.home}/checkout:/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "TIDEHUB_SOFTWARE": str(layout.default_root()),
            # The pages' port is the default one, and others use this machine.
            "TIDEHUB__MACHINE__PORT": "0",
        }

    def start(self, page: str, command: str, below: str = "checkout") -> subprocess.Popen[str]:
        """The command as a shell gets it, at the place where the reader stands."""
        assert LIST[page][command] == "tests/real/test_docs_commands.py"
        self.ran.add((page, command))
        here = {"/etc/tidehub": f"{self.home}/etc", "/opt/tidehub-src": f"{self.home}/checkout"}
        here |= {
            "/backup/tidehub-2026-11-22.tar.gz": f"{self.home}/backup/*.tar.gz",
            "/backup": f"{self.home}/backup",
        }
        for example, real in here.items():
            command = command.replace(example, real) if real not in command else command
        return subprocess.Popen(
            ["/bin/sh", "-c", f"exec {command}" if command.startswith(("./", "tidehub ")) else command],
            env=self.environment(),
            cwd=self.home / below,
            user=self.uid,
            group=self.uid,
            extra_groups=[] if os.geteuid() == 0 else None,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, page: str, command: str, below: str = "checkout") -> str:
        """What it printed. Fails unless it ends with 0."""
        started = self.start(page, command, below)
        told, _ = started.communicate(timeout=MINUTES)
        assert started.returncode == 0, f"{page}: {command}: {told}"
        return told

    def until(self, started: subprocess.Popen[str], words: str) -> str:
        """What it printed until a line with these words came."""
        assert started.stdout is not None
        told = ""
        while words not in told:
            line = started.stdout.readline()
            assert line, told
            told += line
        return told

    def up(self, page: str, command: str) -> subprocess.Popen[str]:
        """A platform in the foreground, ready."""
        started = self.start(page, command)
        self.until(started, "or with Ctrl-C here.")
        return started

    def ctrl_c(self, started: subprocess.Popen[str]) -> None:
        started.send_signal(signal.SIGINT)
        told, _ = started.communicate(timeout=MINUTES)
        assert started.returncode == 0, told


@pytest.fixture(scope="module")
def newcomer() -> Iterator[Newcomer]:
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    uid = UNPRIVILEGED_UID if os.geteuid() == 0 else os.geteuid()
    with tempfile.TemporaryDirectory(prefix="tidehub-docs-") as directory:
        home = Path(directory)
        for name in ("checkout", "etc", "backup"):
            (home / name).mkdir()
        program = home / "checkout" / "tidehub"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -I -m tidehub "$@"\n')
        program.chmod(0o755)
        shutil.copytree(REPOSITORY / "examples", home / "checkout" / "examples")
        if os.geteuid() == 0:
            for path in (home, *home.rglob("*")):
                os.chown(path, uid, uid)
        made = Newcomer(home, uid, set())
        try:
            yield made
        finally:
            subprocess.run(
                [program, "down", "--now"],
                env=made.environment(),
                cwd=home,
                user=uid,
                group=uid,
                extra_groups=[] if os.geteuid() == 0 else None,
                capture_output=True,
                timeout=MINUTES,
            )


def test_a_real_site_is_tried_and_one_of_your_own_begun(newcomer: Newcomer) -> None:
    example = "./tidehub up examples/protocoast/tidehub.yaml --demo-login --fit"
    newcomer.ctrl_c(newcomer.up(README, example))
    newcomer.ctrl_c(newcomer.up(REAL_SITE, example))

    newcomer.run(README, "./tidehub init mysite --preset egi-pangeo")
    newcomer.run(README, "./tidehub validate mysite/tidehub.yaml")
    assert "One Dask cluster" in newcomer.run(README, "./tidehub limits mysite/tidehub.yaml")
    shutil.rmtree(newcomer.home / "checkout" / "mysite")
    newcomer.run(REAL_SITE, "tidehub init mysite --preset egi-pangeo")
    newcomer.run(REAL_SITE, "cd mysite")
    newcomer.run(REAL_SITE, "tidehub validate", "checkout/mysite")
    newcomer.run(REAL_SITE, "tidehub limits", "checkout/mysite")


def test_the_first_platform(newcomer: Newcomer) -> None:
    # The tutorial begins on a machine without a platform; here another site was served before.
    shutil.rmtree(newcomer.home / ".local" / "state" / "tidehub")
    newcomer.ctrl_c(newcomer.up(README, "./tidehub up"))
    shown = newcomer.up(TUTORIAL, "./tidehub up")
    assert "ready" in newcomer.run(TUTORIAL, "./tidehub status")
    followed = newcomer.start(TUTORIAL, "./tidehub logs hub -f")
    newcomer.until(followed, "\n")
    followed.send_signal(signal.SIGINT)
    followed.communicate(timeout=MINUTES)
    assert followed.returncode == 130
    assert "All is well" in newcomer.run(TUTORIAL, "./tidehub check")

    assert "running at" in newcomer.run(WRONG, "tidehub status")
    assert "All is well" in newcomer.run(WRONG, "tidehub check")
    assert "supervisor | " in newcomer.run(WRONG, "tidehub logs")
    newcomer.ctrl_c(shown)


def test_change_keep_and_bring_back(newcomer: Newcomer) -> None:
    checkout = newcomer.home / "checkout"
    site = checkout / "tidehub.yaml"
    laptop = (REPOSITORY / "src/tidehub/site/presets/laptop.yaml").read_text("utf-8")
    site.write_text(laptop)
    newcomer.run(CHANGE, "tidehub up tidehub.yaml --detach")
    site.write_text(laptop.replace("guarantee: 512 MiB, limit: 2 GiB", "guarantee: 512 MiB, limit: 4 GiB"))
    newcomer.run(CHANGE, "tidehub validate tidehub.yaml")
    newcomer.run(SIZE, "tidehub validate tidehub.yaml")
    assert "One Dask cluster" in newcomer.run(SIZE, "tidehub limits tidehub.yaml")
    changed = newcomer.run(CHANGE, "tidehub reload")
    assert "notebooks.memory.limit: 2 GiB -> 4 GiB" in changed
    assert "Restarted parts: gateway, hub." in changed
    assert "Nothing has changed" in newcomer.run(CHANGE, "/opt/tidehub-src/tidehub reload")
    newcomer.run(CHANGE, "tidehub down --keep")
    newcomer.run(CHANGE, "tidehub up tidehub.yaml --detach")

    shutil.copy(site, newcomer.home / "etc" / "tidehub.yaml")
    backup = "tidehub backup /etc/tidehub/tidehub.yaml --output /backup/tidehub-$(date +%F).tar.gz"
    assert "It holds secrets" in newcomer.run(BACK_UP, backup)
    newcomer.run(CHANGE, "tidehub down --keep")
    shutil.rmtree(newcomer.home / ".local" / "state" / "tidehub")
    newcomer.run(BACK_UP, "tidehub restore /backup/tidehub-2026-11-22.tar.gz")
    newcomer.run(BACK_UP, "tidehub up --detach /etc/tidehub/tidehub.yaml")
    assert "running at" in newcomer.run(WRONG, "tidehub status")
    assert "Stopped. What stays:" in newcomer.run(REMOVE, "tidehub down")


def test_nothing_of_the_list_is_left_out(newcomer: Newcomer) -> None:
    """Runs last: the others have run by then, or this file was not run as a whole."""
    listed = {
        (page, command)
        for page, commands in LIST.items()
        for command, by in commands.items()
        if by == "tests/real/test_docs_commands.py"
    }
    if len(newcomer.ran) < 3:
        pytest.skip("the other tests of this file did not run")
    assert listed - newcomer.ran == set()
