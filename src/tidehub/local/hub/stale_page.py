"""A spawn page that was open for too long is shown anew, instead of an error that says the user may not enter.

The page's token belongs to a login (JupyterHub 5.5, `_xsrf_utils`): who signed out and in again in another tab, whose
login ended, or whose server was started from elsewhere meanwhile, sends a form that the hub answers with 403 or 400.
Nothing is done for such a form: the browser is sent to the same address, where the hub shows what is true now.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from jupyterhub.handlers.pages import SpawnHandler
from tornado import web
from tornado.httputil import url_concat


class RenewingSpawnHandler(SpawnHandler):  # type: ignore[misc]
    """The hub's page where a server is started."""

    def check_xsrf_cookie(self) -> None:
        try:
            super().check_xsrf_cookie()
        except web.HTTPError as error:
            if error.status_code != 403 or not self._is_form():
                raise
            self.log.info("A spawn page of an earlier login is shown anew: %s", error)
            self._renew()

    async def post(self, user_name: str | None = None, server_name: str = "") -> None:
        if self.current_user is None and self._is_form():
            self._renew()
            return
        try:
            await super().post(user_name, server_name)
        except web.HTTPError as error:
            if error.status_code != 400 or not self._runs(user_name, server_name):
                raise
            self._renew()

    def _is_form(self) -> bool:
        """Whether a browser sends a page's form, and goes where the answer says; not a script's request."""
        return bool(self.request.headers.get("Sec-Fetch-Mode", "navigate") == "navigate")

    def _runs(self, user_name: str | None, server_name: str) -> bool:
        user = self.current_user if user_name is None else self.find_user(user_name)
        return user is not None and server_name in user.spawners and bool(user.spawners[server_name].active)

    def _renew(self) -> None:
        kept = {name: self.get_argument(name) for name in ("next",) if self.get_argument(name, None)}
        # 303: whatever was sent, the next request is for the page (RFC 9110, 15.4.4).
        self.redirect(url_concat(self.request.path, kept), status=303)


def renewing(handlers: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The hub's list of handlers (pattern, class, ...) with ours for the spawn page."""
    return [
        (path, RenewingSpawnHandler if kind is SpawnHandler else kind, *more)
        for path, kind, *more in handlers
    ]
