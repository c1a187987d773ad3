"""A part's database is read before the part reads it: what it could not read is taken out, kept, and told.

Upstream's programs load whole tables at their start and die of one row that they cannot read. `mend` reads every row
as they would, by SQLAlchemy's own converters, and beside that as bytes, so that damage of any kind costs one record:
a column that may be empty is emptied, any other damage removes its row, and the rows that belong to it.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

LARGEST = 64 * 2**10
"""Bytes or characters of one value that a start reads; nothing that the platform stores comes near."""

Check = Callable[[Any], str | None]
"""Says what is wrong with a value that could be read; None when nothing is."""


@dataclass(frozen=True)
class Rules:
    """What a part needs of its tables beyond their types. Columns are named `table.column`."""

    shape: Callable[[sa.Column[Any]], type | None] = lambda column: None
    """The Python type of a column whose own type does not tell it (JSON)."""
    checks: Mapping[str, Check] = field(default_factory=dict)
    rows: Mapping[str, Check] = field(default_factory=dict)
    """By table: a check of the whole row, a mapping of read values."""
    mendable: Mapping[str, Callable[[], Any]] = field(default_factory=dict)
    """Columns that can be set anew without the row, and their new value. Never what would give somebody rights."""
    large: frozenset[str] = frozenset()
    """Columns that may be larger than `LARGEST`."""


@dataclass
class Damaged:
    """One damaged row."""

    table: str
    row: dict[str, Any]
    """As the database holds it."""
    faults: dict[str, str]
    """What is wrong, by column; `""` for the row as a whole."""
    key: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)
    """New values by column; empty for a row that is removed."""

    @property
    def words(self) -> str:
        """One line for a log."""
        what = "; ".join(f"{column} {why}" if column else why for column, why in self.faults.items())
        done = f"{', '.join(self.changes)} set anew" if self.changes else "removed"
        name = self.row.get("name")
        named = f" ({name[:60]!r})" if isinstance(name, str) else ""
        return f"{self.table} row {self.row.get('id', '?')}{named}: {what}: {done}"

    def kept(self) -> dict[str, Any]:
        """What goes into the file beside the database."""
        return {"table": self.table, "faults": self.faults, "changed": sorted(self.changes), "row": self.row}


def mend(
    engine: sa.Engine, tables: list[sa.Table], rules: Rules, keep: Callable[[list[Damaged]], None]
) -> list[Damaged]:
    """Take out of `tables` (parents first) what cannot be read; `keep` must have written it down when it returns.

    All or nothing, in one transaction. Tables and columns that are not there yet are not looked at.
    """
    found: list[Damaged] = []
    with engine.connect() as connection:
        sqlite = engine.dialect.name == "sqlite"
        if sqlite:
            # Text that is no text must not end the look at all other rows.
            connection.connection.dbapi_connection.text_factory = _text_or_bytes
            connection.exec_driver_sql("PRAGMA foreign_keys = ON")
        there = sa.inspect(engine)
        known = set(there.get_table_names())
        values: dict[str, set[Any]] = {}
        for table in tables:
            if table.name in known:
                columns = {str(column["name"]) for column in there.get_columns(table.name)}
                found += _Look(connection, table, columns, rules, values, by_rowid=sqlite).damaged()
        if found:
            keep(found)
            for one in reversed(found):
                _apply(connection, one)
            connection.commit()
    return found


class _Look:
    """One table, read row by row."""

    def __init__(
        self,
        connection: sa.Connection,
        table: sa.Table,
        there: set[str],
        rules: Rules,
        values: dict[str, set[Any]],
        *,
        by_rowid: bool,
    ) -> None:
        self.connection, self.table, self.rules, self.values = connection, table, rules, values
        self.columns = [column for column in table.columns if column.name in there]
        self.by_rowid = by_rowid
        self.named = {
            key.target_fullname for one in table.metadata.tables.values() for key in one.foreign_keys
        }
        dialect = connection.dialect
        self.readers = {
            column.name: column.type.dialect_impl(dialect).result_processor(dialect, None)
            for column in self.columns
        }

    def damaged(self) -> list[Damaged]:
        quote = self.connection.dialect.identifier_preparer.quote
        names = [quote(column.name) for column in self.columns]
        chosen = ", ".join([*(["rowid"] if self.by_rowid else []), *names])
        for column in self.columns:
            if (name := f"{self.table.name}.{column.name}") in self.named:
                self.values[name] = set()
        found = []
        for raw in self.connection.exec_driver_sql(f"SELECT {chosen} FROM {quote(self.table.name)}"):
            row = dict(zip([column.name for column in self.columns], raw[-len(names) :], strict=True))
            primary = [column.name for column in self.table.primary_key]
            key = {"rowid": raw[0]} if self.by_rowid else {name: row[name] for name in primary}
            one = self._look_at(row, key)
            if one is not None:
                found.append(one)
            if one is None or one.changes:
                self._remember(row)
        return found

    def _look_at(self, row: dict[str, Any], key: dict[str, Any]) -> Damaged | None:
        faults: dict[str, str] = {}
        read: dict[str, Any] = {}
        for column in self.columns:
            read[column.name], fault = self._read(column, row[column.name])
            if fault := fault or self._misses(column, row[column.name]):
                faults[column.name] = fault
        whole = self.rules.rows.get(self.table.name)
        if not faults and whole is not None and (wrong := whole(read)):
            faults[""] = wrong
        if not faults:
            return None
        mendable = [self.rules.mendable.get(f"{self.table.name}.{name}") for name in faults]
        changes = (
            {name: new() for name, new in zip(faults, mendable, strict=True) if new} if all(mendable) else {}
        )
        return Damaged(self.table.name, row, faults, key, changes)

    def _read(self, column: sa.Column[Any], raw: Any) -> tuple[Any, str]:
        name = f"{self.table.name}.{column.name}"
        if raw is None:
            return None, "" if column.nullable else "is empty"
        if isinstance(raw, _NotText):
            return None, "is not UTF-8"
        if isinstance(raw, str | bytes) and len(raw) > LARGEST and name not in self.rules.large:
            return None, f"has {len(raw)} bytes"
        if isinstance(column.type, sa.Boolean) and raw not in (0, 1):
            # SQLAlchemy would read any other value as true.
            return None, "is neither true nor false"
        reader = self.readers[column.name]
        try:
            value = raw if reader is None else reader(raw)
        except Exception as error:
            # Whatever a converter of upstream's raises, RecursionError too.
            return None, f"cannot be read ({type(error).__name__})"
        wanted = self.rules.shape(column) or _python_type(column)
        if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
            return (
                None,
                f"is {type(value).__name__}, not {wanted.__name__ if isinstance(wanted, type) else 'a number'}",
            )
        check = self.rules.checks.get(name)
        return value, (check(value) or "") if check is not None else ""

    def _misses(self, column: sa.Column[Any], raw: Any) -> str:
        if raw is None:
            return ""
        for key in column.foreign_keys:
            parents = self.values.get(key.target_fullname)
            if parents is not None and raw not in parents:
                return f"names a row of {key.column.table.name} that is not there"
        return ""

    def _remember(self, row: dict[str, Any]) -> None:
        for name, value in row.items():
            if (seen := self.values.get(f"{self.table.name}.{name}")) is not None:
                seen.add(value)


def _python_type(column: sa.Column[Any]) -> Any:
    if isinstance(column.type, sa.Float):
        return (float, int)
    if isinstance(column.type, sa.DateTime):
        return datetime.datetime
    return column.type.python_type


class _NotText(bytes):
    """What sqlite holds as text and cannot be decoded; never to be taken for a binary value."""


def _text_or_bytes(raw: bytes) -> str | _NotText:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return _NotText(raw)


def _apply(connection: sa.Connection, one: Damaged) -> None:
    table = sa.table(one.table, *(sa.column(name) for name in one.row))
    here = sa.and_(*(sa.column(name) == value for name, value in one.key.items()))
    change = sa.update(table).values(**one.changes) if one.changes else sa.delete(table)
    connection.execute(change.where(here))
