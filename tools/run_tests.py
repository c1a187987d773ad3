"""What `./test` runs in the test environment: lint, format, types, import times, then pytest.

./test                  everything
./test unit             the same checks, and only the unit tests
./test guest            only the tests in machines of their own (tests/guest/prepare makes them)
./test node             only the tests on a Kubernetes node with real containers (tests/node/prepare builds it)
./test user             only what is different for an ordinary user
./test ARGUMENTS        only pytest, with these arguments
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(
    0, str(Path(__file__).resolve().parent)
)  # isolated, as `./test` starts it, Python leaves it out

import skipped

CHECKOUT = Path(__file__).resolve().parent.parent
PYTHON = Path(sys.executable)
TWO_FILES = ["--numprocesses", "2", "--dist", "loadfile"]
"""Two files of tests at a time: most of them wait more than they work."""
UNIT = ["tests/unit", *TWO_FILES]
ON_CLUSTERS = ["tests/kubernetes", *TWO_FILES]
"""Each with a cluster of its own."""
ON_PLATFORMS = ["tests/real", *TWO_FILES]
"""Each process with platforms, uids and ports of its own."""
ON_GUESTS = ["tests/guest", *TWO_FILES]
"""Each with a machine of its own, which has one core. Skipped in one line where none can be booted."""
ON_NODES = ["tests/node"]
"""Each with a node of its own, one at a time: its pods have the machine's two cores. Not part of `./test` yet."""
_OF_USERS = (
    *("first_set_up", "wheel", "supervisor_parts", "supervisor_up", "isolation_unprivileged"),
    *("gateway_clusters", "platform_isolation", "platform_kill", "platform_limits", "platform_restart"),
)
AS_USER = [
    *("tests/unit/local", "tests/unit/cli", *(f"tests/real/test_{name}.py" for name in _OF_USERS)),
    *TWO_FILES,
]
"""What an ordinary user's machine does otherwise: set-up, isolation by bubblewrap, ends of processes, files that belong
to one user. The rest is the same code in the same environment."""
NAMED = {"guest": ON_GUESTS, "node": ON_NODES, "user": AS_USER}
OF_TYPES = (
    *("arg-type", "assignment", "comparison-overlap", "func-returns-value", "index", "misc", "no-any-return"),
    *(
        "no-untyped-call",
        "no-untyped-def",
        "operator",
        "return-value",
        "type-arg",
        "union-attr",
        "var-annotated",
    ),
)
"""mypy's codes that do not matter in tests."""
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
        ("names in tests", names_in_tests()),
        ("import times", [str(PYTHON), "tools/check_imports.py"]),
    ]


def names_in_tests() -> list[str]:
    """mypy on the tests, for what is gone: a module, a name in it, an argument. How tests use types is their own.

    They import each other by bare names, as pytest has it, so every folder of theirs is a root of modules. Of several
    files with one name mypy takes one: the conftest.py of the guests, which no other run of `./test` reads.
    """
    files = [path for path in sorted((CHECKOUT / "tests").rglob("*.py")) if path.name != "conftest.py"]
    roots = ["src", "bench", *sorted({str(path.parent.relative_to(CHECKOUT)) for path in files})]
    return [
        *(
            "env",
            f"MYPYPATH={':'.join(roots)}",
            "mypy",
            "--no-error-summary",
            "--cache-dir=.mypy_cache/tests",
        ),
        *("--implicit-reexport", "--no-warn-unused-ignores"),
        *(f"--disable-error-code={code}" for code in OF_TYPES),
        *(str(path.relative_to(CHECKOUT)) for path in files),
        "tests/guest/conftest.py",
    ]


def passed(name: str, argv: list[str], env: dict[str, str]) -> bool:
    """Run one check and say how it went."""
    began = time.monotonic()
    good = subprocess.run(argv, cwd=CHECKOUT, env=env).returncode == 0
    print(f"{name}: {'ok' if good else 'FAILED'} ({time.monotonic() - began:.1f} s)", flush=True)
    return good


def main(arguments: list[str]) -> int:
    """0, 1 when a check failed, or pytest's highest exit code. All checks run, pytest only after they passed."""
    env = environment()
    runs = [NAMED.get(" ".join(arguments), arguments)]
    if arguments in ([], ["unit"]):
        results = [passed(name, argv, env) for name, argv in checks()]
        if not all(results):
            return 1
        runs = [UNIT] if arguments else [UNIT, ON_CLUSTERS, ON_PLATFORMS, ON_GUESTS]
    # Users without an account share pytest's usual directory, and the second of them is refused.
    with tempfile.TemporaryDirectory(prefix="tidehub-test-", ignore_cleanup_errors=True) as root:
        Path(root).chmod(0o755)
        env["PYTEST_DEBUG_TEMPROOT"] = root
        reasons = Path(root) / "skipped"
        env[skipped.VARIABLE] = str(reasons)
        code = max([tested(run, env) for run in runs])
        said = reasons.read_text().splitlines() if reasons.exists() else []
        print("\n".join(skipped.table(said)), end="\n" if said else "", flush=True)
        return code


def tested(arguments: list[str], env: dict[str, str]) -> int:
    """Pytest's exit code. What failed while another file of tests kept the machine busy must pass alone."""
    pytest = [str(PYTHON), "-m", "pytest"]
    code = subprocess.run([*pytest, *arguments], cwd=CHECKOUT, env=env).returncode
    files = failed_files(arguments)
    if code == 1 and files and arguments[-len(TWO_FILES) :] == TWO_FILES:
        print("== once more, one at a time: the files of what failed beside others", flush=True)
        code = subprocess.run([*pytest, *files], cwd=CHECKOUT, env=env).returncode
    return code


def failed_files(places: list[str]) -> list[str]:
    """The files below `places` with tests that failed. Whole files: many tell one story, test after test."""
    try:
        failed = json.loads((CHECKOUT / ".pytest_cache/v/cache/lastfailed").read_text())
    except (OSError, ValueError):
        return []
    return sorted({test.partition("::")[0] for test in failed if test.startswith(tuple(places))})


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
