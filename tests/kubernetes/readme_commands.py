"""The commands of a rendered folder's README, run over a cluster as they stand.

Where kubectl is not installed, its lines that apply files are done through the API instead, and the others left out.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from tidehub.charts.documents import read_all
from tidehub.kubernetes.cluster.connection import connect


def commands(readme: str, section: str) -> list[list[str]]:
    """The words of each command under a heading."""
    text = readme.split(f"## {section}\n")[1].split("\n## ")[0]
    return [shlex.split(line.removeprefix("$ ")) for line in text.splitlines() if line.startswith("$ ")]


def run_section(
    folder: Path, section: str, *, kubeconfig: Path, helm: Path, namespace: str, kubectl: bool
) -> None:
    """All commands of a section, in their order; each must end well."""
    client = connect(str(kubeconfig))
    for command in commands((folder / "README.md").read_text(), section):
        if command[0] == "helm":
            command[0] = str(helm)
        elif not kubectl:
            if "-f" in command:
                named = folder / command[command.index("-f") + 1]
                for file in sorted(named.glob("*.yaml")) if named.is_dir() else [named]:
                    for obj in read_all(file.read_text()):
                        client.apply(obj, namespace, force="--force-conflicts" in command)
            continue
        environ = {**os.environ, "KUBECONFIG": str(kubeconfig), "HOME": str(folder.parent)}
        ended = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=180)
        assert ended.returncode == 0, f"{shlex.join(command)}\n{ended.stdout}{ended.stderr}"
