"""What machine and which versions the numbers belong to."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tidehub

CONTROL_PACKAGES = ("jupyterhub", "dask-gateway-server")
NOTEBOOK_PACKAGES = ("jupyterlab", "jupyterhub", "dask", "distributed", "dask-gateway")


def facts(notebook_python: Path, proxy: list[str], isolation: str) -> dict[str, Any]:
    """Cores, memory, kernel, versions, and how ours keeps users apart here."""
    return {
        "taken": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": len(os.sched_getaffinity(0)),
        "processor": processor(Path("/proc/cpuinfo").read_text()),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "root": os.geteuid() == 0,
        "isolation": isolation,
        "versions": {
            "tidehub": tidehub.__version__,
            "python": platform.python_version(),
            **{name: version(name) for name in CONTROL_PACKAGES},
            "configurable-http-proxy": _said([*proxy, "--version"]),
            "notebook": _notebook_versions(notebook_python),
        },
    }


def processor(cpuinfo: str) -> str:
    """The first model name of /proc/cpuinfo, or the architecture where it has none."""
    for line in cpuinfo.splitlines():
        name, colon, value = line.partition(":")
        if colon and name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _notebook_versions(python: Path) -> dict[str, str]:
    question = (
        "import json, platform; from importlib.metadata import version;"
        f"print(json.dumps({{'python': platform.python_version(), **{{n: version(n) for n in {NOTEBOOK_PACKAGES}}}}}))"
    )
    found: dict[str, str] = json.loads(_said([str(python), "-I", "-c", question]))
    return found


def _said(argv: list[str]) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
