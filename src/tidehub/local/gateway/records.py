"""What the gateway needs of each row of its database to start, and what becomes of a row that is damaged.

dask-gateway-server 2026.3.0 reads all clusters and workers in `DataManager.__init__` and dies of one that it cannot.
A damaged cluster is removed with its workers: the gateway then ends their processes as it ends all that it does not
know. Nothing of a cluster can be made up, so nothing is mended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from dask_gateway_server.backends import db_base

from tidehub.errors import TidehubError
from tidehub.local import records
from tidehub.local.isolation import ProcessHandle
from tidehub.local.set_aside import set_aside

_NUMBERS = ("scheduler_memory", "scheduler_cores", "worker_memory", "worker_cores", "worker_threads")
_PAIRS = set(db_base.Cluster._status_map)


def _shape(column: sa.Column[Any]) -> type | None:
    return dict if isinstance(column.type, db_base._JSON) else None


def _config(value: Mapping[str, Any]) -> str | None:
    for name in _NUMBERS:
        number = value.get(name)
        if name == "worker_threads" and number is None:
            continue
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number < 2**63:
            return f"holds no usable {name}"
    groups = value.get("groups", [])
    good = isinstance(groups, list) and all(isinstance(name, str) for name in groups)
    return None if good else "holds memberships that are not text"


def _state(value: Mapping[str, Any]) -> str | None:
    try:
        if value.get("process"):
            ProcessHandle.from_state(value["process"])
    except TidehubError:
        return "holds a process that cannot be read"
    good = all(isinstance(value.get(name, ""), str) for name in ("workdir", "why"))
    return None if good else "holds a path that is not text"


def _cluster(row: Mapping[str, Any]) -> str | None:
    if (row["status"], row["target"]) not in _PAIRS:
        return "is in a state that does not exist"
    return None if 0 <= row["count"] < 2**31 else "asks for a number of workers that does not exist"


def rules(keys: Sequence[Any]) -> records.Rules:
    """The gateway's rules; `keys` are those that its encrypted columns are read with."""
    ring = MultiFernet([Fernet(key) for key in keys])

    def encrypted(parts: int) -> Callable[[bytes], str | None]:
        def check(value: bytes) -> str | None:
            try:
                plain = ring.decrypt(value)
                plain.decode("utf-8")
            except (InvalidToken, UnicodeDecodeError):
                return "cannot be decrypted"
            return None if len(plain.split(b";")) == parts else "does not hold what it should"

        return check

    return records.Rules(
        shape=_shape,
        checks={
            "clusters.config": _config,
            "clusters.state": _state,
            "workers.state": _state,
            "clusters.token": encrypted(1),
            "clusters.tls_credentials": encrypted(2),
        },
        rows={"clusters": _cluster},
    )


def mend(db_url: str, keys: Sequence[Any], private: Path, *, log: Any) -> list[records.Damaged]:
    """Take damaged clusters and workers out of the gateway's database before the gateway reads it; a copy goes to
    `private`, lines to `log`. Raises `TidehubError` when the copy cannot be written.
    """
    kept: list[Path] = []

    def keep(found: list[records.Damaged]) -> None:
        kept.append(set_aside(private, "gateway", [one.kept() for one in found]))

    engine = sa.create_engine(db_url)
    try:
        found = records.mend(engine, [db_base.clusters, db_base.workers], rules(keys), keep)
    finally:
        engine.dispose()
    for one in found:
        log.warning("Damaged in the gateway's database: %s. A copy is in %s", one.words, kept[0])
    return found
