"""The few files of ours that run inside people's processes, with the profile's environment.

They are copied to a place that every person can read: tidehub itself may be installed where only the operator can.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

_HERE = Path(__file__).parent
SOURCES = (
    _HERE / "dask_dashboards.py",
    _HERE / "kernel_words.py",
    _HERE / "overrides.json",
    _HERE.parent / "hub" / "tuned_singleuser.py",
)


def install(root: Path, sources: tuple[Path, ...] = SOURCES) -> Path:
    """Copies the files below `root` and returns their directory, named by content: a running server keeps its own.

    The directory and files are readable by everybody and writable by the operator only.
    """
    digest = hashlib.sha256()
    for source in sources:
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    target = root / digest.hexdigest()[:16]
    if target.is_dir():
        return target
    root.mkdir(mode=0o755, parents=True, exist_ok=True)
    root.chmod(0o755)
    with tempfile.TemporaryDirectory(dir=root, prefix=".new-") as made:
        fresh = Path(made) / "files"
        fresh.mkdir()
        for source in sources:
            shutil.copyfile(source, fresh / source.name)
            (fresh / source.name).chmod(0o644)
        fresh.chmod(0o755)
        try:
            os.rename(fresh, target)  # noqa: PTH104  (atomic; fails when another `up` was faster)
        except OSError:
            if not target.is_dir():
                raise
    return target
