"""The place for packages that a user installs: a virtual environment in the home, on top of the profile's.

Runs in the user's processes, as the user, with the standard library only. There is one for each version of a profile's
environment, named after it: a new version of the environment starts with a new, empty place, so nothing that was built
for the former one is loaded into it (`former_packages.py` says what was there).

The kernel runs with this environment's Python, so `%pip install` ends here, and what is here goes before what the
profile has. The notebook server itself keeps the profile's Python and looks here last: what a user installs can add an
extension to it, and can never replace a part of it. `VIRTUAL_ENV` is not set: IPython would add this place to kernels
of other environments that the user has (IPython 9, `InteractiveShell.init_virtualenv`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import former_packages  # type: ignore[import-not-found]  # beside this file

PLACE = "TIDEHUB_PACKAGES"
"""The variable that names the place, also in a server without it."""
WITHOUT = "TIDEHUB_WITHOUT_PACKAGES"
"""The variable with which the hub asks for a server without the user's own packages."""
_OFF = "without"
"""A file in the place: the last server was started without, so clusters are too."""
_PTH = "zz_profile_environment.pth"
"""Read after the `.pth` files of packages that were installed here (site: in alphabetical order)."""

_PIP = '#!/bin/sh\nexec "${0%/*}/python" -m pip "$@"\n'
_UV = """\
#!/bin/sh
# `uv pip` installs into the user's own packages, unless another environment is active or at hand.
if [ "$1" = pip ] && [ -z "$VIRTUAL_ENV" ] && [ ! -e .venv ]; then
    VIRTUAL_ENV=$(cd "${0%/*}/.." && pwd)
    export VIRTUAL_ENV
fi
exec ENVIRONMENT/bin/uv "$@"
"""


def environment_root(python: str = sys.executable) -> Path:
    """The profile's environment, by the path of its Python; links are not followed, because that is one."""
    return Path(python).parent.parent


def packages_place(home: Path, root: Path) -> Path:
    """Where packages go that are installed on top of the environment `root`."""
    return home / ".local" / "share" / "tidehub" / "packages" / root.name


def site_packages(place: Path) -> Path:
    """The directory of modules in an environment of the running Python (pure)."""
    return place / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


def search_path(place: Path, root: Path, path: str) -> str:
    """`PATH` of kernels and terminals: the place before the profile's environment, whatever stood there."""
    rest = [word for word in path.split(os.pathsep) if word and word != f"{place}/bin"]
    return os.pathsep.join([f"{place}/bin", *(rest or [f"{root}/bin"])])


def files(place: Path, root: Path, base: Path) -> dict[Path, tuple[str, int]]:
    """The files of the virtual environment, with text and mode; `base` is the interpreter itself (pure).

    As PEP 405 says; the `.pth` file adds the profile's packages with their own `.pth` files.
    """
    version = ".".join(str(part) for part in sys.version_info[:3])
    made = {
        place / "pyvenv.cfg": (
            f"home = {base.parent}\ninclude-system-site-packages = false\nversion = {version}\n",
            0o644,
        ),
        site_packages(place) / _PTH: (f"import site; site.addsitedir({str(site_packages(root))!r})\n", 0o644),
        place / "bin" / "uv": (_UV.replace("ENVIRONMENT", str(root)), 0o755),
    }
    for name in ("pip", "pip3"):
        made[place / "bin" / name] = (_PIP, 0o755)
    return made


def variables(place: Path, root: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """What kernels, terminals and the server's own search find the place by (pure)."""

    def before(name: str, first: Path) -> str:
        rest = [word for word in environ.get(name, "").split(os.pathsep) if word and word != str(first)]
        return os.pathsep.join([str(first), *rest])

    return {
        PLACE: str(place),
        "PATH": search_path(place, root, environ.get("PATH", "")),
        "JUPYTER_PATH": before("JUPYTER_PATH", place / "share" / "jupyter"),
        "JUPYTER_CONFIG_PATH": before("JUPYTER_CONFIG_PATH", place / "etc" / "jupyter"),
        # A pip.conf that asks for `--user` would end in an error here: this is the user's place.
        "PIP_USER": "0",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


def make(place: Path, root: Path) -> None:
    """The virtual environment at `place`, made or mended. Raises `OSError`.

    Not by `python -m venv`, which takes seconds, and which Debian's Python lacks. Scripts of pip stay as they are once
    the user has a pip of their own.
    """
    base = Path(sys.executable).resolve()
    new = not (place / "pyvenv.cfg").exists()
    for path, (text, mode) in files(place, root, base).items():
        if path.parent.name == "bin" and path.name.startswith("pip") and path.exists():
            continue
        if not path.is_file() or path.read_text(encoding="utf-8", errors="replace") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            former_packages.write(path, text, mode)
    for name in ("python", "python3"):
        link = place / "bin" / name
        if not link.is_symlink() or os.readlink(link) != str(base):  # noqa: PTH115 - text is compared with text
            if link.is_dir() and not link.is_symlink():
                link.rename(link.with_name(f"{name}.aside"))
            link.unlink(missing_ok=True)
            link.symlink_to(base)
    if new:
        former_packages.tell(place, Path.home())


def use() -> str:
    """Make the place and let this server's kernels, terminals and extensions find it; returns what went wrong, or "".

    A server starts whatever is wrong with it: a full disk, a file where a directory should be, a damaged environment.
    """
    root = environment_root()
    place = packages_place(Path.home(), root)
    without = bool(os.environ.pop(WITHOUT, ""))
    os.environ[PLACE] = str(place)
    try:
        if without:
            place.mkdir(parents=True, exist_ok=True)
            (place / _OFF).touch()
            return ""
        make(place, root)
        (place / _OFF).unlink(missing_ok=True)
    except OSError as error:
        return "" if without else f"your own packages cannot be used: {error}"
    os.environ.update(variables(place, root, os.environ))
    # Last, and not as a site directory: nothing here goes before what the server is made of, and no `.pth` file runs.
    sys.path.append(str(site_packages(place)))
    # jupyter_client starts a kernel whose command is "python" with this (5.x to 8.x, `format_kernel_cmd`).
    sys.executable = str(place / "bin" / "python")
    return ""


def python_with_packages() -> str:
    """The Python for a process that is to see what a kernel sees: the place's own where there is one in use."""
    place = packages_place(Path.home(), environment_root())
    python = place / "bin" / "python"
    usable = (place / "pyvenv.cfg").is_file() and os.access(python, os.X_OK) and not (place / _OFF).exists()
    return str(python) if usable else sys.executable
