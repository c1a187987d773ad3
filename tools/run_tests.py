"""What `./test` runs in the test environment: lint, format, types, import times, then pytest.

./test                  everything
./test unit             the same checks, and only the unit tests
./test ARGUMENTS        only pytest, with these arguments
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
PYTHON = Path(sys.executable)
CHECKED = ("src", "tests", "bootstrap", "tools", "bench")


def environment() -> dict[str, str]:
    """The caller's environment, with the test environment's programs first and nothing that changes what is tested."""
    env = {
        key: value for key, value in os.environ.items() if not key.startswith(("JUPYTER", "DASK_", "PYTEST_"))
    }
    env["PATH"] = f"{PYTHON.parent}:{env.get('PATH', '/usr/bin:/bin')}"
    return env


def checks() -> list[tuple[str, list[str]]]:
    """The checks before pytest, by name."""
    places = [place for place in CHECKED if (CHECKOUT / place).is_dir()]
    return [
        ("ruff check", ["ruff", "check", "--quiet", *places]),
        ("ruff format", ["ruff", "format", "--quiet", "--check", *places]),
        ("mypy", ["mypy", "--no-error-summary"]),
        ("import times", [str(PYTHON), "tools/check_imports.py"]),
    ]


def main(arguments: list[str]) -> int:
    """The exit code of the first check that failed, else pytest's."""
    env = environment()
    if arguments in ([], ["unit"]):
        for name, argv in checks():
            began = time.monotonic()
            failed = subprocess.run(argv, cwd=CHECKOUT, env=env).returncode
            print(f"{name}: {'FAILED' if failed else 'ok'} ({time.monotonic() - began:.1f} s)", flush=True)
            if failed:
                return failed
        arguments = [f"tests/{word}" for word in arguments]
    pytest = [str(PYTHON), "-m", "pytest", *arguments]
    return subprocess.run(pytest, cwd=CHECKOUT, env=env).returncode


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
