"""Container image references."""

from __future__ import annotations


def has_tag(image: str) -> bool:
    """Whether an image reference carries a tag or digest. A registry's port (`host:5000/x`) is not a tag."""
    last = image.rsplit("/", 1)[-1]
    return "@sha256:" in last or (":" in last and not last.endswith(":"))


def is_moving(image: str) -> bool:
    """Whether its tag is one that by custom points to something else every day: `latest`."""
    return "@sha256:" not in image and image.endswith(":latest")
