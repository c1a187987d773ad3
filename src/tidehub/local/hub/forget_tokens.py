"""Taking back API tokens of the hub's services.

JupyterHub adds the tokens that its configuration names to its database and never takes one away (jupyterhub.app,
`_add_tokens`): without this, a replaced token would still be accepted.
"""

from __future__ import annotations

from collections.abc import Iterable

from tidehub.errors import TidehubError
from tidehub.secrets.secret import Secret


def forget_tokens(database_url: str, tokens: Iterable[Secret]) -> int:
    """Delete these tokens from a hub's database while no hub runs on it; returns how many there were.

    `database_url` is the hub's (SQLAlchemy's form). Raises `TidehubError`; then nothing was deleted.
    """
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
                found = [orm.APIToken.find(session, token.reveal()) for token in tokens]
                there = [token for token in found if token is not None]
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
