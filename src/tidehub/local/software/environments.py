"""Python environments by content: what is to be in one decides its directory, so the same wish never installs
twice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Protocol

from tidehub.errors import Place, TidehubError, UsageError
from tidehub.local.software import directories, layout
from tidehub.local.software.installer import Installer
from tidehub.local.software.interpreter import Interpreter
from tidehub.release_sets import Release

SERVES_NOTEBOOKS = ("jupyterhub", "jupyterlab", "ipykernel", "distributed", "dask-gateway")
"""What a profile's environment must hold so that servers, kernels and Dask clusters start from it."""


class Profile(Protocol):
    """What a profile says about its environment; `tidehub.site` has the whole type."""

    @property
    def slug(self) -> str: ...
    @property
    def packages(self) -> Sequence[str]: ...
    @property
    def lock(self) -> str | Path | None: ...


@dataclass(frozen=True)
class Environment:
    """An installed environment. Its directory never changes; a new wish gets a new directory."""

    root: Path
    python: Path
    bin: Path
    version: str


@dataclass(frozen=True)
class Wish:
    """Contents of an environment: a lock file as it stands, or packages to be solved on top of the default
    set.
    """

    label: str
    lock: Path
    packages: tuple[str, ...] = ()
    wanted: Path | None = None
    must_hold: tuple[str, ...] = ()
    hashes: bool = True

    @property
    def key(self) -> str:
        parts = [self.lock.read_bytes()]
        if self.packages and self.wanted:
            parts += [self.wanted.read_bytes(), "\n".join(sorted(self.packages)).encode()]
        return layout.digest(*parts)


def profile_wish(profile: Profile | None, release: Release) -> Wish:
    """The environment of a profile; None stands for the default one. Raises `UsageError` for an unusable lock
    file.
    """
    if profile is None or not (profile.packages or profile.lock):
        return Wish("the notebook environment", release.notebook, must_hold=SERVES_NOTEBOOKS)
    label = f"the environment of profile {profile.slug}"
    if not profile.lock:
        return Wish(
            label, release.notebook, tuple(profile.packages), release.notebook_wanted, SERVES_NOTEBOOKS
        )
    lock = Path(profile.lock)
    try:
        text = lock.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UsageError(
            f"The lock file of profile {profile.slug} cannot be read: {reason}",
            where=Place(str(lock)),
            expected="a requirements file with exact versions, as from `uv pip compile --generate-hashes`",
        ) from error
    return Wish(label, lock, must_hold=SERVES_NOTEBOOKS, hashes="--hash=" in text or lock.suffix == ".toml")


def of(directory: Path) -> Environment:
    """The environment that lies in `directory`."""
    return Environment(directory, directory / "bin" / "python", directory / "bin", directory.name)


def existing(folder: Path, wish: Wish) -> Environment | None:
    """A complete and whole environment for `wish` in `folder`, on whichever Python it was built."""
    python = layout.existing_python(folder, wish.key)
    if python is None or directories.damage_of(python.parent.parent):
        return None
    return of(python.parent.parent)


def install(root: Path, folder: Path, wish: Wish, installer: Installer, python: Interpreter) -> Environment:
    """Make the environment for `wish` in `folder`, or return the one that another process has just made.

    Raises `TidehubError`: no network, disk full, wrong hash, packages that contradict each other or that lack
    what notebook servers need.
    """

    def build(target: Path) -> dict[str, str]:
        doing = f"Installing {wish.label}"
        lock = wish.lock
        if wish.packages:
            lock = _solved(target, wish, installer, python)
        installer.progress.step(doing)
        recorded = lock.read_text(encoding="utf-8")
        installer.environment(target, python.executable, lock, doing=doing, hashes=wish.hashes)
        _require(target, wish)
        directories.write_text(target / "lock.txt", recorded)
        if lock != wish.lock:
            lock.unlink()
        return {
            "label": wish.label,
            "python": ".".join(map(str, python.version)),
            "interpreter": str(python.executable),
        }

    directory = folder / f"{wish.key}-{python.tag}"
    return of(
        directories.build_once(
            root,
            directory,
            build,
            progress=installer.progress,
            usable=layout.runs,
            damaged=installer.distrust_downloads,
        )
    )


def _solved(target: Path, wish: Wish, installer: Installer, python: Interpreter) -> Path:
    """A lock for the default set and the wished packages, beside `target`; the default set's versions are
    preferred.
    """
    assert wish.wanted is not None
    doing = f"Choosing versions for {wish.label}"
    installer.progress.step(doing)
    asked = target.with_name(f"{target.name}.in")
    lock = target.with_name(f"{target.name}.txt")
    directories.write_text(asked, "\n".join(wish.packages) + "\n")
    directories.write_text(lock, wish.lock.read_text(encoding="utf-8"))
    try:
        installer.solve([wish.wanted, asked], lock, python.executable, doing=doing)
    except BaseException:
        lock.unlink(missing_ok=True)
        raise
    finally:
        asked.unlink()
    return lock


def _require(target: Path, wish: Wish) -> None:
    packages = target / "lib"
    (site_packages,) = packages.glob("python3.*/site-packages")
    held = {_normal(found.name) for found in metadata.distributions(path=[str(site_packages)])}
    if missing := [name for name in wish.must_hold if name not in held]:
        raise TidehubError(
            f"{wish.label[0].upper()}{wish.label[1:]} lacks {', '.join(missing)}",
            where=Place(str(wish.lock)),
            expected=f"{', '.join(wish.must_hold)}: notebook servers and Dask clusters start from it",
            fix="add them to the lock file",
        )


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
