"""The table at the end of `./test`: what was skipped, and the one command that gets each."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

CHECKOUT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def skipped() -> ModuleType:
    spec = importlib.util.spec_from_file_location("skipped", CHECKOUT / "tools/skipped.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_each_kind_has_one_line_with_its_command(skipped: ModuleType) -> None:
    lines = skipped.table(
        ["needs root"] * 3
        + ["only root can mount a small file system", "bubblewrap is not installed"]
        + ["TIDEHUB_CHARTS names no directory with jupyterhub-4.4.0.tgz"]
        + ["no Chromium: apt-get install chromium, or name one in TIDEHUB_CHROMIUM"]
        + ["this kernel has no modules for quotas"]
    )
    assert lines[0] == "== 8 tests were skipped for want of"
    assert [line.split()[0] for line in lines[1:]] == ["4", "1", "1", "1", "1"]
    assert lines[1].endswith("sudo ./test")
    text = "\n".join(lines)
    for command in ("apt-get install bubblewrap", "apt-get install chromium", "TIDEHUB_CHARTS=$PWD/charts"):
        assert command in text
    assert lines[-1].split("  ")[-1] == skipped.NOTHING and "no modules for quotas" in lines[-1]


def test_nothing_skipped_is_no_table(skipped: ModuleType) -> None:
    assert skipped.table([]) == []


def test_pytest_writes_every_reason_down_once(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import pytest\n"
        "def test_one(): pytest.skip('needs\\n a thing')\n"
        "@pytest.mark.skip(reason='another thing')\ndef test_two(): pass\n"
        "@pytest.mark.xfail\ndef test_three(): assert False\n"
        "def test_four(): pass\n"
    )
    reasons = tmp_path / "reasons"
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        "TIDEHUB_SKIPPED": str(reasons),
        "PYTHONPATH": f"{CHECKOUT / 'tests'}:{':'.join(sys.path)}",
    }
    for more in ([], ["-n", "2"]):
        reasons.unlink(missing_ok=True)
        subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "-p", "conftest", "-p", "no:cacheprovider"),
                *("-c", "/dev/null", "--rootdir", str(tmp_path), str(tmp_path / "test_it.py"), *more),
            ],
            cwd=tmp_path, env=env, check=True, capture_output=True, timeout=120,
        )  # fmt: skip
        assert sorted(reasons.read_text().splitlines()) == ["another thing", "needs a thing"]
