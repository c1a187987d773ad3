"""Which profile each server was started with, and what its owner holds: read from the hub's database."""

from __future__ import annotations

from pathlib import Path

from tidehub.errors import TidehubError
from tidehub.local.hub.fixed_at_start import Started
from tidehub.local.hub.spawn_page import FIELD


def started_servers(database_url: str) -> dict[tuple[str, str], Started]:
    """The servers that run by the hub's own word, by owner and name; reads alone, while the hub works on it.

    `database_url` is the hub's (SQLAlchemy's form). Raises `TidehubError` when it cannot be read.
    """
    file = database_url.removeprefix("sqlite:///")
    if file != database_url and not Path(file).exists():
        return {}
    from jupyterhub import orm
    from sqlalchemy import create_engine, select
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.orm import Session, selectinload

    try:
        engine = create_engine(database_url)
        try:
            with Session(engine, future=True) as session:
                running = select(orm.Spawner).where(orm.Spawner.server_id.is_not(None))
                whole = running.options(selectinload(orm.Spawner.user).selectinload(orm.User.groups))
                return {
                    (one.user.name, one.name): Started(
                        user=one.user.name,
                        profile=_profile(one.user_options),
                        groups=tuple(group.name for group in one.user.groups),
                    )
                    for one in session.scalars(whole)
                }
        finally:
            engine.dispose()
    # The last two are what a damaged value raises as it is decoded.
    except (SQLAlchemyError, ImportError, ValueError, RecursionError) as error:
        # The address of a database server may hold a password, and SQLAlchemy quotes what it was doing.
        raise TidehubError(f"the hub's database cannot be read ({type(error).__name__})") from None


def _profile(options: object) -> str | None:
    chosen = options.get(FIELD) if isinstance(options, dict) else None
    return chosen if isinstance(chosen, str) else None
