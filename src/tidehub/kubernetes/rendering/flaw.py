"""One thing that is wrong with a rendered object. Pure types."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from tidehub.kubernetes.objects import Object, ObjectId

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Flaw:
    """An error is refused by every cluster, or shows a secret. No value of a Secret is in the text."""

    severity: Severity
    what: str
    source: str
    """The release that renders the object, or `tidehub`."""
    obj: ObjectId | None = None
    field: str = ""
    fix: str | None = None

    def __str__(self) -> str:
        place = f"{self.source}: {self.obj}" if self.obj else self.source
        where = f" {self.field}" if self.field else ""
        text = f"{self.severity}: {place}{where}: {self.what}"
        return f"{text}\n  to do: {self.fix}" if self.fix else text

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "severity": self.severity,
            "what": self.what,
            "release": self.source,
            "object": str(self.obj) if self.obj else None,
            "field": self.field or None,
            "fix": self.fix,
        }


@dataclass(frozen=True)
class Item:
    """A rendered object, and what brings it."""

    source: str
    id: ObjectId
    obj: Object = field(repr=False, compare=False)
    hook: bool = False


class Report(Protocol):
    """Says what is wrong with one object."""

    def __call__(
        self, what: str, field: str = "", *, fix: str | None = None, warning: bool = False
    ) -> None: ...
