"""What is told about secrets, as text and as JSON: everything but the values. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from tidehub import program
from tidehub.secrets.changes import Created, Rotated
from tidehub.secrets.declared import Declared, Kept, kept_by
from tidehub.secrets.sources import Resolved

State = Literal["set", "placeholder", "missing", "wrong", "unknown"]


@dataclass(frozen=True)
class Line:
    """One secret as `show` tells it. `place` names its source, `values` counts it with its old keys."""

    declared: Declared
    state: State
    place: str | None
    kind: str | None
    made: datetime | None
    values: int = 1
    needed: bool = True
    owner: Kept = Kept.SITE
    unchanged_since: datetime | None = None
    """For a value of unknown age: when its file was last changed."""

    def as_dict(self, now: datetime) -> dict[str, Any]:
        """For `--json`."""
        made, since = self.made, self.unchanged_since
        return {
            "name": self.declared.name,
            "purpose": self.declared.purpose,
            "state": self.state,
            "needed": self.needed,
            "source": self.kind,
            "place": self.place,
            "made": made.isoformat(timespec="seconds") if made else None,
            "unchanged_since": since.isoformat(timespec="seconds") if since else None,
            "age_seconds": max(0, int((now - made).total_seconds())) if made else None,
            "values": self.values if self.state in ("set", "placeholder") else 0,
            "parts": list(self.declared.parts),
            "machine": self.declared.machine_of(self.owner),
            "kubernetes": [
                {"release": value.release, "value": value.dotted, "secret_key": value.secret_key}
                for value in (self.declared.charts if self.owner is Kept.SITE else ())
            ],
        }


def lines_of(resolved: Resolved, wanted: Sequence[Declared]) -> list[Line]:
    """The secrets of a site: the needed ones first, then others that are there anyway."""
    wrong = {problem.path[0] for problem in resolved.problems if problem.path}
    names = {one.name for one in wanted}
    shown = [
        *wanted,
        *(one for one in kept_by(Kept.SITE) if one.name in resolved.found and one.name not in names),
    ]
    lines = []
    for declared in shown:
        found = resolved.found.get(declared.name)
        if found is None:
            state: State = "wrong" if declared.name in wrong else "unknown" if resolved.unread else "missing"
            lines.append(Line(declared, state, None, None, None))
        else:
            state = "placeholder" if found.is_placeholder else "set"
            lines.append(
                Line(
                    declared,
                    state,
                    found.place,
                    found.kind,
                    found.made,
                    len(found.values),
                    declared.name in names,
                    unchanged_since=found.unchanged_since,
                )
            )
    return lines


def shown(lines: Iterable[Line], now: datetime) -> list[str]:
    """`show` as text."""
    told = []
    for line in lines:
        told.append(f"{line.declared.name:<20}  {_state_words(line, now)}")
        told.append(f"    {line.declared.purpose}")
        told += [f"    -> {goes}" for goes in line.declared.goes(line.owner)]
    return told


def age_words(seconds: float) -> str:
    """`3 days`, in the largest unit of which there is at least one."""
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}" + ("s" if count > 1 else "")
    return "less than a minute"


def created_lines(created: Created) -> list[str]:
    """What `create` did."""
    told = [f"made {', '.join(created.made)} in {created.file}"] if created.made else []
    if created.gitignore:
        told.append(f"git ignores it from now on: {created.gitignore}")
    told += [f"still to be given by you: {name} in {created.file}" for name in created.to_give]
    return told or ["nothing was missing"]


def rotated_lines(rotated: Rotated, *, owner: Kept) -> list[str]:
    """What a rotation did, what it means for users, and what has to start anew."""
    declared = rotated.declared
    told = [f"{declared.name} has a new value in {rotated.place}", f"effect: {declared.rotation.effect}"]
    if rotated.old_values:
        more = "value still decrypts" if rotated.old_values == 1 else "values still decrypt"
        told.append(f"{rotated.old_values} old {more}; --forget-old drops all that are old")
    return told + [f"to do: {line}" for line in restarts(declared, owner)]


def restarts(declared: Declared, owner: Kept) -> list[str]:
    """What has to be started anew, for the new value to be used."""
    if owner is Kept.STATE:
        return [f"the next start of the platform uses it ({', '.join(declared.parts)})"]
    releases = sorted({value.release for value in declared.charts}, reverse=True)
    told = [f"upgrade the Helm release {release} with the new value" for release in releases]
    if declared.hub_service:
        told.append(
            "JupyterHub goes on accepting the old token until it is deleted from its database (table api_tokens)"
        )
    return told


def _state_words(line: Line, now: datetime) -> str:
    if line.state == "missing":
        how = (
            "to be given by you"
            if line.declared.given
            else f"{program.command('secrets', 'create')} makes it"
        )
        return f"MISSING ({how})"
    if line.state == "unknown":
        return "UNKNOWN (a file that may hold it cannot be read)"
    if line.state == "wrong":
        return f"UNUSABLE ({program.command('secrets', 'check')} says why)"
    told = f"{'PLACEHOLDER' if line.state == 'placeholder' else 'set'} in {line.place}"
    if line.state == "placeholder":
        return told
    if line.made:
        told += f", {age_words((now - line.made).total_seconds())} old"
    elif line.unchanged_since and (age := (now - line.unchanged_since).total_seconds()) >= 60:
        told += f", at least {age_words(age)} old"
    if line.values > 1:
        told += f", {line.values - 1} older behind it"
    return told if line.needed else f"{told} (this site does not need it)"
