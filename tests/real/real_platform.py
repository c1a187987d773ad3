"""A real platform in a directory of its own: started, asked and stopped by the command line."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx

from tidehub.checks.local_target import local_target
from tidehub.checks.target import Target
from tidehub.identity.demo_accounts import read_demo_passwords
from tidehub.local.places import Places
from tidehub.local.secrets import load_secrets
from tidehub.local.software import layout

if TYPE_CHECKING:
    import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE = REPOSITORY / "src"
UNPRIVILEGED_UID = 61234 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
"""A uid without an account, outside the range that users get; of each process of the tests another."""
_UP_SECONDS = 900
"""The first start on a machine brings the software."""


@dataclass
class RealPlatform:
    """One running platform. `python` and `uid` say as whom its commands run."""

    state: Path
    python: str = sys.executable
    uid: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    arguments: Sequence[str] = ()

    @property
    def places(self) -> Places:
        return Places.of(self.state)

    @property
    def run(self) -> Path:
        """Where its sockets are; `Places.run` would name the directory of whoever runs the tests."""
        return Path(self.status()["run"])

    @property
    def target(self) -> Target:
        """What `tidehub check` knows of it."""
        return local_target(self.places)

    @property
    def address(self) -> str:
        return self.target.address

    @property
    def accounts(self) -> dict[str, str]:
        """Trial passwords by user name."""
        return read_demo_passwords(self.places.identity)

    def command(self, *words: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """`tidehub WORDS --state ...`, whatever its exit code. Standard input is closed, as for a cron job."""
        line, *rest = words
        return subprocess.run(
            [self.python, "-I", "-m", "tidehub", line, "--state", str(self.state), *rest],
            env=self._environment(),
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            user=self.uid,
            group=self.uid,
            extra_groups=None if self.uid is None else [],
        )

    def _environment(self) -> dict[str, str]:
        passed = ("PATH", "LANG", "TIDEHUB_SOFTWARE", "HTTPS_PROXY", "https_proxy", "SSL_CERT_FILE")
        kept = {name: os.environ[name] for name in passed if name in os.environ}
        home = os.environ.get("HOME", "/") if self.uid is None else str(self.state.parent)
        return {**kept, "HOME": home, **self.environment}

    def up(self) -> None:
        """Starts it and waits until it is ready. Fails with everything it said."""
        done = self.command("up", *self.arguments, "--detach", timeout=_UP_SECONDS)
        assert done.returncode == 0, f"tidehub up failed:\n{done.stdout}\n{done.stderr}\n{self.log_tails()}"

    def down(self) -> subprocess.CompletedProcess[str]:
        return self.command("down")

    def status(self) -> dict[str, Any]:
        """`tidehub status --json`."""
        found: dict[str, Any] = json.loads(self.command("status", "--json").stdout)
        return found

    def part(self, name: str) -> dict[str, Any]:
        """One part of the platform in its status."""
        return next(part for part in self.status()["parts"] if part["name"] == name)

    def kill(self, part: str) -> int:
        """`kill -9` of one part; returns the pid it had."""
        pid = int(self.part(part)["pid"])
        os.kill(pid, signal.SIGKILL)
        return pid

    def check(self, *words: str) -> tuple[int, dict[str, Any]]:
        """`tidehub check --json`: exit code and report."""
        done = self.command("check", "--json", *words, timeout=900)
        assert done.stdout, done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        return done.returncode, report

    def send_everybody_home(self) -> None:
        """Stops every notebook server, so that a test that failed half-way does not fail the next ones."""
        ports = json.loads((self.places.private / "ports.json").read_text())
        token = load_secrets(self.places.secrets).operator_token.reveal()
        hub = f"http://127.0.0.1:{ports['hub']}{urlsplit(self.address).path}hub/api"
        with httpx.Client(headers={"Authorization": f"token {token}"}, timeout=30, trust_env=False) as client:
            try:
                users = client.get(f"{hub}/users?state=active").json()
                for user in users if isinstance(users, list) else []:
                    for server in user["servers"]:
                        client.delete(f"{hub}/users/{user['name']}/servers/{server}")
            except httpx.HTTPError:
                return

    def log_tails(self, lines: int = 25) -> str:
        """The end of every log, for a failed test."""
        shown = []
        for path in sorted(self.places.logs.rglob("*.log")):
            with contextlib.suppress(OSError):
                text = path.read_text(errors="replace").splitlines()[-lines:]
                shown.append(f"--- {path.relative_to(self.places.logs)}\n" + "\n".join(text))
        return "\n".join(shown)


@contextlib.contextmanager
def running_platform(
    name: str,
    *arguments: str,
    uid: int | None = None,
    python: str = sys.executable,
    demo: bool = True,
    port: int | None = None,
    **environment: str,
) -> Iterator[RealPlatform]:
    """A platform in a directory of its own, with a short lower-case path that every uid may walk through.

    Without `demo` users sign in at the site's own provider.
    """
    root = Path(tempfile.mkdtemp(prefix=f"th-{name}-".lower(), dir="/tmp"))
    root = root.rename(root.with_name(root.name.lower()))
    root.chmod(0o755)
    if uid is not None:
        os.chown(root, uid, uid)
    platform = RealPlatform(
        root / "s",
        python,
        uid,
        environment,
        ["--port", str(port or free_port()), *(["--demo-login"] if demo else []), *arguments],
    )
    try:
        platform.up()
        yield platform
    finally:
        stopped = platform.down()
        left = _left_over(platform)
        shutil.rmtree(root, ignore_errors=True)
    assert stopped.returncode == 0, f"tidehub down failed:\n{stopped.stdout}\n{stopped.stderr}"
    assert not left, f"processes outlived tidehub down: {left}"


@contextlib.contextmanager
def unprivileged_platform(
    request: pytest.FixtureRequest, name: str, **environment: str
) -> Iterator[RealPlatform]:
    """The built-in site as an ordinary user runs it: as whoever runs the tests, or as a uid without an account."""
    import pytest  # not at the top: the Debian machines of tests/guest use this module, and have no pytest

    if os.geteuid() != 0:
        with running_platform(name, **environment) as started:
            yield started
        return
    if not _others_run(sys.executable):
        pytest.skip("another user may not run the environment of these tests")
    # The software that the platform of the tests uses: readable by everybody, and complete by now.
    request.getfixturevalue("platform")
    environment = {"TIDEHUB_SOFTWARE": str(layout.default_root()), **environment}
    with running_platform(name, uid=UNPRIVILEGED_UID, **environment) as started:
        yield started


def _others_run(python: str) -> bool:
    try:
        tried = subprocess.run(
            [python, "-I", "-c", "import jupyterhub, tidehub"],
            user=UNPRIVILEGED_UID,
            group=UNPRIVILEGED_UID,
            extra_groups=[],
            cwd="/",
            env={"PATH": "/usr/bin:/bin"},
            capture_output=True,
        )
    except PermissionError:
        return False
    return tried.returncode == 0


def _left_over(platform: RealPlatform) -> list[str]:
    """Command lines that still name the state directory, a few seconds after its end."""
    deadline = time.monotonic() + 5
    while left := [line for line in _command_lines() if f"{platform.state}/" in line]:
        if time.monotonic() > deadline:
            return left
        time.sleep(0.1)
    return []


def _command_lines() -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if int(path.parent.name) != os.getpid():
                yield path.read_bytes().replace(b"\0", b" ").decode(errors="replace")


def free_port() -> int:
    """A port of the loopback address that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
