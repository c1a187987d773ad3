"""A damaged row of the gateway's database costs that cluster; bodies that upstream cannot read are 400."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from cryptography.fernet import Fernet
from dask_gateway_server.backends.db_base import DataManager

from tidehub.local.gateway import api, records
from tidehub.local.isolation import ProcessHandle
from tidehub.local.set_aside import files_set_aside

KEY = Fernet.generate_key()
GIB = 2**30
CONFIG = {
    "scheduler_memory": GIB,
    "scheduler_cores": 1,
    "worker_memory": GIB,
    "worker_cores": 1,
    "profile": "main",
    "groups": ["g"],
}
GARBAGE: list[Any] = [
    "garbage",
    b"\xff\xfe\x00",
    10**18,
    -5,
    0,
    1.5,
    "[1, 2]",
    b"[1, 2]",
    b'{"process": {"pid": "x"}}',
    b'{"process": [1]}',
    b'{"worker_memory": "much"}',
    b"[" * 5000,
    None,
]


def manager(path: Path) -> DataManager:
    return DataManager(url=f"sqlite:///{path}", encrypt_keys=[KEY])


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.sqlite"
    asyncio.run(fill(path))
    return path


async def fill(path: Path) -> None:
    """Three users with a cluster and a worker each. Upstream's objects want a running loop."""
    data = manager(path)
    for user in ("ada", "bob", "eve"):
        cluster = data.create_cluster(user, {"worker_cores": 1}, CONFIG)
        data.update_cluster(cluster, state={"workdir": "/x", "process": ProcessHandle(7, 1).to_state()})
        data.create_worker(cluster)
    data.db.dispose()


def columns(path: Path, table: str) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


def overwrite(path: Path, table: str, column: str, value: Any) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        try:
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = 2", (value,))
        except sqlite3.IntegrityError:
            return False
        connection.commit()
        return True


async def test_garbage_in_any_column_costs_at_most_its_own_cluster(database: Path, tmp_path: Path) -> None:
    whole = database.read_bytes()
    log = logging.getLogger("gateway")
    tried = healed = 0
    for table in ("clusters", "workers"):
        for column in columns(database, table):
            for value in GARBAGE:
                database.write_bytes(whole)
                if not overwrite(database, table, column, value):
                    continue
                tried += 1
                found = records.mend(f"sqlite:///{database}", [KEY], tmp_path, log=log)
                healed += bool(found)
                data = manager(database)
                owners = {cluster.username for cluster in data.name_to_cluster.values()}
                assert {"ada", "eve"} <= owners, (table, column, value)
                for cluster in data.name_to_cluster.values():
                    assert cluster.model_status is not None
                    for item in (cluster, *cluster.workers.values()):
                        if item.state.get("process"):
                            ProcessHandle.from_state(item.state["process"])
                data.db.dispose()
                assert records.mend(f"sqlite:///{database}", [KEY], tmp_path, log=log) == []
    assert tried > 150 and healed > 100
    kept = files_set_aside(tmp_path)
    assert len(kept) == healed
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 and json.loads(path.read_text()) for path in kept)


def test_a_good_database_and_a_new_one_are_left_alone(database: Path, tmp_path: Path) -> None:
    before = database.read_bytes()
    log = logging.getLogger("gateway")
    assert records.mend(f"sqlite:///{database}", [KEY], tmp_path, log=log) == []
    assert database.read_bytes() == before
    assert records.mend(f"sqlite:///{tmp_path / 'new.sqlite'}", [KEY], tmp_path, log=log) == []


HEARTBEAT = {
    "count": 1,
    "api_address": "http://127.0.0.1:1",
    "scheduler_address": "tls://127.0.0.1:1",
    "dashboard_address": "",
    "active_workers": ["a"],
    "closing_workers": [],
    "closed_workers": [],
}
_DEEP = b'{"count": ' + b"[" * 5000 + b"]" * 5000 + b"}"
BAD = [
    b"",
    b"{",
    b"[1, 2]",
    b"null",
    b'"x"',
    b"\xff\xfe",
    b'{"count": NaN}',
    _DEEP,
    b'{"cluster_options": [1]}',
    b'{"cluster_options": "x"}',
    b'{"cluster_options": {"profile": "\\u0000"}}',
    b'{"cluster_options": {"profile": "\\ud800"}}',
    b'{"cluster_options": {"worker_cores": 1' + b"0" * 400 + b"}}",
    b'{"count": true}',
    b'{"count": -1}',
    b'{"count": "3"}',
    b'{"count": 1e400}',
    b'{"minimum": [], "maximum": 3}',
    b'{"active": "yes"}',
    b'{"x": "' + b"x" * 100_000 + b'"}',
]


async def test_a_body_that_upstream_cannot_read_is_400_with_words() -> None:
    reached: list[Any] = []

    async def upstream(request: web.Request) -> web.Response:
        reached.append(await request.json())
        return web.json_response({})

    app = web.Application(middlewares=[api.readable])
    app.add_routes([web.post("/api/v1/clusters/{tail:.*}", upstream)])
    async with TestClient(TestServer(app)) as client:
        for path in ("", "x/scale", "x/adapt", "x/heartbeat"):
            for body in BAD:
                answer = await client.post(f"/api/v1/clusters/{path}", data=body)
                assert answer.status == 400, (path, body[:60])
                assert len((await answer.json())["error"]) > 10
        assert not reached
        for path, good in (
            ("", {}),
            ("", {"cluster_options": None}),
            ("", {"cluster_options": {"worker_cores": 2, "profile": "main"}}),
            ("x/scale", {"count": 3}),
            ("x/adapt", {"minimum": None, "maximum": 5, "active": False}),
            ("x/heartbeat", HEARTBEAT),
        ):
            answer = await client.post(f"/api/v1/clusters/{path}", json=good)
            assert answer.status == 200, (path, good)
        for name in HEARTBEAT:
            for value in ([1, [2]], {"a": 1}, None, -1, "x" * 300):
                bad = await client.post("/api/v1/clusters/x/heartbeat", json={**HEARTBEAT, name: value})
                assert bad.status == 400, (name, value)
