"""What users send to the hub is checked before one of its handlers sees it, and once more before it is stored.

JupyterHub 5.5.4 commits `user_options`, a server and its token before the Spawner's traits look at them
(`User.spawn`), and reads them without a check at its next start: a list in that place kept the hub from ever starting
again. So there are two walls here. `CheckedHandler` stands before every handler of the hub, whatever the route, and
refuses what is not well-formed with 400 and words. `check_columns` stands before every column of the hub's database,
whoever writes it, and lets in only what the column's reader can take back.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import sqlalchemy as sa
from dateutil.parser import parse as parse_date  # type: ignore[import-untyped]
from sqlalchemy import event
from tornado import web

from tidehub.local.hub.spawner_words import NoRoom
from tidehub.local.json_input import LONGEST_NUMBER, fault_of, fault_of_text, read_json
from tidehub.local.room import FULL_FOR_USERS
from tidehub.system.files import is_full_disk

MOST_BODY = 8 * 2**20
"""Bytes of any request that the hub reads at all."""
MOST_JSON = 256 * 2**10
"""Bytes of a JSON body; the longest real ones name a few thousand users."""
MOST_STORED = 64 * 2**10
"""Bytes of one JSON value in the database that comes from users."""
MOST_BINARY = 2**20

LONGEST_NOTE = 1023
"""Characters of a token's note, as its column says; sqlite would hold any number of them."""
_TIMES = 100 * 365 * 86400
"""Seconds; no token and no share lives longer."""


class BadInput(web.HTTPError):
    """The request cannot be served as it is. The words are for whoever sent it."""

    def __init__(self, words: str, status: int = 400) -> None:
        super().__init__(status, "%s", words)
        self.jupyterhub_message = words


# --- before the handlers ------------------------------------------------------------------------------------------


class CheckedHandler(web.RequestHandler):
    """Mixed in before every handler of the hub, see `checked`."""

    async def prepare(self) -> None:
        # After the hub's own: its error pages need to know who asks.
        await super().prepare()  # type: ignore[misc]
        if not self._finished:
            self.check_request()

    def check_request(self) -> None:
        """Raise `BadInput` for an address, arguments or a body that are not well-formed."""
        _check_text(unquote_to_bytes(self.request.path), "The address")
        for name, values in self.request.arguments.items():
            _check_text(name.encode("latin-1", "replace"), "The name of an argument")
            for value in values:
                _check_text(value, "An argument")
        for address in self.get_arguments("next"):
            _expect_address(address)
        if self.is_json():
            if len(self.request.body) > MOST_JSON:
                size = len(self.request.body)
                raise BadInput(f"The body has {size} bytes; at most {MOST_JSON} are accepted", 413)
            try:
                body = read_json(self.request.body)
            except ValueError as error:
                raise BadInput(f"The body {error}") from None
            self.check_body(body)

    def is_json(self) -> bool:
        """Whether the body is read as JSON: the hub does so whatever its `Content-Type` says."""
        from jupyterhub.apihandlers.auth import OAuthTokenHandler
        from jupyterhub.apihandlers.base import APIHandler

        return isinstance(self, APIHandler) and not isinstance(self, OAuthTokenHandler)

    def check_body(self, body: Any) -> None:
        """Raise `BadInput` unless `body` has the shape that this route needs."""
        if body is None:
            return
        if not isinstance(body, dict):
            raise BadInput(f"The body must be a JSON object, not {_kind(body)}")
        from jupyterhub.apihandlers import users

        if isinstance(self, users.UserTokenListAPIHandler):
            _expect_note(body)
            _expect_seconds(body)
        if isinstance(self, users.ActivityAPIHandler):
            _expect_times(body)
        deletes = isinstance(self, users.UserServerAPIHandler) and self.request.method == "DELETE"
        if deletes and not isinstance(body.get("remove", False), bool):
            raise BadInput(f"remove must be true or false, not {_kind(body['remove'])}")

    async def spawn_single_user(self, user: Any, server_name: str = "", options: Any = None) -> Any:
        """The one way to a server, from the API, the form and the address of the spawn page."""
        if options is not None:
            if not isinstance(options, dict):
                raise BadInput(f"The options of a server must be a JSON object, not {_kind(options)}")
            check_options = getattr(user.spawners[server_name], "check_options", None)
            if check_options is not None:
                check_options(options)
        return await super().spawn_single_user(user, server_name, options=options)  # type: ignore[misc]

    async def refresh_auth(self, user: Any, force: bool = False) -> Any:
        """One request asks the provider about a user once, however often the hub wants to be sure (`force`)."""
        if not force:
            return await super().refresh_auth(user, force=force)  # type: ignore[misc]
        asked: dict[str, Any] = self.__dict__.setdefault("_asked", {})
        if user.name not in asked:
            asked[user.name] = await super().refresh_auth(user, force=True)  # type: ignore[misc]
        return asked[user.name]

    async def _wrap_spawn_single_user(self, user: Any, *rest: Any, **more: Any) -> Any:
        # JupyterHub 5.5 gives a start one second until it is pending, then sends the user to the page of a pending one.
        # Asking the provider comes first in that second; where it takes longer nothing is pending yet, and the page
        # says that the server is not running.
        if self.authenticator.refresh_pre_spawn:  # type: ignore[attr-defined]
            await self.refresh_auth(user, force=True)
        return await super()._wrap_spawn_single_user(user, *rest, **more)  # type: ignore[misc]

    def log_exception(self, kind: Any, error: Any, trace: Any) -> None:
        if is_full_disk(error):
            # Foreseen: no trace of where it was met.
            self.log.error("The disk is full: %s %s: %s", self.request.method, self.request.path, error)  # type: ignore[attr-defined]
        else:
            super().log_exception(kind, error, trace)

    def write_error(self, status_code: int, **more: Any) -> None:
        error = (more.get("exc_info") or (None, None))[1]
        if is_full_disk(error):
            # The hub would say "500 : Internal Server Error", and go on with a session that cannot be used.
            self.db.rollback()  # type: ignore[attr-defined]
            status_code, full = NoRoom.status, NoRoom(FULL_FOR_USERS)
            self.set_status(status_code)
            more["exc_info"] = (NoRoom, full, None)
        elif isinstance(error, BadInput):
            # Raised by a column, the session may hold an object that is only half made.
            self.db.rollback()  # type: ignore[attr-defined]
        return super().write_error(status_code, **more)


def checked(handlers: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The hub's list of handlers (pattern, class, ...), each class behind `CheckedHandler`."""
    from jupyterhub.handlers.base import BaseHandler

    made: dict[type, type] = {}

    def behind(kind: Any) -> Any:
        if not isinstance(kind, type) or not issubclass(kind, BaseHandler):
            return kind
        if kind not in made:
            # Under its own name: the hub's metrics and log lines show it.
            made[kind] = type(kind.__name__, (CheckedHandler, kind), {"__module__": kind.__module__})
        return made[kind]

    return [(pattern, behind(kind), *more) for pattern, kind, *more in handlers]


def _check_text(raw: bytes, what: str) -> None:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise BadInput(f"{what} is not valid UTF-8") from None
    if "\0" in text:
        raise BadInput(f"{what} holds a NUL character")


def _kind(value: Any) -> str:
    names = {list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), type(value).__name__)


def _expect_note(body: Mapping[str, Any]) -> None:
    value = body.get("note")
    if value is not None and not isinstance(value, str):
        raise BadInput(f"note must be text, not {_kind(value)}")
    if value is not None and len(value) > LONGEST_NOTE:
        raise BadInput(f"note has {len(value)} characters; at most {LONGEST_NOTE} are accepted")


def _expect_seconds(body: Mapping[str, Any]) -> None:
    value = body.get("expires_in")
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _TIMES:
        raise BadInput("expires_in must be a number of seconds above 0, and at most 100 years")


def _expect_times(body: Mapping[str, Any]) -> None:
    """The hub's own look at these (5.5.4, `_parse_timestamp`) fails for the first and the last day that there is."""
    servers = body.get("servers")
    for one in (body, *(servers.values() if isinstance(servers, dict) else ())):
        value = one.get("last_activity") if isinstance(one, dict) else None
        if isinstance(value, str):
            try:
                parse_date(value).astimezone(datetime.UTC)
            except (ValueError, OverflowError, TypeError):
                raise BadInput("last_activity must be a time such as 2026-01-31T12:00:00Z") from None


def _expect_address(value: str) -> None:
    """Where to go after a login; the hub reads it with this function and no net."""
    try:
        urlsplit(value)
    except ValueError:
        raise BadInput("next is not a valid address") from None


# --- before the database ------------------------------------------------------------------------------------------


def check_columns() -> None:
    """Watch every column of the hub's tables from now on: assigning what cannot be read again raises `BadInput`."""
    from jupyterhub.orm import Base

    for mapper in Base.registry.mappers:
        for attribute in mapper.column_attrs:
            column = attribute.columns[0]
            if column.table is mapper.local_table and isinstance(column, sa.Column):
                _watch(getattr(mapper.class_, attribute.key), column)


def _watch(attribute: Any, column: sa.Column[Any]) -> None:
    def look(target: Any, value: Any, *_: Any) -> None:
        fault = column_fault(column, value)
        if fault:
            raise BadInput(f"{column.table.name}.{column.name} cannot be set: it {fault}")

    event.listen(attribute, "set", look)


def column_fault(column: sa.Column[Any], value: Any) -> str | None:
    """What keeps `value` from being stored in `column` and read again, to follow "it"; None for a good one (pure)."""
    if value is None or isinstance(value, sa.sql.ClauseElement):
        return None
    kind = column.type
    if _is_json(kind):
        return _fault_of_json(column, value)
    if isinstance(kind, sa.Boolean):
        return None if value in (True, False) else "must be true or false"
    if isinstance(kind, sa.DateTime):
        return None if isinstance(value, datetime.datetime) else "must be a time"
    if isinstance(kind, sa.LargeBinary):
        good = isinstance(value, bytes) and len(value) <= MOST_BINARY
        return None if good else f"must be at most {MOST_BINARY} bytes"
    if isinstance(kind, sa.Integer):
        good = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LONGEST_NUMBER
        return None if good else "must be a whole number up to 2**53"
    if isinstance(kind, sa.String):
        if not isinstance(value, str):
            return f"must be text, not {_kind(value)}"
        if kind.length is not None and len(value) > kind.length:
            return f"has {len(value)} characters; at most {kind.length} are accepted"
        fault = fault_of_text(value)
        return f"is {fault}" if fault else None
    return None


def _is_json(kind: Any) -> bool:
    from jupyterhub.orm import JSONDict

    return isinstance(kind, JSONDict)


_OPERATORS = {"roles", "services", "oauth_clients"}
"""Tables that the site's configuration fills: as long as it likes."""


def _fault_of_json(column: sa.Column[Any], value: Any) -> str | None:
    from jupyterhub.orm import JSONList

    lists = isinstance(column.type, JSONList)
    if not isinstance(value, (list, tuple, set, frozenset) if lists else dict):
        return f"must be a {'list' if lists else 'JSON object'}, not {_kind(value)}"
    fault = fault_of(value)
    if fault or column.table.name in _OPERATORS:
        return fault
    size = len(json.dumps(list(value) if lists else value, default=repr))
    return f"has {size} bytes; at most {MOST_STORED} are accepted" if size > MOST_STORED else None
