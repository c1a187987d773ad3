"""The bench's eye on a hub, against a made-up hub that answers as JupyterHub does."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest
from tidehub_bench import hub_client
from tidehub_bench.hub_client import Hub

from tidehub.errors import TidehubError

Answer = Callable[[httpx.Request], httpx.Response]


def hub_with(answer: Answer, *names: str) -> Hub:
    hub = Hub("http://hub.invalid/")
    hub.http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    hub.tokens = {name: f"token-of-{name}" for name in names}
    return hub


def user(name: str, ready: bool | None) -> dict[str, object]:
    servers = {} if ready is None else {"": {"ready": ready, "pending": None if ready else "spawn"}}
    return {"name": name, "servers": servers}


def answering(states: Iterator[bool | None], post: int = 202) -> Answer:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            body = {"message": "no"} if post >= 400 else None
            return httpx.Response(post, json=body)
        assert request.headers["Authorization"] == "token token-of-ann"
        return httpx.Response(200, json=user("ann", next(states)))

    return answer


async def test_a_start_lasts_until_the_hub_says_ready() -> None:
    hub = hub_with(answering(iter([None, False, False, True])), "ann")
    start = await hub.start("ann")
    assert start.seconds is not None and start.seconds >= 3 * hub_client.POLL


async def test_a_server_that_vanished_is_a_failure() -> None:
    hub = hub_with(answering(iter([False, False, None, None, None])), "ann")
    start = await hub.start("ann")
    assert (start.seconds, start.failure) == (None, "the hub gave up")


async def test_the_hubs_own_words_are_told_without_addresses() -> None:
    states = answering(iter([False, None, None, None]))
    event = (
        'data: {"failed": true, "message": "Spawn failed: Server at http://127.0.0.1:1/ann/ did not respond"}'
    )

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/progress"):
            return httpx.Response(200, text=f"\n\n{event}\n\n")
        return states(request)

    start = await hub_with(answer, "ann").start("ann")
    assert start.failure == "Spawn failed: Server at its address did not respond"


async def test_a_refusal_is_told_in_the_hubs_words() -> None:
    hub = hub_with(answering(iter([None] * 50), post=429), "ann")
    start = await hub.start("ann")
    assert (start.seconds, start.failure) == (None, "429: no")


async def test_many_at_once_each_have_their_own_end() -> None:
    looks = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal looks
        if request.method == "POST":
            return httpx.Response(500 if "/bob/" in request.url.path else 201, json={"message": "too slow"})
        looks += 1
        assert request.headers["Authorization"] == "token token-of-watcher"
        return httpx.Response(200, json=[user("ann", looks > 2), user("bob", None), user("other", True)])

    hub = hub_with(answer, "ann", "bob", "watcher")
    started = await hub.start_together(["ann", "bob"], "watcher")
    assert started["ann"].seconds is not None
    assert (started["bob"].seconds, started["bob"].failure) == (None, "500: too slow")
    assert set(started) == {"ann", "bob"}


async def test_stop_waits_until_the_server_is_gone() -> None:
    states = iter([False, False, None])
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.method)
        if request.method == "DELETE":
            return httpx.Response(202)
        return httpx.Response(200, json=user("ann", next(states)))

    await hub_with(answer, "ann").stop("ann")
    assert asked == ["DELETE", "GET", "GET", "GET"]


async def test_stop_that_the_hub_refuses_is_an_error() -> None:
    hub = hub_with(lambda request: httpx.Response(403, text="no scope"), "ann")
    with pytest.raises(TidehubError, match="403 no scope"):
        await hub.stop("ann")


def test_login_form_is_found_among_others() -> None:
    form = hub_client._Form()
    form.feed(
        '<form action="/search"><input name="q"></form>'
        '<form action="/in?next=/x" method="post"><input type="hidden" name="_xsrf" value="t&amp;1">'
        '<input type="text" name="username"><input type="password" name="pw"><input type="submit" name="go"></form>'
        '<form action="/later"><input type="hidden" name="other" value="1"></form>'
    )
    assert (form.action, form.fields) == ("/in?next=/x", {"_xsrf": "t&1"})
    assert (form.name_field, form.password_field) == ("username", "pw")


async def test_an_address_that_never_answers_is_given_up_with_the_reason() -> None:
    with pytest.raises(TidehubError, match="it ended"):
        await hub_client.answers("http://127.0.0.1:9/", 5, lambda: "it ended with code 1")
