"""Taking back API tokens of the hub's services.

JupyterHub adds the tokens that its configuration names to its database and never takes one away (jupyterhub.app,
`_add_tokens`): without this, a replaced token would still be accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tidehub.errors import TidehubError
from tidehub.secrets.secret import Secret


def forget_tokens(database_url: str, tokens: Iterable[Secret]) -> int:
    """Delete these tokens from a hub's database while no hub runs on it; returns how many there were.

    `database_url` is the hub's (SQLAlchemy's form). Raises `TidehubError`; then nothing was deleted.
    """
    return _forget(database_url, lambda session, table: [table.find(session, one.reveal()) for one in tokens])


def forget_server_tokens(database_url: str) -> int:
    """Delete the tokens that notebook servers have, and those by which browsers and servers know each other.

    As `forget_tokens`. JupyterHub (user.py, `spawn`) notes "Server at <path>" on the first kind, and gives the others
    to the OAuth client `jupyterhub-user-<name>`.
    """

    def of_servers(session: Any, table: Any) -> list[Any]:
        noted = table.note.like("Server at %")
        return list(session.query(table).filter(noted | table.client_id.like("jupyterhub-user-%")))

    return _forget(database_url, of_servers)


def _forget(database_url: str, choose: Callable[[Any, Any], list[Any]]) -> int:
    file = database_url.removeprefix("sqlite:///")
    if file != database_url and not Path(file).exists():
        return 0
    from jupyterhub import orm
    from sqlalchemy import create_engine, inspect
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.orm import Session

    try:
        engine = create_engine(database_url)
        if database_url.startswith("sqlite"):
            orm.register_foreign_keys(engine)
        try:
            if not inspect(engine).has_table(orm.APIToken.__tablename__):
                return 0
            with Session(engine, future=True) as session:
                there = [token for token in choose(session, orm.APIToken) if token is not None]
                for token in there:
                    session.delete(token)
                session.commit()
                return len(there)
        finally:
            engine.dispose()
    except (SQLAlchemyError, ImportError) as error:
        # The address of a database server may hold a password, and SQLAlchemy quotes what it was doing.
        raise TidehubError(
            f"the hub's database cannot be changed ({type(error).__name__})",
            expected="the database of a platform that is stopped",
            fix="start and stop the platform once, which repairs or upgrades it; then rotate",
        ) from None
