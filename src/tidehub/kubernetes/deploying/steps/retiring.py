"""Releases that no longer belong to the site, such as the gateway of a site that gave it up."""

from __future__ import annotations

from dataclasses import dataclass

from tidehub.kubernetes.deploying.running import Work
from tidehub.kubernetes.deploying.steps.removing import uninstall_release
from tidehub.kubernetes.deploying.stored import live_release
from tidehub.kubernetes.deploying.words import listed


@dataclass(frozen=True)
class Retire:
    """Uninstalls what tidehub brought about earlier and the site does not have any more."""

    wanted: tuple[str, ...]
    name: str = "retire"
    title: str = "Releases that are not wanted any more"

    def needed(self, work: Work) -> bool:
        """Whether the record holds one that is not wanted."""
        return bool(self._names(work))

    def run(self, work: Work) -> str:
        """Removes them, what holds data stays."""
        names = self._names(work)
        for name in names:
            if live_release(work, name) is not None:
                uninstall_release(work, name)
            work.write(work.record.without_release(name))
        return f"{listed(names)} uninstalled"

    def _names(self, work: Work) -> list[str]:
        return [one.name for one in work.record.releases if one.name not in self.wanted]
