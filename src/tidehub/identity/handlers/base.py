"""What all endpoints share: headers, parameters, errors without traces, logs without secrets."""

from __future__ import annotations

import hmac
import http.client
import logging
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

from tornado.web import HTTPError, RequestHandler

from tidehub.identity.addresses import FRONT_HEADER, client_address
from tidehub.identity.pages import JSON_HEADERS, page_headers
from tidehub.identity.protocol import parse_parameters
from tidehub.identity.provider import Provider
from tidehub.system.files import is_full_disk

log = logging.getLogger("tidehub.identity")

_FULL = "The disk of this hub is full, so nobody can sign in until there is room again."
_FORM = "application/x-www-form-urlencoded"


def _error_of(more: Mapping[str, Any]) -> BaseException | None:
    """The exception that tornado hands to `write_error`."""
    found: BaseException | None = (more.get("exc_info") or (None, None))[1]
    return found


class Endpoint(RequestHandler):
    """A request handler with the provider at hand."""

    SUPPORTED_METHODS = ("GET", "HEAD", "POST")

    def initialize(self, provider: Provider) -> None:
        self.provider = provider

    def set_default_headers(self) -> None:
        self.clear_header("Server")

    @property
    def client_address(self) -> str:
        """Whom to hold responsible, as an address or a uid."""
        proof, _, uid = self.request.headers.get(FRONT_HEADER, "").partition(" ")
        return client_address(
            self.request.remote_ip or "",
            self.request.headers.get_list("X-Forwarded-For"),
            self.provider.trusted_proxies,
            proven=hmac.compare_digest(proof.encode(), self.provider.front_proof.encode()),
            uid=uid,
        )

    def query_parameters(self) -> list[tuple[str, str]]:
        """The query's parameters. Raises `ValueError` for broken ones."""
        return parse_parameters(self.request.query)

    def form_parameters(self) -> list[tuple[str, str]]:
        """The body's parameters. Raises `ValueError` for another kind of body or broken ones."""
        kind = self.request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind != _FORM:
            raise ValueError(f"the body must be {_FORM}")
        return parse_parameters(self.request.body)

    def request_parameters(self) -> list[tuple[str, str]]:
        """The body's parameters of a POST, the query's else. Raises `ValueError`."""
        return self.form_parameters() if self.request.method == "POST" else self.query_parameters()

    def add_headers(self, headers: dict[str, str]) -> None:
        for name, value in headers.items():
            self.set_header(name, value)

    # Tornado's own log lines hold the whole address, and with it codes and states.
    def _request_summary(self) -> str:
        return f"{self.request.method} {self.request.path}"

    def log_exception(
        self,
        typ: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if not isinstance(value, HTTPError):
            log.error("%s failed", self._request_summary(), exc_info=(typ, value, tb))  # type: ignore[arg-type]


class Page(Endpoint):
    """An endpoint that users see."""

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.add_headers(page_headers())

    def cookie(self, name: str) -> str | None:
        morsel = self.request.cookies.get(name)
        return None if morsel is None or not morsel.value else morsel.value

    def keep(self, name: str, value: str) -> None:
        """Set a cookie for this browser's session, for the provider's path alone, unreadable by scripts."""
        self.set_cookie(
            name,
            value,
            path=self.provider.config.prefix or "/",
            httponly=True,
            secure=self.provider.config.secure,
            samesite="Lax",
        )

    def forget(self, name: str) -> None:
        self.set_cookie(
            name,
            "",
            path=self.provider.config.prefix or "/",
            httponly=True,
            secure=self.provider.config.secure,
            samesite="Lax",
            max_age=0,
        )

    def show(self, page: str, *, status: int = 200, leads_to: Iterable[str] = (), **values: Any) -> None:
        """Answer with a page whose forms may lead to the addresses `leads_to`."""
        self.set_status(status)
        self.add_headers(page_headers(*leads_to))
        self.set_header("Content-Type", "text/html; charset=UTF-8")
        self.finish(self.provider.pages.render(page, **values))

    def show_error(self, title: str, message: str, *, status: int = 400) -> None:
        """Answer with a page that says what is wrong and what to do."""
        self.show("error", status=status, title=title, message=message)

    def send_to(self, address: str) -> None:
        """Send the browser on, always by GET."""
        self.redirect(address, status=303 if self.request.method == "POST" else 302)

    def opened_by_a_user(self) -> bool:
        """Whether this is a page of its own and not a script's or frame's doing, as far as the browser tells.

        Notebook servers live on the same origin: what runs there must not use the provider unseen.
        """
        headers = self.request.headers
        return (
            headers.get("Sec-Fetch-Mode", "navigate") == "navigate"
            and headers.get("Sec-Fetch-Dest", "document") == "document"
        )

    def sent_from_here(self) -> bool:
        """Whether a form was sent from this site's own pages, as far as the browser tells."""
        return self.request.headers.get("Origin", self.provider.config.origin) == self.provider.config.origin

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        if is_full_disk(_error_of(kwargs)):
            self.show_error("The disk is full", f"{_FULL} Your files are safe.", status=507)
            return
        titles = {404: "There is no such page", 405: "This address works differently"}
        messages = {
            400: "Your browser sent something that cannot be understood. Go back and start again.",
            404: "Check the address, or go back to the site that you came from.",
            405: "It cannot be opened like this. Go back to the site that you came from and start again.",
        }
        self.show_error(
            titles.get(status_code, http.client.responses.get(status_code, "Error")),
            messages.get(status_code, "Something went wrong here. Try again in a moment."),
            status=status_code,
        )


class Interface(Endpoint):
    """An endpoint that programs use."""

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.add_headers(JSON_HEADERS)

    def answer(self, body: dict[str, Any] | str, *, status: int = 200) -> None:
        """Answer with JSON: an object, or its text."""
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.finish(body)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        if is_full_disk(_error_of(kwargs)):
            self.answer({"error": "server_error", "error_description": _FULL}, status=507)
            return
        reason = http.client.responses.get(status_code, "Error")
        code = "server_error" if status_code >= 500 else "invalid_request"
        self.answer({"error": code, "error_description": reason}, status=status_code)
