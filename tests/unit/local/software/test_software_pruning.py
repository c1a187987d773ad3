"""Old software goes when no platform and no program of the machine uses it, and never before."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tidehub.local.notebook_side import install
from tidehub.local.software.pruning import SMALL_STAY, choosing, mapped_below, prune, write_down

HOLD = """
import mmap, sys
file = open(sys.argv[1][::-1], "rb")
kept = mmap.mmap(file.fileno(), 4096, prot=mmap.PROT_READ)
file.close()
print(1, flush=True)
sys.stdin.read()
"""
"""Maps a file that its command does not name."""


class Place:
    """A software root with environments, and states of platforms."""

    def __init__(self, path: Path) -> None:
        self.root = path / "software"
        self.states = path / "states"
        self.root.mkdir(mode=0o755)

    def made(self, name: str, kind: str = "environments") -> Path:
        directory = self.root / kind / name
        (directory / "bin").mkdir(parents=True)
        (directory / "bin" / "python").symlink_to(sys.executable)
        (directory / "complete.json").write_text("{}")
        return directory

    def state(self, name: str) -> Path:
        state = self.states / name
        state.mkdir(parents=True)
        return state

    def uses(self, state: Path, *directories: Path) -> None:
        write_down(self.root, state, [directory / "bin" / "python" for directory in directories])


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_what_is_no_longer_written_down_goes(place: Place) -> None:
    state, old, new = place.state("one"), place.made("old-py311"), place.made("new-py311")
    node = place.made("123", "node")
    place.uses(state, old, node)
    assert prune(place.root, state) == []
    place.uses(state, new)
    assert prune(place.root, state) == [old, node]
    assert not old.exists() and new.is_dir()
    assert prune(place.root, state) == []


def test_what_nobody_ever_wrote_down_stays(place: Place) -> None:
    state, older = place.state("one"), place.made("older-py311")
    place.uses(state, place.made("new-py311"))
    assert prune(place.root, state) == []
    assert older.is_dir()


def test_another_platform_of_the_machine_keeps_its_own(place: Place) -> None:
    one, other, shared, new = place.state("one"), place.state("other"), place.made("a"), place.made("b")
    place.uses(one, shared)
    place.uses(other, shared)
    place.uses(one, new)
    assert prune(place.root, one) == []
    shutil.rmtree(other)
    assert prune(place.root, one) == [shared], "its state is gone, so nothing will start from it"


def test_what_a_server_was_started_from_stays_until_it_ends(place: Place) -> None:
    state, old, new = place.state("one"), place.made("old"), place.made("new")
    place.uses(state, old)
    place.uses(state, new)
    assert prune(place.root, state, [old / "bin" / "python"]) == []
    assert prune(place.root, state) == [old]


def test_what_any_program_runs_from_stays(place: Place) -> None:
    """As a kernel of somebody else's platform that wrote nothing down."""
    state, old, new = place.state("one"), place.made("old"), place.made("new")
    library = old / "lib.so"
    shutil.copy("/proc/self/exe", library)
    place.uses(state, old)
    place.uses(state, new)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(library)[::-1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as user:
        assert user.stdout is not None and user.stdin is not None
        user.stdout.readline()
        assert mapped_below(place.root) == {"environments/old"}
        assert prune(place.root, state) == []
        user.stdin.close()
        user.wait()
    assert prune(place.root, state) == [old]


def test_a_program_that_has_mapped_nothing_yet_is_known_by_its_command(place: Place) -> None:
    state, old, new = place.state("one"), place.made("old"), place.made("new")
    place.uses(state, old)
    place.uses(state, new)
    with subprocess.Popen(
        [str(old / "bin" / "python"), "-I", "-S", "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    ) as user:
        assert prune(place.root, state) == []
        assert user.stdin is not None
        user.stdin.close()
        user.wait()
    assert prune(place.root, state) == [old]


def test_the_files_in_users_servers_go_with_the_last_server_that_was_started_with_them(place: Place) -> None:
    """Each version of tidehub brings its own, and a server keeps those that it was started with."""
    state, source = place.state("one"), place.states / "tuned_singleuser.py"
    copies = []
    for version in ("one", "two", "three"):
        source.write_text(f"import sys\nsys.stdin.read()  # {version}\n")
        copies.append(install(place.root / "notebook-side", (source,)))
        os.utime(copies[-1], (0, 0))
        write_down(place.root, state, [copies[-1] / source.name])
    oldest, older, now = copies
    with subprocess.Popen(
        [sys.executable, "-I", "-S", str(older / source.name), "--ServerApp.sock=x"], stdin=subprocess.PIPE
    ) as server:
        assert prune(place.root, state) == [oldest]
        assert server.stdin is not None
        server.stdin.close()
        server.wait()
    assert prune(place.root, state) == [older]
    assert prune(place.root, state) == [] and (now / source.name).is_file()


def test_fresh_files_for_users_servers_stay_for_whoever_writes_nothing_down(place: Place) -> None:
    """An ordinary user whose platform is down uses root's software, and root's platform is another version by now."""
    state, source = place.state("one"), place.states / "tuned_singleuser.py"
    copies = []
    for version in ("one", "two"):
        source.write_text(f"# {version}")
        copies.append(install(place.root / "notebook-side", (source,)))
        write_down(place.root, state, [copies[-1] / source.name])
    assert prune(place.root, state) == []
    long_ago = time.time() - SMALL_STAY - 60
    os.utime(copies[0], (long_ago, long_ago))
    assert prune(place.root, state) == [copies[0]]


def test_nothing_goes_while_somebody_chooses(place: Place) -> None:
    state, old, new = place.state("one"), place.made("old"), place.made("new")
    place.uses(state, old)
    place.uses(state, new)
    removed: list[Path] = []
    pruning = threading.Thread(target=lambda: removed.extend(prune(place.root, state)))
    with choosing(place.root), choosing(place.root):
        pruning.start()
        pruning.join(0.5)
        assert pruning.is_alive() and old.is_dir()
        place.uses(state, new, old)
    pruning.join(30)
    assert removed == [], "it was chosen again meanwhile"
    place.uses(state, new)
    assert prune(place.root, state) == [old]


def test_a_record_that_cannot_be_read_keeps_everything(place: Place) -> None:
    state, other, old, new = place.state("one"), place.state("other"), place.made("old"), place.made("new")
    place.uses(state, old)
    place.uses(state, new)
    place.uses(other, new)
    for record in (place.root / "uses").glob("*.json"):
        if str(other) in record.read_text():
            record.write_text('{"state": ')
    with pytest.raises(ValueError, match="Expecting value"):
        prune(place.root, state)
    assert old.is_dir()


def test_the_default_environment_and_links_of_profiles(place: Place) -> None:
    state, default, old, new = place.state("one"), place.made("d"), place.made("old"), place.made("new")
    links = place.root / "profiles"
    links.mkdir()
    (links / "default").symlink_to("../environments/d")
    (links / "gone").symlink_to("../environments/old")
    place.uses(state, default, old)
    place.uses(state, new)
    assert prune(place.root, state) == [old]
    assert [link.name for link in links.iterdir()] == ["default"]


def test_records_are_private(place: Place) -> None:
    place.uses(place.state("one"), place.made("a"))
    assert (place.root / "uses").stat().st_mode & 0o777 == 0o700
