"""A site's policy about users as plain values, which read like the site's own sections where pydantic is not.

`tidehub.login.entitled` decides on either. Its text and this one travel into the images of the hub and of the
gateway, so nothing is imported here but the standard library.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any


class Plain(SimpleNamespace):
    """A section of the site."""

    def model_copy(self, update: dict[str, Any]) -> Plain:
        """The same with other values, as pydantic has it."""
        return type(self)(**{**vars(self), **update})

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter(vars(self).items())


class PlainNotebooks(Plain):
    """Notebook servers. Each profile has its sizes, so nothing is looked up elsewhere."""

    def cpu_of(self, profile: Any) -> Any:
        """Processor time of a server of this profile."""
        return profile.cpu

    def memory_of(self, profile: Any) -> Any:
        """Memory of a server of this profile."""
        return profile.memory


def policy_of(site: Any) -> dict[str, Any]:
    """What `entitled` reads of a site, as JSON has it: sizes in bytes, times in seconds. Nothing secret."""
    notebooks = site.notebooks
    profiles = [
        {
            "name": profile.name,
            "slug": profile.slug,
            "default": profile.default,
            "cpu": notebooks.cpu_of(profile).model_dump(mode="json"),
            "memory": notebooks.memory_of(profile).model_dump(mode="json"),
            "allow": profile.allow.model_dump(mode="json") if profile.allow is not None else None,
        }
        for profile in notebooks.profiles
    ]
    return {
        "notebooks": {"profiles": profiles},
        "dask": site.dask.model_dump(mode="json"),
        "login": {"groups": [one.model_dump(mode="json") for one in site.login.groups]},
    }


def plain_site(policy: dict[str, Any]) -> Plain:
    """The values of `policy_of` as `entitled` takes a site."""
    site = {key: _plain(value) for key, value in policy.items() if key != "notebooks"}
    notebooks = {key: _plain(value) for key, value in policy["notebooks"].items()}
    return Plain(**site, notebooks=PlainNotebooks(**notebooks))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return Plain(**{key: _plain(inner) for key, inner in value.items()})
    return tuple(_plain(inner) for inner in value) if isinstance(value, (list, tuple)) else value
