"""The import-time guard: what answers at once must not load what takes seconds.

`tidehub --version` and `--help` are asked by users and by shells; the modules below cost from 0.1 s to 3 s each.
"""

from __future__ import annotations

import subprocess
import sys

HEAVY = (
    "jupyterhub",
    "sqlalchemy",
    "dask",
    "distributed",
    "tornado",
    "pydantic",
    "httpx",
    "jwt",
    "oauthlib",
    "ruamel",
    "uv",
    "kubernetes",
    "jsonschema",
)
SLOWEST = 1.0
"""Seconds of processor time that `--help` may take; a quiet machine needs 0.15 s."""

_PROBE = """
import sys, time
try:
    from tidehub.cli.main import main
    main([sys.argv[1]])
except SystemExit as end:
    assert not end.code, end.code
print("\\n" + "|".join(sorted({name.partition(".")[0] for name in sys.modules})), time.process_time())
"""


WITHOUT_CLUSTER = (
    "tidehub.cli.validate",
    "tidehub.site.reading.load",
    "tidehub.charts.fetch",
    "tidehub.charts.shape",
    "tidehub.helm.command_line",
    "tidehub.cli.render",
    "tidehub.kubernetes.session",
    "tidehub.kubernetes.rendering.render",
    "tidehub.kubernetes.values.build",
)
"""What works without a cluster must not load the Kubernetes client: it takes a second and 35 MiB."""

_LOAD = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    assert "kubernetes" not in sys.modules, f"{name} loads the Kubernetes client"
"""


def main() -> int:
    """0 when neither option loads a heavy module or takes long, else 1 with what was loaded."""
    loading = subprocess.run(
        [sys.executable, "-c", _LOAD, *WITHOUT_CLUSTER],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if loading.returncode:
        print(loading.stderr, file=sys.stderr)
        return 1
    for option in ("--version", "--help"):
        told = subprocess.run(
            [sys.executable, "-c", _PROBE, option], capture_output=True, text=True, timeout=60, check=False
        )
        if told.returncode:
            print(f"tidehub {option} failed:\n{told.stderr}", file=sys.stderr)
            return 1
        modules, _, seconds = told.stdout.splitlines()[-1].rpartition(" ")
        if loaded := sorted(set(HEAVY) & set(modules.split("|"))):
            print(f"tidehub {option} loads {', '.join(loaded)}", file=sys.stderr)
            return 1
        if float(seconds) > SLOWEST:
            print(f"tidehub {option} takes {seconds} s of processor time", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
