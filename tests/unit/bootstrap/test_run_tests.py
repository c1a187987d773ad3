"""The checks of `./test`: a test that names what is gone is noticed before it runs, also where it would not run."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

CHECKOUT = Path(__file__).parents[3]

GONE = """
import tidehub.gone
from tidehub.errors import Gone
from tidehub import errors

def test_it() -> None:
    errors.gone()
    errors.TidehubError("what", gone=1)
    elsewhere()
"""


def test_a_test_that_names_what_is_gone_is_noticed(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("run_tests", CHECKOUT / "tools/run_tests.py")
    assert spec is not None and spec.loader is not None
    tools = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tools)
    argv = tools.names_in_tests()
    checked = {word for word in argv if word.endswith(".py")}
    assert {str(Path(__file__).relative_to(CHECKOUT)), "tests/guest/conftest.py"} <= checked
    assert any(word.startswith("tests/real/test_") for word in checked)
    file = tmp_path / "test_gone.py"
    file.write_text(GONE)
    argv = [word for word in argv if word not in checked]
    done = subprocess.run(
        [*argv, f"--cache-dir={tmp_path}", str(file)],
        cwd=CHECKOUT,
        env=tools.environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stdout
    lines = [int(line.split(":")[1]) for line in done.stdout.splitlines() if ": error: " in line]
    assert lines == [2, 3, 7, 8, 9], done.stdout
