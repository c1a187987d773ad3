"""A state into a backup and back: what is refused, and that a refusal changes nothing."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tidehub.backup import machine, machine_restore
from tidehub.backup.container import BackupReader
from tidehub.errors import TidehubError
from tidehub.local.isolation.users import UidClaims
from tidehub.local.places import Places


@pytest.fixture(autouse=True)
def claims_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(
        machine_restore, "UidClaims", lambda state, platform: UidClaims(state, platform, tmp_path / "claims")
    )
    return tmp_path / "claims"


def table(path: Path, make: str, *rows: tuple[object, ...]) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(make)
        for row in rows:
            database.execute(f"INSERT INTO {make.split()[2]} VALUES ({', '.join('?' * len(row))})", row)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """A state as `up` leaves it, in its essentials."""
    state = tmp_path / "s"
    found = Places(state)
    for path in (found.private, found.identity, found.logs, found.homes / "ana", found.services / "proxy"):
        path.mkdir(parents=True)
    found.id_file.write_text("0123456789abcdef0123456789abcdef\n")
    found.secrets.write_text('{"hub_cookie_secret": ["s3cr3t"]}')
    found.secrets.chmod(0o600)
    found.hub_config.write_text(json.dumps({"database_url": f"sqlite:///{found.hub_database}"}))
    found.lock.touch()
    table(found.hub_database, "CREATE TABLE users (name TEXT)", ("ana",))
    owner = os.geteuid() or 300_001
    table(
        found.users,
        "CREATE TABLE people (number INTEGER, name TEXT, directory TEXT, removed INTEGER)",
        (owner, "Ana", "ana", 0),
        (owner + 1, "gone", "gone", 1),
    )
    table(found.ledger, "CREATE TABLE claims (id TEXT)")
    (found.identity / "identity.json").write_text("{}")
    table(found.identity / "identity.sqlite", "CREATE TABLE accounts (name TEXT)")
    (found.services / "proxy" / "routes").write_text("of a process")
    (found.homes / "ana" / "thesis.txt").write_text("chapter one")
    if os.geteuid() == 0:
        for path in (found.homes / "ana", found.homes / "ana" / "thesis.txt"):
            os.chown(path, owner, owner)
    return found


def moved(places: Places) -> Places:
    """The state is moved away, as after the loss of a disk; its old place is empty again."""
    places.state.rename(places.state.with_name("before"))
    return Places(places.state)


def test_everything_that_cannot_be_made_again_comes_back(places: Places, tmp_path: Path) -> None:
    made = machine.back_up(places, tmp_path / "b.tar.gz")
    assert (made.users, made.homes, made.warnings) == (2, True, ())
    back = moved(places)
    done = machine_restore.restore(tmp_path / "b.tar.gz", back)
    assert (done.users, done.homes) == (2, True)
    assert back.platform_id == "01234567"
    assert back.secrets.read_text() == '{"hub_cookie_secret": ["s3cr3t"]}'
    assert back.secrets.stat().st_mode & 0o777 == 0o600
    assert back.private.stat().st_mode & 0o777 == 0o700
    thesis = back.homes / "ana" / "thesis.txt"
    assert thesis.read_text() == "chapter one"
    assert thesis.stat().st_uid == (os.geteuid() or 300_001)
    with closing(sqlite3.connect(back.hub_database)) as database:
        assert database.execute("SELECT name FROM users").fetchall() == [("ana",)]
    assert (back.identity / "identity.sqlite").exists()
    for gone in (
        back.ledger,
        back.hub_config,
        back.lock,
        back.identity / "identity.json",
        back.services / "proxy",
    ):
        assert not gone.exists()


def test_a_database_in_use_is_copied_as_of_one_moment(places: Places, tmp_path: Path) -> None:
    with closing(sqlite3.connect(places.hub_database)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        with database:
            database.execute("INSERT INTO users VALUES ('ben')")
        database.execute("BEGIN")
        database.execute("INSERT INTO users VALUES ('half')")
        machine.back_up(places, tmp_path / "b.tar.gz")
    kept = BackupReader(tmp_path / "b.tar.gz").files()["state/private/hub.sqlite"]
    with closing(sqlite3.connect(":memory:")) as copy:
        copy.deserialize(kept.content)
        assert copy.execute("SELECT name FROM users").fetchall() == [("ana",), ("ben",)]


def test_a_damaged_database_stops_the_backup(places: Places, tmp_path: Path) -> None:
    raw = bytearray(places.hub_database.read_bytes())
    raw[4096:4200] = b"\xff" * 104
    places.hub_database.write_bytes(raw)
    with pytest.raises(TidehubError, match=r"hub\.sqlite"):
        machine.back_up(places, tmp_path / "b.tar.gz")
    assert not (tmp_path / "b.tar.gz").exists()


def test_without_homes_they_are_left_out_and_said(places: Places, tmp_path: Path) -> None:
    machine.back_up(places, tmp_path / "b.tar.gz", homes=False)
    done = machine_restore.restore(tmp_path / "b.tar.gz", moved(places))
    assert not done.homes and list((done.state / "homes").iterdir()) == []


def test_nothing_is_overwritten(places: Places, tmp_path: Path) -> None:
    machine.back_up(places, tmp_path / "b.tar.gz")
    with pytest.raises(TidehubError, match="is not empty, and nothing is overwritten"):
        machine_restore.restore(tmp_path / "b.tar.gz", places)


def test_a_restore_that_fails_leaves_nothing(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.back_up(places, tmp_path / "b.tar.gz")
    back = moved(places)

    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(machine_restore, "unpack", full)
    with pytest.raises(TidehubError, match="No space left"):
        machine_restore.restore(tmp_path / "b.tar.gz", back)
    assert not back.state.exists()
    assert not list(tmp_path.glob(".*restoring*"))


def test_the_site_and_its_secrets_come_back_where_they_are_wanted(places: Places, tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text("site: {name: X}\n")
    machine.back_up(places, tmp_path / "b.tar.gz", site_files=(site,))
    into = tmp_path / "etc"
    into.mkdir()
    back = moved(places)
    (into / "site.yaml").write_text("another\n")
    with pytest.raises(TidehubError, match="differs from the one in the backup"):
        machine_restore.restore(tmp_path / "b.tar.gz", back, site_into=into)
    assert not back.state.exists()
    (into / "site.yaml").unlink()
    done = machine_restore.restore(tmp_path / "b.tar.gz", back, site_into=into)
    assert done.site_files == (str(into / "site.yaml"),)
    assert (into / "site.yaml").read_text() == "site: {name: X}\n"


def test_a_backup_of_another_kind_of_user_is_refused(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.back_up(places, tmp_path / "b.tar.gz")
    back = moved(places)
    other = 0 if os.geteuid() else 1000
    monkeypatch.setattr(os, "geteuid", lambda: other)
    with pytest.raises(TidehubError, match="the backup was made by"):
        machine_restore.restore(tmp_path / "b.tar.gz", back)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's platforms give users uids: run as root")
def test_a_uid_of_another_platform_stops_the_restore(
    places: Places, tmp_path: Path, claims_of_its_own: Path
) -> None:
    machine.back_up(places, tmp_path / "b.tar.gz")
    other = tmp_path / "other"
    (other / "private").mkdir(parents=True)
    (other / "private" / "platform-id").write_text("f" * 32)
    assert UidClaims(other, "f" * 8, claims_of_its_own).take(300_001)
    back = moved(places)
    with pytest.raises(TidehubError, match=r"uid 300001, .* belongs to another platform"):
        machine_restore.restore(tmp_path / "b.tar.gz", back)
    assert not back.state.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's platforms give users uids: run as root")
def test_the_same_platform_does_not_live_twice(
    places: Places, tmp_path: Path, claims_of_its_own: Path
) -> None:
    UidClaims(places.state, "01234567", claims_of_its_own).take(300_001)
    machine.back_up(places, tmp_path / "b.tar.gz")
    with pytest.raises(TidehubError, match="this platform still lives in"):
        machine_restore.restore(tmp_path / "b.tar.gz", Places(tmp_path / "second"))
    moved(places)
    machine_restore.restore(tmp_path / "b.tar.gz", Places(tmp_path / "second"))
    claim = json.loads((claims_of_its_own / "300001").read_text())
    assert claim == {"platform": "01234567", "state": str(tmp_path / "second")}


def test_no_platform_no_backup(tmp_path: Path) -> None:
    with pytest.raises(TidehubError, match="no platform was set up"):
        machine.back_up(Places(tmp_path / "none"), tmp_path / "b.tar.gz")
    assert not (tmp_path / "b.tar.gz").exists()


def test_what_goes_away_meanwhile_is_said(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part replaces its files while the backup is made: names come and go."""
    (places.private / "passing.json").write_text("{}")
    (places.private / ".hub.json.1234.part").write_text("half")
    real = machine.sqlite.kept

    def gone(path: Path) -> bytes:
        if path.name == "passing.json":
            path.unlink()
        return real(path)

    monkeypatch.setattr(machine.sqlite, "kept", gone)
    made = machine.back_up(places, tmp_path / "b.tar.gz")
    assert made.warnings == (f"{places.private / 'passing.json'} was left out: it went away meanwhile",)
    kept = BackupReader(tmp_path / "b.tar.gz").files()
    assert "state/private/hub.sqlite" in kept
    assert not [name for name in kept if "part" in name or "passing" in name]


def test_who_laid_a_file_in_the_way_does_not_read_the_backup(places: Places, tmp_path: Path) -> None:
    """In /tmp anybody can make the name under which a backup is written first."""
    laid = tmp_path / ".b.tar.gz.partial"
    laid.touch(mode=0o666)
    with laid.open("rb") as theirs:
        machine.back_up(places, tmp_path / "b.tar.gz")
        assert theirs.read() == b""
    assert (tmp_path / "b.tar.gz").stat().st_mode & 0o777 == 0o600
