"""The choices on the page where a user starts a server (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from tidehub.capacity.disk import CLEAN_UP, FREE_SPACE
from tidehub.login.entitled import Entitled, Server
from tidehub.site.model import Site
from tidehub.site.units import format_size

FIELD = "profile"
WITHOUT_PACKAGES = "without_packages"
"""The option of a server that does not load what its user installed: for who cannot start one with it any more."""


def find_server(user: Entitled, slug: str | None) -> Server:
    """The server of the profile of that slug, the preselected one for `None`.

    Raises `ValueError` naming what the user may start. A profile for others only and one that does not exist
    get the same words: which profiles others have is nobody's business.
    """
    server = user.default if slug is None else user.server(slug)
    if server is not None:
        return server
    if not user.servers:
        raise ValueError("no environment here is open to your account")
    known = ", ".join(server.profile.slug for server in user.servers)
    raise ValueError(f"there is no profile {slug!r} that you may start; possible: {known}")


def nothing_to_start(site: Site) -> str:
    """What a user reads who may enter and start nothing."""
    sentence = f"You may enter {site.site.name}, but none of its environments is open to your account."
    return f"{sentence} Questions: {site.site.contact}" if site.site.contact else sentence


def size_words(server: Server) -> str:
    """What a server gets, for users: memory and CPU as limit and guarantee."""
    return (
        f"up to {format_size(server.memory.limit)} memory ({format_size(server.memory.guarantee)} guaranteed), "
        f"up to {server.cpu.limit:g} CPU"
    )


def options_form(user: Entitled, chosen: str | None = None) -> str:
    """The HTML inside the hub's form: one card a profile that the user may start, the default (or `chosen`) selected.

    Empty where there is nothing to choose, so that the hub starts the server at once; not so when the last choice
    is gone, which the hub would repeat.
    """
    gone = chosen is not None and user.server(chosen) is None
    return "" if len(user.servers) < 2 and not gone else _cards(user, None if gone else chosen)


def clean_up_form(user: Entitled, refused: str, chosen: str | None = None) -> str:
    """The same where no usual server may be started: why not, and that what is started is for freeing space."""
    gone = chosen is not None and user.server(chosen) is None
    return (
        '<div class="alert alert-warning" role="alert" id="disk-words">'
        f"<p>{escape(refused)}</p><p>{escape(CLEAN_UP)}</p></div>"
        f'<input type="hidden" name="{FREE_SPACE}" value="yes">{_cards(user, None if gone else chosen)}'
    )


def _cards(user: Entitled, chosen: str | None) -> str:
    selected = find_server(user, chosen)
    cards = "\n".join(_card(server, server == selected) for server in user.servers)
    return (
        f'<fieldset class="profiles"><legend class="visually-hidden">Environment</legend>\n{cards}\n</fieldset>'
        f'<div class="form-check"><input class="form-check-input" type="checkbox" name="{WITHOUT_PACKAGES}" value="yes"'
        f' id="without-packages"><label class="form-check-label" for="without-packages">'
        "Start without the packages that I installed myself</label></div>"
    )


def _card(server: Server, selected: bool) -> str:
    profile = server.profile
    slug = escape(profile.slug, quote=True)
    checked = " checked" if selected else ""
    description = (
        f'<span class="profile-about">{escape(profile.description)}</span>' if profile.description else ""
    )
    return (
        f'<label class="profile" for="profile-{slug}">'
        f'<input type="radio" name="{FIELD}" id="profile-{slug}" value="{slug}"{checked} required>'
        f'<span class="profile-text"><span class="profile-name">{escape(profile.name)}</span>{description}'
        f'<span class="profile-size">{escape(size_words(server))}</span></span></label>'
    )


def read_form(form: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The hub's `user_options` from the submitted form; nothing chosen means the default profile."""
    values = form.get(FIELD, [])
    profile: dict[str, Any] = {FIELD: values[0]} if values and values[0] else {}
    return profile | {name: True for name in (FREE_SPACE, WITHOUT_PACKAGES) if form.get(name)}
