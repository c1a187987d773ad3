"""Who is behind a user name: the provider's subject, kept in a table of its own in the hub's database.

The name is presentation. It can change at the provider and pass to somebody else there; homes, servers and tokens
hang on the name that a subject had first. The table lies in the hub's database, because that is the one store that
every target has. This module imports nothing of ours: its text travels into the hub image of Kubernetes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

TABLE = sa.Table(
    "tidehub_people",
    sa.MetaData(),
    sa.Column("name", sa.Unicode(255), primary_key=True),
    sa.Column("realm", sa.Unicode(255), nullable=False),
    sa.Column("sub", sa.Unicode(255), nullable=False, index=True),
    sa.Column("bound", sa.Float, nullable=False),
    sa.Column("confirmed", sa.Float, nullable=False),
)


@dataclass(frozen=True)
class Identity:
    """A user as an identity provider knows them. `realm` is the provider, `sub` its name for them."""

    realm: str
    sub: str


class NameTaken(Exception):
    """The name belongs to another user. `owner` is who has it."""

    def __init__(self, name: str, owner: Identity) -> None:
        super().__init__(f"the user name {name} belongs to {owner.sub} of {owner.realm}")
        self.name = name
        self.owner = owner


class KnownUsers:
    """The table. `stated` is the operator's word (sub to name), which overrules what was bound."""

    def __init__(self, session: Any, stated: Mapping[str, str] | None = None) -> None:
        self._session = session
        self._stated = {sub: name.lower() for sub, name in (stated or {}).items()}
        TABLE.create(session.get_bind(), checkfirst=True)

    def name_of(self, who: Identity, presented: str) -> str:
        """The hub's name of this user: what the operator states, else the name they had first, else `presented`."""
        if who.sub in self._stated:
            return self._stated[who.sub]
        row = self._session.execute(
            sa.select(TABLE.c.name)
            .where(TABLE.c.realm == who.realm, TABLE.c.sub == who.sub)
            .order_by(TABLE.c.bound)
        ).first()
        return presented if row is None else str(row.name)

    def owner_of(self, name: str) -> Identity | None:
        """Who has this name; None when no user has it yet."""
        row = self._session.execute(sa.select(TABLE.c.realm, TABLE.c.sub).where(TABLE.c.name == name)).first()
        return None if row is None else Identity(row.realm, row.sub)

    def bind(self, name: str, who: Identity) -> None:
        """This user has this name from now on, and was confirmed now. Raises `NameTaken`."""
        owner = self.owner_of(name)
        now = time.time()
        if owner is None:
            statement: Any = TABLE.insert().values(
                name=name, realm=who.realm, sub=who.sub, bound=now, confirmed=now
            )
        elif owner == who:
            statement = TABLE.update().where(TABLE.c.name == name).values(confirmed=now)
        elif self._stated.get(who.sub) == name:
            statement = (
                TABLE.update()
                .where(TABLE.c.name == name)
                .values(realm=who.realm, sub=who.sub, bound=now, confirmed=now)
            )
        else:
            raise NameTaken(name, owner)
        self._session.execute(statement)
        self._session.commit()

    def unconfirmed_for(self, name: str) -> float | None:
        """Seconds since the provider last confirmed this user; None for a name that no user has."""
        row = self._session.execute(sa.select(TABLE.c.confirmed).where(TABLE.c.name == name)).first()
        return None if row is None else max(0.0, time.time() - float(row.confirmed))
