"""Loaded into every Dask scheduler, worker and client: the error of one TLS connection does not end another one.

With OpenSSL 3.5 (Debian 13) Python's ssl leaves the EPIPE or ECONNRESET of a connection whose other end is gone in
OpenSSL's error queue, and the next read of any other connection of the thread raises it
(https://github.com/python/cpython/issues/148594): whenever a worker ended, its scheduler lost clients and other
workers. Here the queue is emptied after every such error. This file runs in the notebook environment: it imports
nothing of ours.
"""

from __future__ import annotations

import contextlib
import functools
import ssl
from collections.abc import Callable
from typing import Any

from tornado.iostream import SSLIOStream

_CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
CHANGED = ("read_from_fd", "write_to_fd", "_do_ssl_handshake")
"""What of tornado's stream asks OpenSSL for something."""


def clear_errors() -> None:
    """Empty OpenSSL's error queue of this thread: Python has no name for that, but a refused cipher does it."""
    with contextlib.suppress(ssl.SSLError):
        _CONTEXT.set_ciphers("no such cipher")


def clearing(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, which leaves no error behind when it fails, or closes its stream because it failed."""

    @functools.wraps(method)
    def called(stream: SSLIOStream, *arguments: Any) -> Any:
        failed = True
        try:
            result = method(stream, *arguments)
            failed = stream.closed()
            return result
        finally:
            if failed:
                clear_errors()

    return called


for _name in CHANGED:
    # Every client of a process loads this file.
    if not hasattr(getattr(SSLIOStream, _name), "__wrapped__"):
        setattr(SSLIOStream, _name, clearing(getattr(SSLIOStream, _name)))
