"""HTTP, names and the time, with deadlines. Everything that items ask outside of the cluster goes through here."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from tidehub.errors import TidehubError

if TYPE_CHECKING:
    import httpx

SECONDS = 15.0
"""For one answer."""
LARGEST = 8 * 2**20
"""Bytes of an answer that is read whole."""


class NoAnswer(TidehubError):
    """Nothing answered, or not as HTTP."""


@dataclass(frozen=True)
class Reply:
    """An HTTP answer, read whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    clock_offset: float | None = None
    """Seconds that the server's clock is ahead of ours, where it said."""


class Network:
    """The real network. Tests start real servers, and give names of their own by `names`."""

    def __init__(
        self, *, names: Mapping[str, tuple[str, ...]] | None = None, seconds: float = SECONDS
    ) -> None:
        self._names = dict(names or {})
        self.seconds = seconds
        self._lock = threading.Lock()
        self._client: httpx.Client | None = None

    def get(self, url: str, headers: Mapping[str, str] | None = None, *, follow: bool = True) -> Reply:
        """One GET. Raises `NoAnswer`."""
        with self.open(url, headers, follow=follow) as response:
            chunks, size = [], 0
            for chunk in response.iter_bytes():
                size += len(chunk)
                if size > LARGEST:
                    raise NoAnswer(f"the answer of {_host(url)} is larger than {LARGEST // 2**20} MiB")
                chunks.append(chunk)
            return Reply(response.status_code, response.headers, b"".join(chunks), _offset(response.headers))

    @contextmanager
    def open(
        self, url: str, headers: Mapping[str, str] | None = None, *, follow: bool = True
    ) -> Iterator[httpx.Response]:
        """An answer to be read in pieces. Raises `NoAnswer`, also from within."""
        import httpx

        try:
            with self._http().stream(
                "GET", url, headers=dict(headers or {}), follow_redirects=follow
            ) as response:
                yield response
        except httpx.TimeoutException as error:
            raise NoAnswer(f"{_host(url)} did not answer within {self.seconds:.0f} s") from error
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError) as error:
            raise NoAnswer(f"{_host(url)} was not reached: {_words(error)}") from error

    def addresses(self, name: str) -> tuple[str, ...]:
        """The IP addresses of a name, in order; empty where it has none. Raises `NoAnswer` where nobody knows."""
        if name in self._names:
            return self._names[name]
        looking: Future[tuple[str, ...]] = Future()
        # The resolver of the C library has no deadline of its own.
        threading.Thread(target=_look_up, args=(name, looking), daemon=True).start()
        try:
            return looking.result(timeout=self.seconds)
        except TimeoutError as error:
            raise NoAnswer(f"the resolver did not answer about {name} within {self.seconds:.0f} s") from error

    def now(self) -> float:
        """This machine's time, in seconds since 1970."""
        return time.time()

    def close(self) -> None:
        """Lets go of connections."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _http(self) -> httpx.Client:
        import httpx

        with self._lock:
            if self._client is None:
                self._client = httpx.Client(timeout=self.seconds)
            return self._client


def _look_up(name: str, answer: Future[tuple[str, ...]]) -> None:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        answer.set_result(tuple(sorted({str(entry[4][0]) for entry in found})))
    except socket.gaierror as error:
        if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
            answer.set_result(())
        else:
            answer.set_exception(NoAnswer(f"the resolver has no answer about {name}: {error.strerror}"))
    except (OSError, UnicodeError) as error:
        answer.set_exception(NoAnswer(f"{name} cannot be looked up: {error}"))


def _offset(headers: Mapping[str, str]) -> float | None:
    try:
        return parsedate_to_datetime(headers["date"]).timestamp() - time.time()
    except (KeyError, ValueError):
        return None


def _host(url: str) -> str:
    """Who was asked: never the whole address, which may hold what is secret."""
    return url.split("?", 1)[0].split("/", 3)[2] if "://" in url else url


def _words(error: Exception) -> str:
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return "its certificate is not trusted"
    for mark, words in (
        ("Name or service not known", "its name is not known"),
        ("No address associated", "its name has no address"),
        ("Temporary failure in name resolution", "its name could not be resolved"),
        ("Connection refused", "the connection was refused"),
        ("refused", "the connection was refused"),
    ):
        if mark in text:
            return words
    return type(error).__name__
