"""Keeps codes, states and tokens of logins out of logs.

The hub redacts its own access lines, but tornado's warnings about a refused request quote the whole address.
"""

from __future__ import annotations

import logging
import re

_SECRET_PARAMETER = re.compile(
    r"(?P<name>\b(?:code|state|session_state|id_token|id_token_hint|access_token|refresh_token|token|client_secret"
    r"|code_verifier|password)=)[^&\s\"')]+"
)


def scrub(text: str) -> str:
    """`text` with the values of secret URL or form parameters replaced."""
    return _SECRET_PARAMETER.sub(r"\g<name>[hidden]", text)


class ScrubFilter(logging.Filter):
    """Rewrites every record that passes; add it to the loggers that see addresses."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        clean = scrub(message)
        if clean != message:
            record.msg, record.args = clean, ()
        return True


def install(names: tuple[str, ...] = ("tornado.general", "tornado.application", "tornado.access")) -> None:
    """Adds the filter to these loggers."""
    for name in names:
        logging.getLogger(name).addFilter(ScrubFilter())
