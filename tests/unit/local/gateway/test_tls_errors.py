"""What is preloaded so that one broken TLS connection does not break others; OpenSSL's own queue is looked at."""

from __future__ import annotations

import _ssl
import ctypes
import importlib.util
from collections.abc import Iterator
from types import ModuleType

import pytest
from tornado.iostream import SSLIOStream

from tidehub.local.gateway.config import TLS_ERRORS


class Queue:
    """OpenSSL's error queue of this thread."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL(_ssl.__file__)
        self.library.ERR_peek_error.restype = ctypes.c_ulong
        self.library.ERR_clear_error()

    def leave(self) -> None:
        """An error as ssl leaves it behind: 32 is EPIPE, 2 the library of system calls."""
        self.library.ERR_new()
        self.library.ERR_set_error(2, 32, None)

    @property
    def is_empty(self) -> bool:
        return bool(self.library.ERR_peek_error() == 0)


class Stream:
    """What the preloaded file asks of a stream."""

    def __init__(self, closed: bool = False) -> None:
        self._closed = closed

    def closed(self) -> bool:
        return self._closed


@pytest.fixture
def queue() -> Queue:
    if not hasattr(_ssl, "__file__"):
        pytest.skip("this Python holds its OpenSSL inside")
    return Queue()


@pytest.fixture
def preload(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    # Tornado's own come back after the test.
    for name in ("read_from_fd", "write_to_fd", "_do_ssl_handshake"):
        monkeypatch.setattr(SSLIOStream, name, getattr(SSLIOStream, name))
    yield _load()


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tls_errors", TLS_ERRORS)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_failure_leaves_no_error_behind(preload: ModuleType, queue: Queue) -> None:
    def broken(_: Stream, data: bytes) -> int:
        queue.leave()
        raise BrokenPipeError(len(data))

    queue.leave()
    assert not queue.is_empty
    with pytest.raises(BrokenPipeError, match="3"):
        preload.clearing(broken)(Stream(), b"abc")
    assert queue.is_empty


def test_a_stream_that_closes_itself_leaves_none_either(preload: ModuleType, queue: Queue) -> None:
    preload.clearing(lambda stream: queue.leave())(Stream(closed=True))
    assert queue.is_empty


def test_every_call_of_tornados_stream_is_changed_once(preload: ModuleType) -> None:
    changed = {name: getattr(SSLIOStream, name) for name in preload.CHANGED}
    assert all(hasattr(method, "__wrapped__") for method in changed.values())
    _load()
    assert {name: getattr(SSLIOStream, name) for name in preload.CHANGED} == changed
