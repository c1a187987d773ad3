"""A damaged row of the hub's database costs that row: the hub starts, says so, keeps a copy, and all others work."""

from __future__ import annotations

import datetime
import json
import logging
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from child import with_us
from damage import GARBAGE, columns_of, overwrite
from jupyterhub import orm

from tidehub.local.hub import records

pytestmark = pytest.mark.real

SOURCE = Path(__file__).parents[2] / "src"
TABLES = [
    "users",
    "spawners",
    "servers",
    "groups",
    "roles",
    "services",
    "api_tokens",
    "oauth_clients",
    "oauth_codes",
    "shares",
    "share_codes",
    "tidehub_people",
    "user_role_map",
    "user_group_map",
]

_CONFIG = """
from pathlib import Path
from types import SimpleNamespace
from jupyterhub.proxy import Proxy
from tidehub.local.hub.spawner import TidehubSpawner
from tidehub.login.users import KnownUsers

c = get_config()


class NoProxy(Proxy):
    should_start = False

    async def add_route(self, routespec, target, data): ...
    async def delete_route(self, routespec): ...
    async def get_all_routes(self): return {{}}


class Watch:
    async def go(self): ...


class Context:
    disk_watch = Watch()
    places = SimpleNamespace(private=Path("{directory}/private"))
    settings = None
    settled = None

    async def settle(self, servers, log):
        log.warning("settled %s", sorted(owner for owner, *_ in servers))


class Still(TidehubSpawner):
    def entitled(self):
        return SimpleNamespace(default=None, servers=(), dask=None)

    async def poll(self):
        return 0

    async def stop(self, now=False): ...


TidehubSpawner.context = Context()
c.JupyterHub.spawner_class = Still
c.JupyterHub.proxy_class = NoProxy
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.bind_url = c.JupyterHub.hub_bind_url = "http://127.0.0.1:{port}/"
c.JupyterHub.db_url = "{url}"
c.JupyterHub.upgrade_db = True
c.JupyterHub.cookie_secret = bytes(32)
c.JupyterHub.services = [{{"name": "tests", "api_token": "{token}"}}]
c.JupyterHub.load_roles = [{{"name": "tests", "scopes": ["admin:users", "tokens"], "services": ["tests"]}}]
"""
TOKEN = "t" * 40


class Hub:
    """A real hub process on a database that a test damages between two starts."""

    def __init__(self, directory: Path, url: str = "") -> None:
        self.directory = directory
        self.private = directory / "private"
        self.private.mkdir(mode=0o700)
        self.database = self.private / "hub.sqlite"
        self.url = url or f"sqlite:///{self.database}"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.config = directory / "config.py"
        self.config.write_text(_CONFIG.format(directory=directory, port=self.port, token=TOKEN, url=self.url))

    @contextmanager
    def running(self) -> Iterator[str]:
        """Start it, wait for its first answer, give what it wrote until then, stop it."""
        log = self.directory / "hub.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                with_us([sys.executable, "-m", "tidehub.local.hub.start", "-f", str(self.config)]),
                stdout=stream,
                stderr=stream,
                cwd=self.directory,
                env={
                    "PATH": os.environ["PATH"],
                    "HOME": str(self.directory),
                    "PYTHONPATH": str(SOURCE),
                    "JUPYTERHUB_CRYPT_KEY": "00" * 32,
                },
            )
        try:
            deadline = time.monotonic() + 90
            while True:
                assert process.poll() is None, log.read_text(errors="replace")[-4000:]
                assert time.monotonic() < deadline, log.read_text(errors="replace")[-4000:]
                try:
                    if httpx.get(f"http://127.0.0.1:{self.port}/hub/api/", timeout=5).status_code == 200:
                        break
                except httpx.TransportError:
                    time.sleep(0.05)
            yield log.read_text(errors="replace")
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def ask(self, path: str, token: str = TOKEN) -> httpx.Response:
        headers = {"Authorization": f"token {token}"}
        return httpx.get(f"http://127.0.0.1:{self.port}/hub/api/{path}", headers=headers, timeout=20)

    def set_aside(self) -> list[Path]:
        return sorted((self.private / "set-aside").glob("*")) if (self.private / "set-aside").exists() else []


def populate(url: str, number: int) -> None:
    """`number` users, each with a row of their own in every table; user 1 stays as they are."""
    engine = sa.create_engine(url)
    soon = datetime.datetime.now() + datetime.timedelta(days=1)
    with orm.Session(engine) as db:
        for n in range(1, number + 1):
            user = orm.User(name=f"user{n}")
            client = orm.OAuthClient(identifier=f"client-{n}", secret="", redirect_uri="/x", description="x")
            db.add_all([user, client, orm.Group(name=f"group{n}", properties={"a": 1}, users=[user])])
            user.roles.append(orm.Role(name=f"role{n}", description="x", scopes=["self"]))
            spawner = orm.Spawner(name="", user=user, user_options={"profile": "main"}, state={"a": 1})
            spawner.server = orm.Server(base_url=f"/user/user{n}/", port=8000)
            spawner.oauth_client = client
            db.add_all([spawner, orm.Service(name=f"service{n}", from_config=False)])
            db.flush()
            if n == 1:
                user.new_api_token(token=f"token-of-user-{n:04d}-" + "x" * 20, scopes=["self"])
            else:
                # Hashing a token that was not drawn at random takes long, by design.
                token = {"hashed": f"hash{n}", "prefix": f"t{n}", "client_id": "jupyterhub", "note": "x"}
                db.add(orm.APIToken(user=user, scopes=["self"], **token))
            code = {"code": f"code{n}", "redirect_uri": "/x", "session_id": "s", "scopes": ["self"]}
            db.add(orm.OAuthCode(client_id=client.identifier, user=user, expires_at=2**31, **code))
            scopes = [f"access:servers!server=user{n}/"]
            for kind in (
                orm.Share(user=user),
                orm.ShareCode(hashed=f"hash{n}", prefix=f"p{n}"),
            ):
                kind.owner, kind.spawner, kind._scopes, kind.expires_at = user, spawner, scopes, soon
                db.add(kind)
            row = {"name": f"user{n}", "realm": "r", "sub": f"sub{n}", "bound": 1.0, "confirmed": 1.0}
            db.execute(
                sa.text("INSERT INTO tidehub_people VALUES (:name, :realm, :sub, :bound, :confirmed)"), row
            )
        db.commit()
    engine.dispose()


_USERS = (
    "CREATE TABLE IF NOT EXISTS tidehub_people (name VARCHAR(255) NOT NULL PRIMARY KEY, realm VARCHAR(255) NOT NULL,"
    " sub VARCHAR(255) NOT NULL, bound FLOAT NOT NULL, confirmed FLOAT NOT NULL)"
)


def damage(path: Path, kind_of: Callable[[int], str]) -> list[tuple[str, str, int]]:
    """Garbage in each column of each table, every one in a row of another user; gives what could be written."""
    places = [(table, column) for table in TABLES for column in columns_of(path, table)]
    populate(f"sqlite:///{path}", len(places) + 1)
    rowids = {table: _rowids(path, table) for table in TABLES}
    total = len(places) + 1
    return [
        (table, column, number)
        for number, (table, column) in enumerate(places, start=2)
        if overwrite(path, table, column, rowids[table][total - number], GARBAGE[kind_of(number)])
    ]


@pytest.mark.parametrize("kind", GARBAGE)
def test_every_kind_of_garbage_in_every_column_is_taken_out(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "hub.sqlite"
    engine = sa.create_engine(f"sqlite:///{path}")
    orm.Base.metadata.create_all(engine)
    with orm.Session(engine) as db:
        db.execute(sa.text(_USERS))
        db.add(orm.OAuthClient(identifier="jupyterhub", secret="", redirect_uri="", description="the hub"))
        db.commit()
    written = damage(path, lambda number: kind)
    assert len(written) > 10
    log = logging.getLogger("hub")
    found = records.mend(f"sqlite:///{path}", {}, tmp_path, log=log)
    assert records.mend(f"sqlite:///{path}", {}, tmp_path, log=log) == [], "healed at once"
    with orm.Session(engine) as db:
        for mapper in orm.Base.registry.mappers:
            assert db.query(mapper.class_).count() == len(db.query(mapper.class_).all()), "all can be loaded"
        for spawner in db.query(orm.Spawner):
            assert spawner.user is not None
            assert isinstance(spawner.user_options or {}, dict) and isinstance(spawner.state or {}, dict)
        names = {user.name for user in db.query(orm.User)}
        admins = {user.name for user in db.query(orm.User) if user.admin}
        touched = {f"user{number}" for table, _, number in written if table in ("users", "tidehub_people")}
        assert {f"user{number}" for number in range(1, len(written))} - touched <= names
        assert not admins, "damage makes nobody an administrator"
    engine.dispose()
    assert all(one.words for one in found)


@pytest.mark.parametrize("turn", [0, 5])
def test_garbage_in_every_column_of_every_table_costs_one_row_each(tmp_path: Path, turn: int) -> None:
    hub = Hub(tmp_path)
    with hub.running():
        pass
    engine = sa.create_engine(hub.url)
    with engine.begin() as connection:
        connection.execute(sa.text(_USERS))
    engine.dispose()
    kinds = list(GARBAGE)
    written = damage(hub.database, lambda number: kinds[(number + turn) % len(kinds)])
    with hub.running() as said:
        names = {user["name"] for user in hub.ask("users?limit=500").json()}
        assert hub.ask("user", f"token-of-user-{1:04d}-" + "x" * 20).json()["name"] == "user1"
        touched = {f"user{number}" for table, _, number in written if table == "users"}
        assert {f"user{number}" for number in range(1, len(written))} - touched <= names
    assert "Damaged in the hub's database" in said
    files = hub.set_aside()
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)
    assert str(files[0]) in said, "the message names the copy"
    kept = [row for path in files for row in json.loads(path.read_text())]
    assert all(row["faults"] and row["row"] for row in kept)
    with hub.running() as again:
        assert "Damaged in the hub's database" not in again, "told once, and healed"


def _rowids(path: Path, table: str) -> list[int]:
    """Newest first: the last rows are the users', what the hub itself made comes before them."""
    with closing(sqlite3.connect(path)) as database:
        return [int(row[0]) for row in database.execute(f"SELECT rowid FROM {table} ORDER BY rowid DESC")]


def test_the_database_that_a_list_of_options_had_stopped_for_ever_starts(tmp_path: Path) -> None:
    hub = Hub(tmp_path)
    with hub.running():
        pass
    engine = sa.create_engine(hub.url)
    with engine.begin() as connection:
        connection.execute(sa.text(_USERS))
    engine.dispose()
    populate(hub.url, 3)
    assert overwrite(hub.database, "spawners", "user_options", 2, "[1, 2]")
    with hub.running() as said:
        assert "spawners row 2: user_options is list, not dict: user_options set anew" in said.replace(
            " ('')", ""
        )
        assert {"user1", "user2", "user3"} <= {user["name"] for user in hub.ask("users").json()}
