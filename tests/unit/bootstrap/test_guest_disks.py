"""Which changes of a checkout have `tests/guest/prepare` make the disks of the Debian machines anew."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[3]
RELEASE = "src/tidehub/release_sets/2026.11"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("src", "bootstrap", "tests/guest"):
        shutil.copytree(CHECKOUT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def disks(checkout: Path) -> str:
    """The directories of the disks for this checkout."""
    env = {**os.environ, "TIDEHUB_SOFTWARE": "/nonexistent"}
    command = [checkout / "tests/guest/prepare", "--where"]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("file", "before", "after", "others"),
    [
        ("tests/guest/guest_recipe.py", "12 * 2**30", "13 * 2**30", True),
        ("tests/guest/inside/make_software.py", "software.proxy()\n", "", True),
        ("tests/guest/xstate.c", "0x2ff", "0x2fe", True),
        (f"{RELEASE}/control.txt", "\n", "\n# another\n", True),
        (f"{RELEASE}/notebook.txt", "\n", "\n# another\n", True),
        (f"{RELEASE}/node.txt", "\n", "\n# another\n", True),
        (f"{RELEASE}/proxy/package-lock.json", "\n", "\n\n", True),
        # How the software's directories are named.
        ("src/tidehub/local/software/layout.py", "[:12]", "[:13]", True),
        ("src/tidehub/local/software/software.py", 'root / "node"', 'root / "nodejs"', True),
        # What makes and watches them: what is there already counts as it does on every machine.
        ("src/tidehub/local/software/installer.py", "\n", "\n# another\n", False),
        ("src/tidehub/local/software/directories.py", "\n", "\n# another\n", False),
        ("src/tidehub/local/software/software.py", "\n", "\n# another\n", False),
        ("tests/guest/guest_image.py", "2 * 86400.0", "3 * 86400.0", False),
        (f"{RELEASE}/test.txt", "\n", "\n# another\n", False),
        (f"{RELEASE}/charts.yaml", "\n", "\n# another\n", False),
    ],
)
def test_only_what_decides_their_contents_gives_other_disks(
    checkout: Path, file: str, before: str, after: str, others: bool
) -> None:
    names, path = disks(checkout), checkout / file
    text, written = path.read_text(), path.stat().st_mtime
    assert before in text
    try:
        path.write_text(text.replace(before, after, 1))
        os.utime(path, (written + 10, written + 10))  # Python tells compiled files by size and time
        changed = disks(checkout)
    finally:
        path.write_text(text)
        os.utime(path, (written, written))
    assert len(set(names.split()) | set(changed.split())) == (4 if others else 2), changed
