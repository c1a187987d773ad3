"""The watch over users' files, with real directories and the real program that counts."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY

from tidehub.capacity.disk import DiskUse
from tidehub.local.disk_quota import DiskQuota
from tidehub.local.disk_use import Question, read_uses, write_uses
from tidehub.local.hub.disk_watch import WORKING_ROUND, DiskWatch
from tidehub.local.hub.spawner_words import NoRoom
from tidehub.local.isolation.users import Entry
from tidehub.local.places import Places
from tidehub.local.room import ENTRY, Room

MIB = 2**20


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    made = Places.of(tmp_path / "state").ensure(other_users=False)
    # As an ordinary user: pytest's directories let nobody else through.
    monkeypatch.setattr("tidehub.local.hub.disk_watch.os.geteuid", lambda: 61234)
    monkeypatch.setattr(DiskWatch, "_uid", lambda self, entry: os.getuid())
    for name in ("ana", "bob"):
        (made.homes / name).mkdir()
    return made


def watch(places: Places, limit: int | None, *, working: tuple[str, ...] = ()) -> DiskWatch:
    entries = [Entry("ana", 70000, "ana"), Entry("bob", 70001, "bob")]
    isolation: Any = SimpleNamespace(
        running=lambda parent=None: [SimpleNamespace(user=name) for name in working],
        users=SimpleNamespace(everyone=lambda: entries),
    )
    return DiskWatch(places, isolation, limit, logging.getLogger("test"))


def gauge(name: str) -> float:
    found = REGISTRY.get_sample_value(name)
    assert found is not None
    return found


def test_all_are_measured_and_kept_and_who_works_is_measured_again(places: Places) -> None:
    (places.homes / "ana" / "large").write_bytes(b"x" * 3 * MIB)
    one = watch(places, 2 * MIB, working=("bob",))
    asyncio.run(one._look(None, whole=True))
    assert read_uses(places.disk_use)["ana"].bytes >= 3 * MIB > MIB > read_uses(places.disk_use)["bob"].bytes
    assert "Your files take 3" in one.words("ana") and one.words("bob") == ""
    (places.homes / "ana" / "large").unlink()
    (places.homes / "bob" / "large").write_bytes(b"x" * 3 * MIB)
    asyncio.run(one._look(None))
    assert "Your files take 3" in one.words("ana"), "only those whose programs run were looked at"
    assert "Your files take 3" in one.words("bob")
    one._count_room()
    assert gauge("tidehub_users_over_home_size") == 2
    assert gauge("tidehub_disk_free_bytes") > 0 < gauge("tidehub_disk_minimum_bytes")
    assert watch(places, 2 * MIB).words("bob"), "remembered by the next hub"


def test_nobody_is_refused_for_what_is_no_longer_there(places: Places) -> None:
    write_uses(places.disk_use, {"ana": DiskUse(9 * MIB), "bob": DiskUse(9 * MIB)})
    (places.homes / "bob" / "large").write_bytes(b"x" * 3 * MIB)
    one = watch(places, 2 * MIB)

    async def ask() -> tuple[str, str]:
        going = asyncio.create_task(one._those_who_ask())
        answers = await one.refusal("ana"), await one.refusal("bob")
        async with asyncio.timeout(60):
            while read_uses(places.disk_use)["bob"].bytes >= 9 * MIB:
                await asyncio.sleep(0.01)
        going.cancel()
        await asyncio.wait({going})
        return answers

    ana, bob = asyncio.run(ask())
    assert ana == "" and "Your files take 3" in bob


def test_a_disk_that_is_nearly_full_refuses_usual_servers_and_a_full_one_all(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = watch(places, None)
    now = Room(2**40, 2**20 * 100, 2**20 * 100)
    monkeypatch.setattr("tidehub.local.room.room", lambda places: now)
    monkeypatch.setattr("tidehub.local.hub.disk_watch.room", lambda places: now)
    assert "100 MiB are free" in asyncio.run(one.refusal("ana"))
    now = Room(2**40, ENTRY - 1, 0)
    with pytest.raises(NoRoom, match="Your files are safe"):
        asyncio.run(one.refusal("ana"))
    # What only root can write is enough to let users in who delete.
    now = Room(2**40, ENTRY, 0)
    assert "0 B are free" in asyncio.run(one.refusal("ana"))


def test_without_a_limit_nothing_is_measured(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*words: object, **more: object) -> None:
        raise AssertionError("somebody was measured")

    monkeypatch.setattr("tidehub.local.hub.disk_watch.measure", never)
    one = watch(places, None)
    one.look_at("ana")
    asyncio.run(one._look(None, whole=True))
    assert asyncio.run(one.refusal("ana")) == "" and not places.disk_use.exists()


def test_a_measurement_that_fails_ends_nothing(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    one = watch(places, 2 * MIB)
    monkeypatch.setattr(one, "_questions", lambda *words: 1 / 0)
    asyncio.run(one._look(None, whole=True))
    assert asyncio.run(one.refusal("ana")) == ""


class Kernel:
    """The quotas of a file system, as the kernel keeps them beyond the end of a hub."""

    def __init__(self) -> None:
        self.uses: dict[int, int] = {}
        self.limits: dict[int, int] = {}

    def used(self, uid: int) -> int:
        return self.uses.get(uid, 0)

    def limit(self, uid: int) -> int | None:
        return self.limits.get(uid)

    def set_limit(self, uid: int, limit: int) -> None:
        self.limits[uid] = limit


def test_a_new_hub_leaves_running_servers_the_room_that_the_old_one_gave(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DiskWatch, "_uid", lambda self, entry: entry.number)
    kernel = Kernel()
    kernel.uses[70000] = 30 * MIB

    def hub(limit: int, *working: str) -> DiskWatch:
        made = watch(places, limit, working=working)
        made._quota = kernel  # type: ignore[assignment]
        made._isolation.users.enrol = lambda user: Entry("ana", 70000, "ana")  # type: ignore[method-assign]
        return made

    asyncio.run(hub(20 * MIB).set_quota("ana"))
    granted = kernel.limits[70000]
    assert granted > 30 * MIB, "who is over the limit gets in to delete"
    new = hub(20 * MIB, "ana")
    asyncio.run(new._look(None, whole=True))
    assert kernel.limits == {70000: granted, 70001: 20 * MIB}
    # The site's limit counts at once where it gives more, else from the next start.
    asyncio.run(hub(90 * MIB, "ana")._look(None, whole=True))
    assert kernel.limits == {70000: 90 * MIB, 70001: 90 * MIB}
    new = hub(20 * MIB)
    asyncio.run(new._look({"ana"}))
    assert kernel.limits[70000] == 20 * MIB, "and after its stop the limit counts again"


def test_a_file_system_without_quotas_has_none(tmp_path: Path) -> None:
    """Asked of the kernel; /proc has no quotas anywhere."""
    assert DiskQuota.of(Path("/proc")) is None
    assert DiskQuota.of(tmp_path / "absent") is None


def test_nobody_waits_for_what_another_user_has_piled_up(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ana's trees take for ever; bob, who has deleted what was too much, starts all the same."""
    write_uses(places.disk_use, {"ana": DiskUse(9 * MIB), "bob": DiskUse(9 * MIB)})
    one, begun = watch(places, 2 * MIB), asyncio.Event()

    async def slowly(questions: list[Question], **more: Any) -> AsyncGenerator[tuple[str, DiskUse]]:
        for question in questions:
            if question.user == "ana":
                begun.set()
                await asyncio.Event().wait()
            yield question.user, DiskUse(MIB)

    monkeypatch.setattr("tidehub.local.hub.disk_watch.measure", slowly)

    async def ask() -> str:
        going = asyncio.create_task(one._those_who_ask())
        one.look_at("ana")
        await begun.wait()
        for _ in range(3):
            one.look_at("ana")
        async with asyncio.timeout(2):
            answer = await one.refusal("bob")
        going.cancel()
        await asyncio.wait({going})
        return answer

    assert asyncio.run(ask()) == ""


def test_who_takes_long_to_measure_is_looked_at_more_seldom_and_nobody_else(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = watch(places, 2 * MIB, working=("ana", "bob"))
    now, looked_at = 1000.0, list[str]()

    async def slowly(questions: list[Question], **more: Any) -> AsyncGenerator[tuple[str, DiskUse]]:
        nonlocal now
        for question in questions:
            looked_at.append(question.user)
            now += 60 if question.user == "ana" else 0.1
            yield question.user, DiskUse(MIB)

    monkeypatch.setattr("tidehub.local.hub.disk_watch.measure", slowly)
    monkeypatch.setattr("tidehub.local.hub.disk_watch.time.monotonic", lambda: now)
    for _ in range(25):
        asyncio.run(one._look(None))
        now += WORKING_ROUND
    assert looked_at.count("bob") == 25
    assert looked_at.count("ana") == 2, "once in 20 minutes"


def test_who_asks_while_they_are_measured_is_measured_once_more(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, begun, let_go, looks = watch(places, 2 * MIB), asyncio.Event(), asyncio.Event(), list[str]()

    async def counted(questions: list[Question], **more: Any) -> AsyncGenerator[tuple[str, DiskUse]]:
        looks.append(questions[0].user)
        begun.set()
        await let_go.wait()
        yield questions[0].user, DiskUse(MIB)

    monkeypatch.setattr("tidehub.local.hub.disk_watch.measure", counted)

    async def ask() -> None:
        going = asyncio.create_task(one._those_who_ask())
        one.look_at("ana")
        await begun.wait()
        for _ in range(5):
            one.look_at("ana")
        let_go.set()
        async with asyncio.timeout(5):
            while len(looks) < 2:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        going.cancel()
        await asyncio.wait({going})

    asyncio.run(ask())
    assert looks == ["ana", "ana"]
