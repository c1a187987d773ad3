"""The `helm` program on this machine: which one, and whether tidehub can use it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tidehub.errors import Place
from tidehub.helm.problems import HelmMissing

GIVEN = "TIDEHUB_HELM"
"""Environment: path of the program, where it is not the one on PATH."""
OLDEST = (3, 18)
"""The first with the schema sentences and `--take-ownership` of an upgrade that tidehub relies on."""
NEWEST = 4
"""The newest major version whose options are known here."""
_SECONDS = 20.0
_INSTALL = (
    f"install helm 3.18 or newer, or 4 (helm.sh/docs/intro/install), and put it on PATH or name it in {GIVEN}"
)


@dataclass(frozen=True)
class HelmProgram:
    """A usable program. `version` is without its `v`, for example `4.2.4`."""

    path: str
    version: str

    @property
    def major(self) -> int:
        """3 or 4: what its options are called depends on it."""
        return int(self.version.partition(".")[0])


def find_helm(environ: Mapping[str, str] = os.environ) -> HelmProgram:
    """The program that `TIDEHUB_HELM` names, else the one on PATH. Raises `HelmMissing` with how to get one."""
    given = environ.get(GIVEN, "")
    path = (
        shutil.which(given, path=environ.get("PATH"))
        if given
        else shutil.which("helm", path=environ.get("PATH"))
    )
    if path is None:
        what = f"{GIVEN} names no program" if given else "no helm program was found"
        raise HelmMissing(
            what, where=Place(given or "PATH"), expected="helm 3.18 or newer, or 4", fix=_INSTALL
        )
    return checked(path, environ)


def checked(path: str, environ: Mapping[str, str] = os.environ) -> HelmProgram:
    """A program whose version is known and in range. Raises `HelmMissing`."""
    try:
        told = subprocess.run(
            [path, "version", "--template", "{{.Version}}"],
            env={
                "PATH": environ.get("PATH", os.defpath),
                "HOME": environ.get("HOME", "/"),
                "KUBECONFIG": os.devnull,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        why = "it does not answer" if isinstance(error, subprocess.TimeoutExpired) else error.strerror
        raise HelmMissing(f"helm cannot be used: {why}", where=Place(path), fix=_INSTALL) from None
    matched = re.fullmatch(r"v?(\d+)\.(\d+)(\.\d+)?(\S*)", told.stdout.strip())
    if told.returncode or not matched:
        raise HelmMissing("this is not helm: it does not tell its version", where=Place(path), fix=_INSTALL)
    version = told.stdout.strip().removeprefix("v").partition("+")[0]
    if not OLDEST <= (int(matched[1]), int(matched[2])) < (NEWEST + 1,):
        raise HelmMissing(
            f"helm {version} is {'too new' if int(matched[1]) > NEWEST else 'too old'}",
            where=Place(str(Path(path))),
            expected="helm 3.18 or newer, or 4",
            fix=_INSTALL,
        )
    return HelmProgram(path, version)
