"""What to do about a PVC whose volume a cluster no longer knows."""

from __future__ import annotations

from enum import StrEnum


class Missing(StrEnum):
    """The operator's decision: nobody's home comes back empty by accident."""

    REFUSE = "refuse"
    REATTACH = "reattach"
    """Make the volume anew from its handle: the disk itself is still there."""
    EMPTY = "empty"
    """Leave it to the storage class: an empty volume."""
