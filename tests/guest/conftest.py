"""Fixtures of the tests on Debian machines. A file of tests has a machine of its own, which its stories share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import guest_image
import pytest
from guest_machine import Guest
from guest_platform import GuestPlatform

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.guest)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips, all from here because that gives one line in the summary.

    With CI set only the want of something that no package gives is a reason.
    """
    missing = guest_image.lacking()
    reason = ""
    if missing:
        reason = f"no Debian machine can be booted here: missing are {', '.join(missing)}"
    elif guest_image.disk(item.getparent(pytest.Module).obj.SUITE) is None:  # type: ignore[union-attr]
        reason = f"no Debian machine is prepared: as root, {guest_image.PREPARE} makes them (minutes, once)"
    if reason and os.environ.get("CI") and not guest_image.cannot():
        pytest.fail(f"{reason} (CI is set, so this is no reason to skip)", pytrace=False)
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="module")
def guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    """A machine of the suite that the module names in `SUITE`, with the disks of `EXTRA_DISKS` (MiB each)."""
    module = request.module
    with Guest(module.SUITE, extra_disks=getattr(module, "EXTRA_DISKS", ())) as booted:
        yield booted


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Shows of a failed test the console, the journal and the platforms' logs."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if not report.failed or report.when == "teardown":
        return
    for name, value in getattr(item, "funcargs", {}).items():
        if isinstance(value, GuestPlatform) and value.guest.is_running:
            report.sections.append((f"logs of {name} ({value.state})", value.logs()))
        elif isinstance(value, Guest):
            report.sections.append(("console", value.console[-2000:]))
            if value.is_running:
                journal = value.run("root", "journalctl --no-pager -n 60 -o short-monotonic", check=False)
                report.sections.append(("journal", journal.stdout))
