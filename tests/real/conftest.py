"""Fixtures of the tests on real platforms. One platform serves as many tests as it can: each start takes seconds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from front_parts import proxy_places
from real_platform import UNPRIVILEGED_UID, RealPlatform, running_platform

from tidehub.local.places import Places
from tidehub.local.software import Software, layout

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
    python = _python_for_everybody()
    if python is None:
        pytest.skip("another user may not run the environment of these tests")
    # The software that the platform of the tests uses: readable by everybody, and complete by now.
    request.getfixturevalue("platform")
    software = str(layout.default_root())
    with running_platform("user", uid=UNPRIVILEGED_UID, python=python, TIDEHUB_SOFTWARE=software) as started:
        _RUNNING.append(started)
        yield started
        _RUNNING.remove(started)


def _python_for_everybody() -> str | None:
    return sys.executable if _runs(sys.executable) else None


def _runs(python: str) -> bool:
    try:
        tried = subprocess.run(
            [python, "-I", "-c", "import jupyterhub, tidehub"],
            user=UNPRIVILEGED_UID,
            group=UNPRIVILEGED_UID,
            extra_groups=[],
            cwd="/",
            env={"PATH": "/usr/bin:/bin"},
            capture_output=True,
        )
    except PermissionError:
        return False
    return tried.returncode == 0


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
