"""Secrets kept out of what is written: known values are replaced wherever they turn up."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any

from tidehub.secrets.secret import REDACTED, Secret

SHORTEST_HIDDEN = 4
"""Characters. Replacing shorter values would tear ordinary words apart; no accepted secret is that short."""


class Redactor:
    """Replaces secrets in text and bytes, the longest first, so that no part of a longer one is left."""

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        self._lock = threading.Lock()
        self._known: frozenset[str] = frozenset()
        self._texts: tuple[str, ...] = ()
        self._needles: tuple[bytes, ...] = ()
        self.add(secrets)

    def add(self, secrets: Iterable[Secret]) -> None:
        """Hide these from now on, too. Several threads may add."""
        with self._lock:
            new = {secret.reveal() for secret in secrets}
            self._known |= {value for value in new if len(value) >= SHORTEST_HIDDEN}
            self._texts = tuple(sorted(self._known, key=len, reverse=True))
            self._needles = tuple(text.encode() for text in self._texts)

    def __call__(self, line: bytes) -> bytes:
        for needle in self._needles:
            line = line.replace(needle, REDACTED.encode())
        return line

    def text(self, text: str) -> str:
        for known in self._texts:
            text = text.replace(known, REDACTED)
        return text


known = Redactor()
"""What this process has read from a source of secrets."""


class RedactingFilter(logging.Filter):
    """Takes known secrets out of log records: message, arguments, traceback, stack. Other records stay as they are."""

    def __init__(self, redactor: Redactor = known) -> None:
        super().__init__()
        self._redactor = redactor

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            message = record.getMessage()
        except Exception:  # logging itself would print the arguments in its complaint
            record.msg, record.args = "a log record of %s could not be formatted", (record.name,)
            return True
        if (clean := self._redactor.text(message)) != message:
            record.msg, record.args = clean, None
        if record.exc_info and not record.exc_text:
            told = logging.Formatter().formatException(record.exc_info)
            if self._redactor.text(told) != told:
                record.exc_text, record.exc_info = told, None
        if record.exc_text:
            record.exc_text = self._redactor.text(record.exc_text)
        if record.stack_info:
            record.stack_info = self._redactor.text(record.stack_info)
        return True


class _Records:
    """Makes log records and clears them: no handler that is added later goes past it."""

    def __init__(self, make: Callable[..., logging.LogRecord], redactor: Redactor) -> None:
        self._make = make
        self._filter = RedactingFilter(redactor)

    def __call__(self, *words: Any, **more: Any) -> logging.LogRecord:
        record = self._make(*words, **more)
        self._filter.filter(record)
        return record


def install(redactor: Redactor = known) -> None:
    """Clear every log record of this process of what `redactor` knows. Calling it again changes nothing."""
    make = logging.getLogRecordFactory()
    if not isinstance(make, _Records):
        logging.setLogRecordFactory(_Records(make, redactor))
