from __future__ import annotations

from datetime import timedelta

import pytest

from tidehub.local.hub.culler import Idleness


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def server(activity: str, url: str = "/user/ana/") -> dict[str, str]:
    return {"url": url, "started": "2026-01-01T00:00:00Z", "last_activity": activity}


def test_a_night_of_sleep_is_no_idleness(clock: Clock) -> None:
    """The wall clock has gone on by ten hours at the resume, the monotonic clock by ten seconds."""
    idleness = Idleness(clock)
    assert idleness.seconds(server("one"), timedelta(minutes=1)) == 0
    clock.now += 10
    assert idleness.seconds(server("one"), timedelta(hours=10)) == 10


def test_a_server_is_idle_since_its_activity_was_seen_last(clock: Clock) -> None:
    idleness = Idleness(clock)
    for _ in range(7):
        last = idleness.seconds(server("one"), timedelta(0))
        clock.now += 600
    assert last == 3600
    assert idleness.seconds(server("two"), timedelta(seconds=100)) == 100, "active 100 s before the look"
    clock.now += 600
    assert idleness.seconds(server("two"), timedelta(seconds=700)) == 700


@pytest.mark.parametrize("wall", [timedelta(hours=-5), timedelta(days=300), None])
def test_a_jump_of_the_wall_clock_changes_nothing(clock: Clock, wall: timedelta | None) -> None:
    idleness = Idleness(clock)
    idleness.seconds(server("one"), timedelta(0))
    clock.now += 60
    assert 0 <= idleness.seconds(server("two"), wall) <= 60


def test_a_server_started_anew_begins_anew(clock: Clock) -> None:
    idleness = Idleness(clock)
    idleness.seconds(server("one"), timedelta(0))
    clock.now += 5000
    again = server("one") | {"started": "2026-01-01T02:00:00Z"}
    assert idleness.seconds(again, timedelta(hours=9)) == 0


def test_upstream_asks_our_hook() -> None:
    """The real culler takes the hook's default from its class; a renamed trait would leave the wall clock in charge."""
    import jupyterhub_idle_culler as upstream

    from tidehub.local.hub import culler

    launched: list[object] = []
    before = upstream.IdleCuller.cull_arbiter_hook.default_value
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                upstream.IdleCuller,
                "launch_instance",
                classmethod(lambda cls: launched.append(cls().cull_arbiter_hook)),
            )
            culler.main()
    finally:
        upstream.IdleCuller.cull_arbiter_hook.default_value = before
    hook = launched[0]
    assert callable(hook)
    assert hook(inactive=timedelta(hours=10), inactive_limit=3600, server=server("one")) is False
    assert before(inactive=timedelta(hours=10), inactive_limit=3600, server=server("one")) is True
