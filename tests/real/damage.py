"""Damage in a sqlite database: rows that nothing of ours or upstream's would ever write."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

GARBAGE: dict[str, object] = {
    "text": "garbage",
    "bytes": b"\xff\xfe\x00garbage",
    "number": 10**18,
    "negative": -5,
    "list": "[1, 2]",
    "half an object": '{"profile": ',
    "object of the wrong kind": '{"profile": [1], "process": {"pid": "x"}}',
    "deep": '{"a": ' + "[" * 5000 + "]" * 5000 + "}",
    "nothing": None,
    "huge": "x" * 2_000_000,
    "not text": sqlite3.Binary(b"\xed\xa0\x80"),
}
"""What a column is overwritten with, by name."""


def columns_of(path: Path, table: str) -> list[str]:
    with closing(sqlite3.connect(path)) as database:
        return [row[1] for row in database.execute(f"PRAGMA table_info({table})")]


def overwrite(path: Path, table: str, column: str, rowid: int, value: object) -> bool:
    """Write `value` past the schema's own rules where sqlite lets us; false where it does not (NOT NULL, STRICT)."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA synchronous = OFF")
        # Bytes as text: what a bad sector or an interrupted editor leaves is typed as the column says.
        cast = "CAST(? AS TEXT)" if isinstance(value, memoryview) else "?"
        try:
            done = database.execute(f"UPDATE {table} SET {column} = {cast} WHERE rowid = ?", (value, rowid))
        except sqlite3.IntegrityError:
            return False
        database.commit()
        return done.rowcount == 1
