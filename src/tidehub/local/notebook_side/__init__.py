"""The few files of ours that run inside users' processes, with the profile's environment.

They are copied to a place that every user can read: tidehub itself may be installed where only the operator can.
"""

from __future__ import annotations

from pathlib import Path

from tidehub.local.software import directories, layout
from tidehub.local.software.progress import Silent

_HERE = Path(__file__).parent
SOURCES = (
    _HERE / "busy_kernels.py",
    _HERE / "dask_clusters.py",
    _HERE / "dask_dashboards.py",
    _HERE / "former_packages.py",
    _HERE / "kernel_words.py",
    _HERE / "own_packages.py",
    _HERE / "overrides.json",
    _HERE.parent / "gateway" / "preloads" / "tls_errors.py",
    _HERE / "tuned_singleuser.py",
    _HERE / "with_packages.py",
)


def install(root: Path, sources: tuple[Path, ...] = SOURCES) -> Path:
    """Copies the files below `root` and returns their directory, named by content: a running server keeps its own.

    The directory and files are readable by everybody and writable by the operator only. Raises `TidehubError`.
    """
    contents = [(source.name, source.read_bytes()) for source in sources]
    key = layout.digest(*(part for name, content in contents for part in (name.encode(), content)))

    def build(target: Path) -> dict[str, str]:
        directories.make_folder(target)
        for name, content in contents:
            (target / name).write_bytes(content)
        return {}

    return directories.build_once(root.parent, root / key, build, progress=Silent())
