"""Tells a user, in a file in their home, what they had installed on top of the environment's former version.

Nothing is brought over by itself: it was built for other versions, and the new environment may have it already.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

NAME = "packages-of-former-environment.txt"
"""In the home, where the file browser opens. pip reads it as it is."""


def wanted(place: Path) -> list[tuple[str, str]]:
    """Name and version of the packages that were asked for by name there; what came with them comes by itself again.

    Both pip and uv leave a file `REQUESTED` (PEP 376).
    """
    found = []
    for requested in place.glob("lib/python*/site-packages/*.dist-info/REQUESTED"):
        name, _, version = requested.parent.name.removesuffix(".dist-info").partition("-")
        if name not in ("pip", "uv"):
            found.append((name.replace("_", "-"), version))
    return sorted(found)


def words(former: Path, packages: Iterable[tuple[str, str]]) -> str:
    """The file's text: a list for `pip install -r`, with what to do on top (pure)."""
    lines = [
        "# The environment of your server was updated. Packages that you had installed yourself were made for the",
        "# former one and are not loaded any more. To have them again, delete from this list what you no longer need",
        "# and run, in a notebook:",
        "#",
        f"#     %pip install -r ~/{NAME}",
        "#",
        "# The former ones still take space until you remove them, in a terminal:",
        "#",
        f"#     rm -r '{former}'",
        "",
        *(f"{name}  # was {version}" for name, version in packages),
    ]
    return "\n".join(lines) + "\n"


def tell(place: Path, home: Path) -> None:
    """Write the file if the place used before `place` holds packages. Raises `OSError`."""
    formers = [path for path in place.parent.iterdir() if path != place and (path / "pyvenv.cfg").is_file()]
    if not formers:
        return

    def used(path: Path) -> float:
        return max(one.stat().st_mtime for one in (path, *path.glob("lib/python*/site-packages")))

    last = max(formers, key=used)
    if packages := wanted(last):
        write(home / NAME, words(last, packages))


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """A new file in place of what has that name: to open a pipe there would wait for ever. Raises `OSError`."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    with new.open("x", encoding="utf-8") as file:
        file.write(text)
    new.chmod(mode)
    new.replace(path)
