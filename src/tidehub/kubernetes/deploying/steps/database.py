"""Puts an older database of the hub back, for a hub that is older than the one that ran last."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tidehub.errors import UsageError
from tidehub.kubernetes.deploying import copies
from tidehub.kubernetes.deploying.running import Work
from tidehub.kubernetes.planning.hub_schema import CHAIN, head


@dataclass(frozen=True)
class PutDatabaseBack:
    """Stops the hub, puts the database of a backup on its volume. The release that comes next starts the hub."""

    backup: Path
    database: bytes = field(repr=False)
    name: str = "database"
    title: str = "The hub's database"

    @classmethod
    def of(cls, backup: Path, hub: str) -> PutDatabaseBack:
        """Of a backup, for a version of JupyterHub. Raises `UsageError` where that hub could not read it."""
        database = copies.database_in(backup)
        schema, wanted = copies.schema_of(database), head(hub) if hub else None
        known = schema in CHAIN and wanted is not None
        if known and CHAIN.index(schema or "") > CHAIN.index(wanted or ""):
            raise UsageError(
                f"the database in {backup} has the schema {schema}, and JupyterHub {hub} knows {wanted}",
                expected="a backup from before the upgrade",
                fix="name an older one",
            )
        return cls(backup, database)

    def needed(self, work: Work) -> bool:
        """Always: who names a backup wants it back."""
        return True

    def run(self, work: Work) -> str:
        """Raises `TidehubError`."""
        return f"{copies.put_database_back(work, self.database)} (from {self.backup})"
