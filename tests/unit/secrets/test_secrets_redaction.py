from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from tidehub.secrets.redaction import RedactingFilter, Redactor, install
from tidehub.secrets.secret import REDACTED, Secret

VALUE = "s3cr3t-value-9f8d"


@pytest.fixture
def written() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(RedactingFilter(Redactor([Secret(VALUE)])))
    logger = logging.getLogger("test of redaction")
    logger.propagate = False
    logger.addHandler(handler)
    yield logger, stream
    logger.removeHandler(handler)


def test_message_arguments_traceback_and_stack(written: tuple[logging.Logger, io.StringIO]) -> None:
    logger, stream = written
    logger.warning(f"plain {VALUE}")
    logger.warning("as %s and %r", VALUE, {"token": VALUE})
    logger.warning("stack", stack_info=True)
    try:
        raise ValueError(VALUE)
    except ValueError:
        logger.exception("it failed with %(what)s", {"what": VALUE})
    text = stream.getvalue()
    assert VALUE not in text
    assert text.count(REDACTED) >= 5
    assert "ValueError" in text
    assert "Stack (most recent call last)" in text


def test_a_record_that_does_not_fit_is_not_printed_with_its_arguments(
    written: tuple[logging.Logger, io.StringIO], capsys: pytest.CaptureFixture[str]
) -> None:
    logger, stream = written
    logger.warning("%d of %d", VALUE)
    shown = stream.getvalue() + capsys.readouterr().err
    assert VALUE not in shown
    assert "could not be formatted" in shown


def test_the_longest_first_and_bytes_too() -> None:
    redactor = Redactor([Secret("abcd"), Secret("abcdefgh")])
    assert redactor(b"x abcdefgh abcd y") == f"x {REDACTED} {REDACTED} y".encode()
    assert redactor.text("abcdefgh") == REDACTED


def test_short_values_do_not_tear_words_apart() -> None:
    assert Redactor([Secret("a"), Secret("")]).text("banana") == "banana"


def test_other_records_stay_as_they_are(written: tuple[logging.Logger, io.StringIO]) -> None:
    logger, _ = written
    record = logger.makeRecord("n", logging.INFO, "f", 1, "%s", ("plain",), None)
    RedactingFilter(Redactor([Secret(VALUE)])).filter(record)
    assert (record.msg, record.args) == ("%s", ("plain",))


def test_installed_once_and_for_handlers_to_come() -> None:
    before = logging.getLogRecordFactory()
    logger, stream = logging.getLogger("test of installing"), io.StringIO()
    try:
        install(Redactor([Secret(VALUE)]))
        once = logging.getLogRecordFactory()
        install(Redactor())
        assert logging.getLogRecordFactory() is once
        handler = logging.StreamHandler(stream)
        logger.addHandler(handler)
        logger.propagate = False
        logger.error("with %s", VALUE)
        assert stream.getvalue() == f"with {REDACTED}\n"
    finally:
        logging.setLogRecordFactory(before)
        logger.handlers.clear()
