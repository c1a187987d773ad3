"""What root does for parts and homes, while a process of the uid that owns the place exchanges every name in it.

Nothing outside may change owner, mode or content, and nothing of it may come into a backup.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tidehub.backup import machine, machine_restore
from tidehub.backup.container import BackupReader
from tidehub.errors import TidehubError
from tidehub.local import parts
from tidehub.local.addresses import front_of
from tidehub.local.front.ports import listen_on
from tidehub.local.front.proxy import FrontDoor, front_door
from tidehub.local.front.tls import TlsFiles
from tidehub.local.identity_part import prepare_identity
from tidehub.local.isolation.users import UidClaims, proxy_uid, services_uid
from tidehub.local.places import Places
from tidehub.local.secrets import load_secrets
from tidehub.local.service_files import own_directory, remove_older_layout
from tidehub.local.software.interpreter import closed_to_others
from tidehub.local.supervisor.listeners import Listeners
from tidehub.site.reading.load import load_preset

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or closed_to_others(Path(sys.executable)),
    reason="needs root, and an interpreter that other uids may run",
)

HOSTILE = Path(__file__).with_name("hostile_swaps.py")
SECRET = "root's own, and nobody else's"
USER = 70123


@dataclass
class Ground:
    """A place that every uid can pass, with a state, and beside it what is none of anybody's business."""

    base: Path
    places: Places
    outside: Path

    def setting(self) -> parts.Setting:
        site = load_preset("laptop", environ={}).site
        front = front_of(site, port=8000, demo=True)
        uid = services_uid()
        return parts.Setting(
            site=site,
            places=self.places,
            front=front,
            door=FrontDoor(front.listen, front.port),
            secrets=load_secrets(self.places.secrets),
            ports={"identity": 8081},
            listeners=Listeners(self.places),
            service=parts.Service(uid, uid),
        )

    def untouched(self) -> dict[str, tuple[int, int, int, bytes]]:
        found = {}
        for path in (self.outside, *self.outside.rglob("*")):
            seen = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(seen.st_mode) else b""
            found[str(path)] = (seen.st_uid, seen.st_gid, seen.st_mode, content)
        return found


@pytest.fixture
def ground(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    base = Path(tempfile.mkdtemp(prefix="tidehub-attack-", dir="/tmp"))
    base.chmod(0o711)
    try:
        monkeypatch.setenv("TIDEHUB_SOFTWARE", str(base / "software"))
        monkeypatch.setattr(
            machine_restore, "UidClaims", lambda state, name: UidClaims(state, name, base / "claims")
        )
        places = Places(base / "state").ensure()
        outside = base / "outside"
        outside.mkdir()
        outside.chmod(0o755)
        # The names that root writes, in case a link leads to the directory.
        for name in (
            "victim",
            "identity.json",
            "key.pem",
            "certificate.pem",
            "streams.cjs",
            "front.cjs",
            "cookies.cjs",
        ):
            (outside / name).write_text(SECRET)
            (outside / name).chmod(0o600)
        (base / "hostile.py").write_bytes(HOSTILE.read_bytes())
        (base / "hostile.py").chmod(0o644)
        yield Ground(base, places, outside)
        places.remove_run()
    finally:
        shutil.rmtree(base)


@contextlib.contextmanager
def hostile(ground: Ground, directory: Path, uid: int) -> Iterator[None]:
    """A live attacker in `directory`. Fails when it ended meanwhile, or could not write there."""
    # Opened now: another attacker may exchange its name.
    with (
        _opened(directory) as place,
        subprocess.Popen(
            [sys.executable, "-I", "-S", ground.base / "hostile.py", directory, ground.outside],
            user=uid,
            group=uid,
            extra_groups=[],
            stdout=subprocess.PIPE,
            text=True,
        ) as attacker,
    ):
        assert attacker.stdout is not None
        try:
            assert attacker.stdout.readline() == "ready\n"
            yield
            assert attacker.poll() is None, "the attacker gave up: this test proved nothing"
            assert any(name.startswith("lure-") for name in os.listdir(place))  # noqa: PTH208
        finally:
            attacker.kill()


@contextlib.contextmanager
def _opened(directory: Path) -> Iterator[int]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def owned(directory: Path, uid: int, *files: str) -> Path:
    """A directory of `uid` with files, as a part or a user has it."""
    directory.mkdir(exist_ok=True)
    for name in files:
        (directory / name).write_text("x")
    for path in (*directory.rglob("*"), directory):
        os.chown(path, uid, uid, follow_symlinks=False)
    directory.chmod(0o700)
    return directory


def test_the_identity_providers_preparation(ground: Ground) -> None:
    setting = ground.setting()
    login = prepare_identity(setting, allow_public=False)
    before = ground.untouched()
    succeeded = 0
    with hostile(ground, ground.places.identity, services_uid()):
        for _ in range(15):
            with contextlib.suppress(TidehubError):
                assert (
                    prepare_identity(setting, allow_public=False).passwords.keys() == login.passwords.keys()
                )
                succeeded += 1
            assert ground.untouched() == before
    found = ground.places.identity_config.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (0, services_uid(), 0o640)


def test_the_proxys_start_and_its_certificate(ground: Ground) -> None:
    places, uid = ground.places, proxy_uid()
    source = TlsFiles(ground.base / "fullchain.pem", ground.base / "privkey.pem")
    for path in (source.certificate, source.key):
        path.touch(mode=0o600)
    old = owned(places.services / "proxy", uid, "front.cjs")
    owned(old / "tls", uid, "certificate.pem", "key.pem")
    owned(places.proxy_run, uid, "api.sock")
    before = ground.untouched()

    async def ready() -> None: ...

    door = FrontDoor("127.0.0.1", 0, tls=source)
    with contextlib.ExitStack() as attackers:
        # The inner one first: the outer attacker exchanges its name.
        for directory in (old / "tls", old, places.proxy_run):
            attackers.enter_context(hostile(ground, directory, uid))
        listener = attackers.enter_context(listen_on(door.address, door.port))
        for round_ in range(150):
            source.key.write_text(f"key {round_}")
            source.certificate.write_text(f"certificate {round_}")
            part = front_door(
                door,
                program=("node", "proxy"),
                places=places,
                token=load_secrets(places.secrets).proxy_auth_token,
                hub_target="http://127.0.0.1:1",
                hub_path="/hub/",
                restore=ready,
                listener=listener,
                uid=uid,
                gid=uid,
            )
            assert part.before_start is not None
            with contextlib.suppress(TidehubError):
                asyncio.run(part.before_start())  # type: ignore[arg-type]
            assert ground.untouched() == before
    key = Path(part.argv[part.argv.index("--ssl-key") + 1])
    assert key.read_text() == "key 149"
    found = key.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (0, uid, 0o640)


def test_the_hand_over_of_an_older_layout(ground: Ground) -> None:
    """Root takes a directory in which it left a file of its own, and gives it back, under attack."""
    uid = services_uid()
    own = owned(ground.places.identity, uid, "identity.json", "identity.sqlite")
    before = ground.untouched()
    with _opened(own) as place, hostile(ground, own, uid):
        for round_ in range(500):
            left = os.open(f"left-{round_}", os.O_CREAT | os.O_EXCL, 0o600, dir_fd=place)
            os.close(left)
            own_directory(own, uid=uid, gid=uid)
            assert os.fstat(place).st_uid == uid
            remove_older_layout(ground.places.services)
            assert ground.untouched() == before
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"left-{round_}", dir_fd=place)


def test_a_backup_of_the_identity_provider(ground: Ground) -> None:
    prepare_identity(ground.setting(), allow_public=False)
    with closing(sqlite3.connect(ground.outside / "victim.sqlite")) as database, database:
        database.execute("CREATE TABLE secrets (word TEXT)")
        database.execute("INSERT INTO secrets VALUES (?)", (SECRET,))
    shutil.move(ground.outside / "victim.sqlite", ground.outside / "victim")
    (ground.outside / "victim").chmod(0o600)
    before = ground.untouched()
    with hostile(ground, ground.places.identity, services_uid()):
        for round_ in range(15):
            backup = ground.base / f"{round_}.tar.gz"
            with contextlib.suppress(TidehubError):
                machine.back_up(ground.places, backup)
                kept = BackupReader(backup).files()
                assert not [name for name, file in kept.items() if SECRET.encode() in file.content]
            assert ground.untouched() == before


def users(places: Places) -> None:
    with closing(sqlite3.connect(places.users)) as database, database:
        database.execute("CREATE TABLE people (number INTEGER, name TEXT, directory TEXT, removed INTEGER)")
        database.execute("INSERT INTO people VALUES (?, 'ana', 'ana', 0)", (USER,))


def test_backup_and_restore_of_a_home(ground: Ground) -> None:
    users(ground.places)
    home = ground.places.homes / "ana"
    home.mkdir()
    (home / "work").mkdir()
    (home / "work" / "deep").mkdir()
    (home / "work" / "deep" / "victim").write_text("ana's")
    owned(home, USER, "victim", "key.pem", "thesis")
    before = ground.untouched()
    with hostile(ground, home / "work", USER), hostile(ground, home, USER):
        for round_ in range(25):
            backup, into = ground.base / f"{round_}.tar.gz", ground.base / f"again-{round_}"
            machine.back_up(ground.places, backup)
            machine_restore.restore(backup, Places(into))
            found = [path for path in (into / "homes").rglob("*") if not path.is_symlink()]
            assert {path.lstat().st_uid for path in found} == {USER}
            assert not [path for path in found if path.is_file() and SECRET in path.read_text()]
            assert ground.untouched() == before
            shutil.rmtree(into)
            backup.unlink()
