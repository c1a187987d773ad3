"""What the hub needs of each row of its database to start, and what becomes of a row that is damaged."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from jupyterhub import orm

from tidehub.errors import TidehubError
from tidehub.local import records
from tidehub.local.isolation import ProcessHandle
from tidehub.local.set_aside import set_aside
from tidehub.login import users


def _nothing() -> None:
    return None


def _shape(column: sa.Column[Any]) -> type | None:
    if isinstance(column.type, orm.JSONList):
        return list
    return dict if isinstance(column.type, orm.JSONDict) else None


def _texts(value: Any) -> str | None:
    return None if all(isinstance(item, str) for item in value) else "holds what is not text"


def _options(value: Mapping[str, Any]) -> str | None:
    return None if isinstance(value.get("profile", ""), str) else "names a profile that is not text"


def _state(value: Mapping[str, Any]) -> str | None:
    try:
        if "process" in value:
            ProcessHandle.from_state(value["process"])
    except TidehubError:
        return "holds a process that cannot be read"
    limit = value.get("mem_limit")
    return None if limit is None or isinstance(limit, int) else "holds a memory limit that is not a number"


def _server(row: Mapping[str, Any]) -> str | None:
    good = row.get("ip") is not None and 0 <= (row.get("port") or 0) < 2**16 and row.get("base_url")
    return None if good else "is not an address"


def _spawner(row: Mapping[str, Any]) -> str | None:
    return None if row.get("user_id") is not None and row.get("name") is not None else "belongs to nobody"


def _named(row: Mapping[str, Any]) -> str | None:
    return None if row.get("name") else "has no name"


def _service(row: Mapping[str, Any]) -> str | None:
    # What jupyterhub.services.service.Service asks of its traits; `JupyterHub.service_from_orm` makes one of each row.
    client = row.get("oauth_client_id")
    if client is not None and not client.startswith("service-"):
        return "has a client that is not a service's"
    if row.get("url") and not row.get("from_config") and row.get("_server_id") is None:
        return "has an address and no server"
    environment = row.get("environment") or {}
    if not all(isinstance(item, str) for item in [*environment.values(), *(row.get("command") or [])]):
        return "holds what is not text"
    return _named(row)


RULES = records.Rules(
    shape=_shape,
    checks={
        "spawners.user_options": _options,
        "spawners.state": _state,
        **{
            f"{table}.scopes": _texts
            for table in ("roles", "api_tokens", "oauth_codes", "shares", "share_codes")
        },
        "oauth_clients.allowed_scopes": _texts,
        "services.oauth_client_allowed_scopes": _texts,
    },
    rows={
        "servers": _server,
        "spawners": _spawner,
        "services": _service,
        **dict.fromkeys(("users", "groups", "roles"), _named),
    },
    # Tokens, codes and shares are not mended but removed: without its expiry or its scopes one would give more.
    mendable={
        "users.admin": lambda: False,
        "users.created": _nothing,
        "users.last_activity": _nothing,
        "users.cookie_id": orm.new_token,
        "users.state": _nothing,
        "users.encrypted_auth_state": _nothing,
        "spawners.state": _nothing,
        "spawners.started": _nothing,
        "spawners.last_activity": _nothing,
        "spawners.user_options": _nothing,
        "spawners.server_id": _nothing,
        "spawners.oauth_client_id": _nothing,
        "groups.properties": lambda: "{}",
        "roles.description": _nothing,
        "roles.scopes": lambda: "[]",
        "roles.managed_by_auth": lambda: False,
    },
    large=frozenset({"users.encrypted_auth_state", "roles.scopes", "services.environment", "services.info"}),
)


def mend(db_url: str, db_kwargs: Mapping[str, Any], private: Path, *, log: Any) -> list[records.Damaged]:
    """Take damaged rows out of the hub's database before the hub reads it; a copy goes to `private`, lines to `log`.

    Raises `TidehubError` when the copy cannot be written.
    """
    kept: list[Path] = []

    def keep(found: list[records.Damaged]) -> None:
        kept.append(set_aside(private, "hub", [one.kept() for one in found]))

    engine = sa.create_engine(db_url, **db_kwargs)
    try:
        tables = [*orm.Base.metadata.sorted_tables, users.TABLE]
        found = records.mend(engine, tables, RULES, keep)
        _write_ahead(engine)
    finally:
        engine.dispose()
    for one in found:
        log.warning("Damaged in the hub's database: %s. A copy is in %s", one.words, kept[0])
    return found


def _write_ahead(engine: sa.Engine) -> None:
    """Let a commit cost one sync of one file instead of three: the hub commits in its event loop, some twenty times for
    a login and a start. The file itself remembers the mode (https://sqlite.org/wal.html); no commit is less durable.
    """
    if engine.dialect.name == "sqlite":
        # A file system without shared memory keeps the mode that it had.
        with contextlib.suppress(sa.exc.OperationalError), engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
