"""How long to wait before the next restart. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Backoff:
    """Doubles from `first` to `most`; starts over after a run of at least `stable`. All in seconds."""

    first: float = 0.5
    most: float = 30.0
    stable: float = 60.0
    _next: float = 0.0

    def after(self, ran: float) -> float:
        """Seconds to wait after a run that lasted `ran` seconds."""
        delay = self.first if ran >= self.stable or not self._next else self._next
        self._next = min(delay * 2, self.most)
        return delay
