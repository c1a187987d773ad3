"""Fixtures of the tests on real platforms. One platform serves as many tests as it can: each start takes seconds."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from front_parts import proxy_places
from real_platform import RealPlatform, running_platform, unprivileged_platform

from tidehub.local.places import Places
from tidehub.local.software import Software

_RUNNING: list[RealPlatform] = []


@pytest.fixture(scope="session")
def platform() -> Iterator[RealPlatform]:
    """The built-in site, as whoever runs the tests."""
    with running_platform("site") as started:
        _RUNNING.append(started)
        yield started
        _RUNNING.remove(started)


@pytest.fixture(scope="session")
def program() -> list[str]:
    """The proxy of the front door, without a platform."""
    return Software().proxy()


@pytest.fixture
def places() -> Iterator[Places]:
    """A state of its own for the proxy."""
    with proxy_places() as made:
        yield made


@pytest.fixture(scope="module", autouse=True)
def nobody_stays() -> Iterator[None]:
    """Every file of tests finds the shared platforms without servers of users."""
    yield
    for running in _RUNNING:
        running.send_everybody_home()


@pytest.fixture(scope="session")
def sandboxed_platform(request: pytest.FixtureRequest) -> Iterator[RealPlatform]:
    """The built-in site of an unprivileged user, whose users are separated by bubblewrap."""
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    if os.geteuid() != 0:
        yield request.getfixturevalue("platform")
        return
    with unprivileged_platform(request, "user") as started:
        _RUNNING.append(started)
        yield started
        _RUNNING.remove(started)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Shows the logs' ends of the platforms that a failed test used."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.failed and report.when in ("setup", "call"):
        for name, value in getattr(item, "funcargs", {}).items():
            if isinstance(value, RealPlatform):
                report.sections.append((f"logs of {name} ({value.state})", value.log_tails()))


_ARGUMENTS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium. Without one the tests are skipped, but never in continuous integration."""
    chromium = (
        os.environ.get("TIDEHUB_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    )
    if chromium is None:
        missing = "no Chromium: apt-get install chromium, or name one in TIDEHUB_CHROMIUM"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    playwright = pytest.importorskip("playwright.sync_api")
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=chromium, args=[*_ARGUMENTS, *sandbox])
        yield running
        running.close()
