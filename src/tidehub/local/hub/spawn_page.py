"""The choices on the page where a person starts a server (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from tidehub.site.model import Profile, Site
from tidehub.site.units import format_size

FIELD = "profile"


def find_profile(site: Site, slug: str | None) -> Profile:
    """The profile of that slug, the default one for `None`. Raises `ValueError` naming the possible ones."""
    if slug is None:
        return site.notebooks.default_profile
    for profile in site.notebooks.profiles:
        if profile.slug == slug:
            return profile
    known = ", ".join(p.slug for p in site.notebooks.profiles)
    raise ValueError(f"there is no profile {slug!r} here; possible: {known}")


def memory_words(site: Site, profile: Profile) -> str:
    """What a server of this profile gets, for people: memory and CPU as limit and guarantee."""
    memory, cores = site.notebooks.memory_of(profile), site.notebooks.cpu_of(profile)
    return (
        f"up to {format_size(memory.limit)} memory ({format_size(memory.guarantee)} guaranteed), "
        f"up to {cores.limit:g} CPU"
    )


def options_form(site: Site, chosen: str | None = None) -> str:
    """The HTML inside the hub's form: one card a profile, the default (or `chosen`) selected.

    Empty where there is nothing to choose, so that the hub starts the server at once.
    """
    profiles = site.notebooks.profiles
    if len(profiles) < 2:
        return ""
    selected = (
        find_profile(site, chosen).slug if _known(site, chosen) else site.notebooks.default_profile.slug
    )
    cards = "\n".join(_card(site, p, p.slug == selected) for p in profiles)
    return f'<fieldset class="profiles"><legend class="visually-hidden">Environment</legend>\n{cards}\n</fieldset>'


def _known(site: Site, slug: str | None) -> bool:
    return slug is not None and any(p.slug == slug for p in site.notebooks.profiles)


def _card(site: Site, profile: Profile, selected: bool) -> str:
    slug = escape(profile.slug, quote=True)
    checked = " checked" if selected else ""
    description = (
        f'<span class="profile-about">{escape(profile.description)}</span>' if profile.description else ""
    )
    return (
        f'<label class="profile" for="profile-{slug}">'
        f'<input type="radio" name="{FIELD}" id="profile-{slug}" value="{slug}"{checked} required>'
        f'<span class="profile-text"><span class="profile-name">{escape(profile.name)}</span>{description}'
        f'<span class="profile-size">{escape(memory_words(site, profile))}</span></span></label>'
    )


def read_form(form: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The hub's `user_options` from the submitted form; nothing chosen means the default profile."""
    values = form.get(FIELD, [])
    return {FIELD: values[0]} if values and values[0] else {}
