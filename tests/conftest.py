"""What all tests share: skips of those that need root, one line a file in the summary, and names of bytes."""

from __future__ import annotations

import os
import signal

import pytest


def pytest_configure() -> None:
    """A shell starts what it runs in the background with SIGINT ignored, and `nohup` with SIGHUP; programs to which
    tests send these inherit that."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write down why a test was skipped, for the table at the end of `./test` (tools/skipped.py)."""
    file = os.environ.get("TIDEHUB_SKIPPED")
    if (
        file
        and report.skipped
        and "PYTEST_XDIST_WORKER" not in os.environ
        and not hasattr(report, "wasxfail")
    ):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        with open(file, "a") as written:  # noqa: PTH123
            written.write(" ".join(reason.removeprefix("Skipped: ").split()) + "\n")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs root"))


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Binary data has the parameter's name: an archive's own would have the time of day in it.

    Two processes that share the tests must find the same names, and a terminal be able to show them.
    """
    if isinstance(val, bytes) and not val.decode("latin-1").isprintable():
        return argname
    return None
