"""What tests of the first step of a checkout need."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def open_to_all(tmp_path: Path) -> Path:
    """Pytest's own directories are closed to others."""
    for place in [tmp_path, *tmp_path.parents]:
        if not place.stat().st_mode & 0o001:
            place.chmod(0o755)
    return tmp_path
