"""A start whose user the identity provider is asked about first."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tidehub.local.hub.checked_input import CheckedHandler


class Upstream:
    """What the hub's own handlers do about it: ask (slowly), and then wait a second for the start to be pending."""

    def __init__(self, *, member: bool, ask_first: bool = True) -> None:
        self.authenticator = SimpleNamespace(refresh_pre_spawn=ask_first)
        self.member = member
        self.did: list[str] = []

    async def refresh_auth(self, user: Any, force: bool = False) -> Any:
        self.did.append(f"asked about {user.name}" + (", forced" if force else ""))
        return user if self.member else None

    async def _wrap_spawn_single_user(self, user: Any, server_name: str, *rest: Any, **more: Any) -> str:
        self.did.append("the second begins")
        asked = await self.refresh_auth(user, force=True) if self.authenticator.refresh_pre_spawn else user
        return "refused" if asked is None else "pending"


class Handler(CheckedHandler, Upstream):  # type: ignore[misc]
    __init__ = Upstream.__init__  # type: ignore[assignment]


ADA = SimpleNamespace(name="ada")


async def test_the_provider_is_asked_before_the_hub_waits_for_the_start_and_once() -> None:
    handler = Handler(member=True)
    assert await handler._wrap_spawn_single_user(ADA, "", object(), "/pending", options={}) == "pending"
    assert handler.did == ["asked about ada, forced", "the second begins"]


async def test_who_is_no_member_any_more_is_still_refused() -> None:
    handler = Handler(member=False)
    assert await handler._wrap_spawn_single_user(ADA, "", object(), "/pending") == "refused"
    assert handler.did.count("asked about ada, forced") == 1


async def test_a_site_that_does_not_ask_first_asks_nobody() -> None:
    handler = Handler(member=True, ask_first=False)
    assert await handler._wrap_spawn_single_user(ADA, "", object(), "/pending") == "pending"
    assert handler.did == ["the second begins"]


async def test_answers_about_others_are_not_mixed_up_and_a_usual_refresh_stays_the_hubs() -> None:
    handler = Handler(member=True)
    bob = SimpleNamespace(name="bob")
    assert await handler.refresh_auth(ADA, force=True) is ADA
    assert await handler.refresh_auth(bob, force=True) is bob
    assert await handler.refresh_auth(ADA, force=True) is ADA
    assert await handler.refresh_auth(ADA) is ADA
    assert handler.did == ["asked about ada, forced", "asked about bob, forced", "asked about ada"]
