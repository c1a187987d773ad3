from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest
from hypothesis import settings

from tidehub.program import CHECKOUT

# The messages of the installed program, not of the checkout that runs the tests.
os.environ.pop(CHECKOUT, None)
# No deadline for single examples: these tests also run on machines that are busy with something else.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


@pytest.fixture
def wait_until() -> Callable[[Callable[[], bool]], None]:
    """For what another process does and does not announce; fails after five minutes: others may be at work here."""

    def wait(true: Callable[[], bool]) -> None:
        until = time.monotonic() + 300
        while not true():
            assert time.monotonic() < until, "this never came true"
            time.sleep(0.02)

    return wait
