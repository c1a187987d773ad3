"""A state on a file system that is really full: stopping, refusing and going on never need to write."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervisor_dummies import Up, alive, environment, two_free_ports

from tidehub.errors import TidehubError
from tidehub.local import room
from tidehub.local.isolation.launches import Launches, ProcessHandle
from tidehub.local.isolation.model import LaunchSpec, Limits, User
from tidehub.local.isolation.users import Users
from tidehub.local.places import Places
from tidehub.local.software import pruning
from tidehub.local.supervisor.state import holder
from tidehub.local.supervisor.status import platform_status
from tidehub.local.supervisor.stopping import stop_platform
from tidehub.system.processes import boot_id, read_stat

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system"),
]
SIZE = 400 * 2**20


def _mount(kind: str, image: Path, place: Path) -> str | None:
    place.mkdir()
    if kind == "tmpfs":
        command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=755", "tmpfs", str(place)]
    else:
        with image.open("wb") as file:
            file.truncate(SIZE)
        made = subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], capture_output=True, text=True)
        if made.returncode:
            return made.stderr
        command = ["mount", "-o", "loop", str(image), str(place)]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stderr if done.returncode else None


@pytest.fixture(params=["tmpfs", "ext4"])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    refused = _mount(request.param, tmp_path / "image", place)
    if refused is not None:
        pytest.skip(f"no {request.param} can be mounted here: {refused}")
    yield place
    pid = holder(place / "state" / "private" / "lock") if (place / "state").exists() else None
    if pid:
        os.kill(pid, signal.SIGKILL)
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place: Path) -> None:
    """Write until nothing more fits, in smaller and smaller pieces."""
    with (place / "filled").open("ab", buffering=0) as file:
        for piece in (2**20, 4096, 1):
            try:
                while True:
                    file.write(b"x" * piece)
            except OSError as error:
                assert error.errno == errno.ENOSPC
    with pytest.raises(OSError, match="No space left"):
        (place / "probe").write_bytes(b"x" * 4096)


def user_process(places: Places) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    found = read_stat(process.pid)
    assert found is not None
    spec = LaunchSpec(
        name="s",
        user=User("ana", 0, 0, places.homes / "ana"),
        argv=["sleep"],
        env={},
        cwd=places.homes,
        log=places.logs / "x.log",
        limits=Limits(),
    )
    Launches(Users(places.users, homes=places.homes)).record(
        spec, ProcessHandle(process.pid, found.started, boot=boot_id())
    )
    return process


def running(state: Path) -> Up:
    started = Up(state, two_free_ports(), "--table")
    started.until_said("all is ready")
    return started


@pytest.mark.parametrize("now", [False, True])
def test_down_on_a_full_disk_ends_everybody(small: Path, now: bool) -> None:
    started = running(small / "state")
    places = Places.of(small / "state")
    parts, users = started.parts(), user_process(places)
    assert places.reserve.stat().st_blocks * 512 >= room.RESERVE
    fill(small)
    code = stop_platform(places, lambda text: None, now=now)
    assert code == (1 if now else 0), started.end()
    assert users.wait(5) in (-signal.SIGTERM, -signal.SIGKILL)
    assert not any(alive(pid) for pid in parts.values())
    assert platform_status(places)["state"] == "stopped"
    assert not places.reserve.exists(), "databases and logs could not write"
    started.end()


@pytest.mark.parametrize("now", [False, True])
def test_down_after_a_crash_on_a_full_disk(small: Path, now: bool) -> None:
    started = running(small / "state")
    places = Places.of(small / "state")
    users = user_process(places)
    fill(small)
    started.process.kill()
    started.end()
    assert stop_platform(places, lambda text: None, now=now) == 0
    assert users.wait(5) in (-signal.SIGTERM, -signal.SIGKILL)
    assert platform_status(places)["state"] == "stopped"


def test_the_command_down_on_a_full_disk(small: Path) -> None:
    """With the reserve taken by others too: nothing at all can be written, from the beginning to the end."""
    started = running(small / "state")
    places = Places.of(small / "state")
    places.reserve.unlink()
    users = user_process(places)
    fill(small)
    done = subprocess.run(
        [sys.executable, "-m", "tidehub", "down", "--state", str(places.state)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    assert users.wait(5) in (-signal.SIGTERM, -signal.SIGKILL)
    assert started.end() == 0


def test_status_and_log_name_the_full_disk_and_nothing_new_is_started(small: Path) -> None:
    started = running(small / "state")
    places = Places.of(small / "state")
    fill(small)
    started.until_said("the disk of this platform (")
    disk = platform_status(places)["disk"]
    assert isinstance(disk, dict)
    assert f"disk of this platform ({places.state}" in disk["problem"] and ") is full: " in disk["problem"]
    assert ") is full: " in room.shortage(places)
    # Given back when it is needed, made again when there is room.
    (small / "filled").unlink()
    started.until_said("the disk has room again")
    assert room.shortage(places) == ""
    assert room.keep_reserve(places)
    assert stop_platform(places, lambda text: None) == 0


def test_up_says_that_the_disk_is_full_and_what_helps(small: Path) -> None:
    (small / "state").mkdir()
    fill(small)
    with pytest.raises(TidehubError) as refused:
        Places.of(small / "state").ensure(other_users=False)
    assert "the disk of" in str(refused.value)
    assert "full" in str(refused.value)
    assert "ledger" not in str(refused.value)


def test_what_ran_before_is_gone_back_to_on_a_full_disk(small: Path) -> None:
    """A program that took its place finds no room, and the former one needs none that it did not have."""
    places = Places.of(small / "state").ensure(other_users=False)
    fill(small)
    with pytest.raises(TidehubError, match="is full"):
        places.ensure(other_users=False)
    assert places.ensure(other_users=False, with_room=False).platform_id
    places.remove_run()


def test_old_software_is_removed_from_a_full_disk(small: Path) -> None:
    """That is what makes room; what is in use is written down whole, or not at all and in words."""
    root, state = small / "software", small / "state"
    root.mkdir(mode=0o755)
    state.mkdir()
    for name in ("old", "new"):
        made = root / "environments" / name
        (made / "bin").mkdir(parents=True)
        (made / "bin" / "python").write_bytes(b"x" * 2**20)
        with pruning.choosing(root):
            pruning.write_down(root, state, [made / "bin" / "python"])
    (record,) = (root / "uses").glob("*.json")
    before = record.read_text()
    fill(small)
    with pruning.choosing(root), pytest.raises(TidehubError, match="is full"):
        pruning.write_down(root, state, [root / "environments" / "other" / "bin" / "python"])
    assert record.read_text() == before
    assert pruning.prune(root, state) == [root / "environments" / "old"]
    assert not (root / "environments" / "old").exists() and (root / "environments" / "new").is_dir()
    assert not list(root.rglob("*.part")), "nothing half-written stays"


def test_the_reserve_is_given_back_while_the_platform_runs(small: Path) -> None:
    """ext4 counts as free what nobody can write."""
    started = running(small / "state")
    places = Places.of(small / "state")
    fill(small)
    started.until_said("the reserve is given back")
    assert not places.reserve.exists()
    (places.private / "written").write_bytes(b"x" * 2**20)
    assert stop_platform(places, lambda text: None) == 0
