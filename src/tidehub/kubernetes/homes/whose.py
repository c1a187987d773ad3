"""Whose the homes of a namespace are, and who has more than one. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tidehub.errors import UsageError
from tidehub.kubernetes.objects import HOME, SERVER_NAME, SET_ASIDE, USERNAME, Object
from tidehub.program import command


@dataclass(frozen=True)
class Home:
    """One PVC that a hub made for a user."""

    pvc: str
    user: str
    server: str
    """Name of the server; empty for the default one."""
    created: str
    """RFC 3339, UTC."""
    size: str
    set_aside: str
    """When an operator set it aside: the hub mounts it no more. Empty for one in use."""

    @property
    def owner(self) -> str:
        """As it is told: `carol`, or `carol/big` for a named server."""
        return f"{self.user}/{self.server}" if self.server else self.user


def is_home(pvc: Object) -> bool:
    """Whether a hub made the PVC for a user: by its annotation, or the labels of the jupyterhub chart."""
    meta = pvc.get("metadata") or {}
    labels = meta.get("labels") or {}
    component = labels.get("component") or labels.get("app.kubernetes.io/component")
    return USERNAME in (meta.get("annotations") or {}) or component == HOME


def homes_of(pvcs: Iterable[Object]) -> list[Home]:
    """The homes among PVCs, by user, server and age, the oldest first."""
    found = []
    for pvc in pvcs:
        meta = pvc.get("metadata") or {}
        annotations = meta.get("annotations") or {}
        if USERNAME not in annotations:
            continue
        status = pvc.get("status") or {}
        wanted = ((pvc.get("spec") or {}).get("resources") or {}).get("requests") or {}
        found.append(
            Home(
                str(meta.get("name")),
                str(annotations[USERNAME]),
                str(annotations.get(SERVER_NAME) or ""),
                str(meta.get("creationTimestamp") or ""),
                str((status.get("capacity") or wanted).get("storage") or ""),
                str(annotations.get(SET_ASIDE) or ""),
            )
        )
    return sorted(found, key=lambda one: (one.user, one.server, one.created, one.pvc))


def doubles(homes: Iterable[Home]) -> dict[str, list[Home]]:
    """By owner, the homes of everybody who has several that are not set aside."""
    by_owner: dict[str, list[Home]] = {}
    for one in homes:
        if not one.set_aside:
            by_owner.setdefault(one.owner, []).append(one)
    return {owner: several for owner, several in by_owner.items() if len(several) > 1}


def choose(homes: Iterable[Home], owner: str, pvc: str | None) -> tuple[Home, list[Home]]:
    """The home that somebody is to have, without `pvc` the oldest, and the others. Raises `UsageError`."""
    own = [one for one in homes if one.owner == owner]
    if not own:
        raise UsageError(f"{owner} has no home here", fix=f"`{command('homes')}` shows who has more than one")
    # The oldest is the one from before whatever made a second.
    chosen = next((one for one in own if pvc in (None, one.pvc)), None)
    if chosen is None:
        raise UsageError(f"{pvc} is not a home of {owner}", expected=", ".join(one.pvc for one in own))
    return chosen, [one for one in own if one is not chosen]


def lines(homes: list[Home]) -> list[str]:
    """What `tidehub homes` prints."""
    two, aside = doubles(homes), [one for one in homes if one.set_aside]
    if not two:
        told = [f"{len(homes) - len(aside)} homes, and nobody has two."]
    else:
        told = ["Who has more than one home; the hub mounts the one that it remembers:"]
        for owner, several in two.items():
            told.append(f"  {owner}")
            told += [f"    {one.pvc}  {one.size}  made {one.created}" for one in several]
        told.append(f"To have somebody get the older one: {command('homes', '--use', next(iter(two)))}")
    if aside:
        told += ["", "Set aside; the hub does not mount them, and nothing deletes them:"]
        told += [f"  {one.owner}: {one.pvc} since {one.set_aside}" for one in aside]
    return told


def to_json(homes: list[Home]) -> dict[str, Any]:
    """For `--json`."""
    return {
        "homes": [vars(one) for one in homes],
        "two": {owner: [one.pvc for one in several] for owner, several in doubles(homes).items()},
    }
