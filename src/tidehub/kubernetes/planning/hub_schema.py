"""The schema revisions of JupyterHub's database, and what going from one version to another does to it. Pure data.

Source: the `down_revision` of every file in `jupyterhub/alembic/versions` at each tag of jupyterhub/jupyterhub. The
chain is linear; a hub that finds an older revision migrates it (the chart starts it with `--upgrade-db` for its own
SQLite database), one that finds a newer one does not start.
"""

from __future__ import annotations

from typing import Literal

from tidehub.site.charts import parts

CHAIN = (
    "19c0846f6344", "eeb276e51423", "af4cbdb2d13c", "3ec6993fe20c", "1cebaf56856c", "56cc5a70207e", "99a28a4418e1",
    "d68c98b66cd4", "896818069c98", "4dc2d5a8c53c", "833da8570507", "651f5419b74d", "0eee8c825d24", "3c2384c5aae1",
    "4621fec11365", "be8ecf03ddac", "afd65840b69e", "ff1860e38070", "f460b0348206",
)  # fmt: skip
"""All revisions, oldest first."""
_HEADS: tuple[tuple[tuple[int, ...], str], ...] = (
    ((0, 9), "896818069c98"),
    ((1, 0), "4dc2d5a8c53c"),
    ((2, 0), "833da8570507"),
    ((3, 0), "651f5419b74d"),
    ((4, 0), "0eee8c825d24"),
    ((5, 0), "4621fec11365"),
    ((6, 0), "f460b0348206"),
)
"""From which version on a hub has which revision."""
_LAST = 6
"""The newest major version whose revision is known here."""

Migration = Literal["same", "forward", "backward", "unknown"]


def head(version: str) -> str | None:
    """The schema revision of a version of JupyterHub; None where it is not known."""
    numbers = parts(version)
    if not numbers or numbers[0] > _LAST:
        return None
    return next((revision for since, revision in reversed(_HEADS) if numbers >= since), None)


def migration(old: str, new: str) -> Migration:
    """What a hub of version `new` does with a database of version `old`."""
    before, after = head(old), head(new)
    if before is None or after is None:
        return "unknown"
    steps = CHAIN.index(after) - CHAIN.index(before)
    return "same" if not steps else "forward" if steps > 0 else "backward"
