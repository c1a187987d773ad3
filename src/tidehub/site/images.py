"""Container image references."""

from __future__ import annotations

import re

_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = rf"(?:localhost|{_LABEL}(?:\.{_LABEL})+|{_LABEL}(?=:))(?::[0-9]+)?"
"""A registry. Without a dot or a port, what comes first is a part of the name: nobody means a registry `Pangeo`."""
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?:{_HOST}/)?{_PART}(?:/{_PART})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?(?:@[a-z0-9]+:[0-9a-f]{{64,}})?"
)
"""The grammar of github.com/distribution/reference, for digests of 256 bits and more."""


def is_reference(image: str) -> bool:
    """Whether a container runtime would take it: a name in lower case; registry, tag and digest may be absent."""
    return _REFERENCE.fullmatch(image) is not None


def has_tag(image: str) -> bool:
    """Whether an image reference carries a tag or digest. A registry's port (`host:5000/x`) is not a tag."""
    last = image.rsplit("/", 1)[-1]
    return "@sha256:" in last or (":" in last and not last.endswith(":"))


def is_moving(image: str) -> bool:
    """Whether its tag is one that by custom points to something else every day: `latest`."""
    return "@sha256:" not in image and image.endswith(":latest")
