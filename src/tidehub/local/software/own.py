"""Where tidehub itself lies, and a place for it that every uid can read.

As root some of tidehub's own parts, and the file that starts notebook servers, run under other uids. A
checkout or a virtual environment below root's home is closed to them, so then the package is copied below the
software root.
"""

from __future__ import annotations

import os
from pathlib import Path

from tidehub.local.software.layout import digest

PACKAGE = Path(__file__).resolve().parents[2]
"""The package that is running."""


def source_files(package: Path) -> list[Path]:
    """The package's files in a fixed order, without compiled ones."""
    found: list[Path] = []
    for folder, folders, files in os.walk(package):
        folders[:] = sorted(name for name in folders if name != "__pycache__" and not name.startswith("."))
        found += [Path(folder) / name for name in sorted(files)]
    return found


def readable_by_everyone(package: Path) -> bool:
    """Whether any uid can read every file of the package."""
    for place in package.parents:
        if not place.stat().st_mode & 0o001:
            return False
    files = source_files(package)
    folders = {file.parent for file in files}
    return all(folder.stat().st_mode & 0o005 == 0o005 for folder in folders) and all(
        file.stat().st_mode & 0o004 for file in files
    )


def readable_package(root: Path, package: Path = PACKAGE, *, everyone: bool | None = None) -> Path:
    """The folder to put on Python's path for `package`: its own where every uid can read it, else that of a
    copy.
    """
    if everyone is None:
        everyone = os.geteuid() == 0
    if not everyone or readable_by_everyone(package):
        return package.parent
    import shutil  # not at the top: the quick start of ./tidehub passes here

    from tidehub.local.software import directories
    from tidehub.local.software.progress import Silent

    files = source_files(package)
    key = digest(
        *(part for file in files for part in (os.fsencode(file.relative_to(package)), file.read_bytes()))
    )

    def build(target: Path) -> dict[str, str]:
        copied = target / package.name
        for file in files:
            place = copied / file.relative_to(package)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
            place.chmod(0o755 if file.stat().st_mode & 0o100 else 0o644)
        return {"from": str(package)}

    return directories.build_once(root, root / "code" / key, build, progress=Silent())
