"""The hub's database on a real PostgreSQL server, into a backup and back."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from tidehub.backup import databases, machine, machine_restore
from tidehub.backup.container import BackupReader
from tidehub.errors import TidehubError
from tidehub.local.isolation.users import UidClaims
from tidehub.local.places import Places

PASSWORD = "moon&tide"
NOBODY = 65534
"""PostgreSQL refuses to run as root."""


@dataclass(frozen=True)
class Server:
    """A server of the test's own on a loopback port; every connection needs the password."""

    programs: Path
    port: int

    def url(self, database: str) -> str:
        return f"postgresql://hub:{PASSWORD.replace('&', '%26')}@127.0.0.1:{self.port}/{database}"

    def run(self, database: str, *statements: str) -> list[tuple[object, ...]]:
        engine = create_engine(self.url(database).replace("postgresql:", "postgresql+psycopg:"))
        try:
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                rows: list[tuple[object, ...]] = []
                for statement in statements:
                    done = connection.execute(text(statement))
                    rows = [tuple(row) for row in done] if done.returns_rows else []
                return rows
        finally:
            engine.dispose()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    programs = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
    if programs is None or not (programs / "initdb").exists():
        pytest.skip("no PostgreSQL server here: apt install postgresql")
    root = os.geteuid() == 0
    try:
        pwd.getpwuid(NOBODY if root else os.geteuid())
    except KeyError:
        pytest.skip("PostgreSQL refuses users without an account: run as one who has one, or as root")
    as_user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if root else {}
    place = Path(tempfile.mkdtemp(prefix="th-pg-", dir="/tmp"))
    place.chmod(0o755)
    (place / "password").write_text(PASSWORD)
    (place / "data").mkdir(mode=0o700)
    if root:
        for path in (place, place / "password", place / "data"):
            os.chown(path, NOBODY, NOBODY)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    env = {"PATH": f"{programs}:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    subprocess.run(
        [
            programs / "initdb", "--pgdata", place / "data", "--username", "hub", "--auth", "scram-sha-256",
            "--pwfile", place / "password", "--no-sync", "--locale", "C.UTF-8",
        ],
        check=True, capture_output=True, env=env, cwd="/", **as_user,  # type: ignore[call-overload]
    )  # fmt: skip
    options = [
        "-c",
        "listen_addresses=127.0.0.1",
        "-c",
        f"unix_socket_directories={place}",
        "-c",
        "fsync=off",
    ]
    process = subprocess.Popen(
        [programs / "postgres", "-D", place / "data", "-p", str(port), *options],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env, cwd="/", **as_user,  # type: ignore[call-overload]
    )  # fmt: skip
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if b"ready to accept connections" in line:
                break
        yield Server(programs, port)
    finally:
        process.terminate()
        process.communicate(timeout=30)
        shutil.rmtree(place)


@pytest.fixture
def databases_of_a_test(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("PATH", f"{server.programs}:{os.environ['PATH']}")
    server.run("postgres", "CREATE DATABASE hub", "CREATE DATABASE fresh")
    server.run("hub", "CREATE TABLE users (name text)", "INSERT INTO users VALUES ('ana')")
    yield server
    server.run("postgres", "DROP DATABASE hub WITH (FORCE)", "DROP DATABASE fresh WITH (FORCE)")


@pytest.fixture
def places(tmp_path: Path, databases_of_a_test: Server, monkeypatch: pytest.MonkeyPatch) -> Places:
    monkeypatch.setattr(
        machine_restore, "UidClaims", lambda state, platform: UidClaims(state, platform, tmp_path / "claims")
    )
    found = Places(tmp_path / "s")
    found.private.mkdir(parents=True)
    found.services.mkdir()
    found.id_file.write_text("0123456789abcdef0123456789abcdef\n")
    found.hub_config.write_text(json.dumps({"database_url": databases_of_a_test.url("hub")}))
    # The hub's password file, as an operator has it; the address in the backup has no password.
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    return found


def test_the_hubs_data_go_into_the_backup_and_into_an_empty_database(
    places: Places, databases_of_a_test: Server, tmp_path: Path
) -> None:
    machine.back_up(places, tmp_path / "b.tar.gz")
    manifest = BackupReader(tmp_path / "b.tar.gz").manifest
    assert manifest["database"] == f"postgresql://hub@127.0.0.1:{databases_of_a_test.port}/hub"
    assert PASSWORD not in json.dumps(manifest)
    places.state.rename(tmp_path / "before")
    with pytest.raises(TidehubError, match="holds 1 tables, and nothing is overwritten"):
        machine_restore.restore(tmp_path / "b.tar.gz", Places(tmp_path / "s"))
    assert not places.state.exists()
    machine_restore.restore(
        tmp_path / "b.tar.gz", Places(tmp_path / "s"), database_url=databases_of_a_test.url("fresh")
    )
    assert databases_of_a_test.run("fresh", "SELECT name FROM users") == [("ana",)]


def test_the_password_is_in_no_argument_and_no_message(databases_of_a_test: Server, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    stub = tmp_path / "bin" / "pg_dump"
    stub.parent.mkdir()
    stub.write_text(f'#!/bin/sh\necho "$@" > {seen}\nexec {databases_of_a_test.programs}/pg_dump "$@"\n')
    stub.chmod(0o755)
    environ = {"PATH": f"{stub.parent}:/usr/bin:/bin"}
    assert databases.postgres_dump(databases_of_a_test.url("hub"), environ).startswith(b"PGDMP")
    assert PASSWORD not in seen.read_text() and "%26" not in seen.read_text()
    wrong = databases_of_a_test.url("hub").replace("moon", "sun")
    with pytest.raises(TidehubError, match="password authentication failed") as refused:
        databases.postgres_dump(wrong, environ)
    assert "sun" not in str(refused.value)


def test_what_is_no_dump_leaves_the_database_empty(databases_of_a_test: Server) -> None:
    environ = {"PATH": f"{databases_of_a_test.programs}:/usr/bin:/bin"}
    with pytest.raises(TidehubError, match="pg_restore failed"):
        databases.postgres_restore(databases_of_a_test.url("fresh"), b"no dump", environ)


def test_without_its_programs_words_say_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(TidehubError, match="pg_dump is not installed"):
        databases.postgres_dump("postgresql://hub@127.0.0.1/hub", {"PATH": str(tmp_path)})
