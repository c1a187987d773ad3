"""The supervisor on real processes: order, restarts, hangs, hooks, the end."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from supervisor_dummies import alive, environment, free_port, service, until

from tidehub.local.secrets import Secret
from tidehub.local.supervisor.pace import Backoff
from tidehub.local.supervisor.part import StartFailed
from tidehub.local.supervisor.platform import Component, Probe, Ready
from tidehub.local.supervisor.supervisor import PartStatus, Supervisor

pytestmark = pytest.mark.real


@asynccontextmanager
async def running(
    components: Sequence[Component],
    logs: Path,
    *,
    told: list[str] | None = None,
    secrets: Sequence[Secret] = (),
    backoff: Callable[[], Backoff] = lambda: Backoff(first=0.05, most=0.2),
) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(
        components,
        logs=logs,
        secrets=secrets,
        backoff=backoff,
        tell=(lambda text: None) if told is None else told.append,
    )
    try:
        await supervisor.start()
        yield supervisor
    finally:
        supervisor.hurry()
        await supervisor.stop()


def part(supervisor: Supervisor, name: str) -> PartStatus:
    return next(found for found in supervisor.parts() if found.name == name)


def pid(supervisor: Supervisor, name: str) -> int:
    found = part(supervisor, name).pid
    assert found is not None
    return found


async def until_restarted(supervisor: Supervisor, name: str, restarts: int = 1) -> None:
    await until(
        lambda: part(supervisor, name).state == "ready" and part(supervisor, name).restarts >= restarts
    )


async def test_a_part_starts_only_when_the_part_below_answers(tmp_path: Path) -> None:
    below, above = free_port(), free_port()
    states: list[tuple[str, str]] = []

    def record() -> None:
        now = {found.name: found.state for found in supervisor.parts()}
        states.append((now["below"], now["above"]))

    supervisor = Supervisor(
        [service("above", above, after=["below"]), service("below", below, "--delay", "0.7")],
        logs=tmp_path,
        on_change=record,
    )
    try:
        await supervisor.start()
        assert supervisor.all_ready
    finally:
        await supervisor.stop()
    assert ("starting", "waiting") in states
    assert not [pair for pair in states if pair[0] == "starting" and pair[1] != "waiting"]


async def test_a_killed_part_comes_back_and_the_hook_runs(tmp_path: Path) -> None:
    called: list[float] = []

    async def hook() -> None:
        called.append(time.monotonic())

    told: list[str] = []
    async with running([service("one", free_port(), on_restart=hook)], tmp_path, told=told) as supervisor:
        assert called == []
        before = pid(supervisor, "one")
        os.kill(before, signal.SIGKILL)
        await until_restarted(supervisor, "one")
        assert pid(supervisor, "one") != before
        await until(lambda: len(called) == 1)
        assert any("killed by SIGKILL" in text for text in told)


async def test_a_hook_that_fails_is_told_and_ends_nothing(tmp_path: Path) -> None:
    async def hook() -> None:
        raise RuntimeError("no routes")

    told: list[str] = []
    async with running([service("one", free_port(), on_restart=hook)], tmp_path, told=told) as supervisor:
        os.kill(pid(supervisor, "one"), signal.SIGKILL)
        await until(lambda: any("no routes" in text for text in told))
        assert part(supervisor, "one").state == "ready"


async def test_a_stopped_process_is_found_hung_killed_and_restarted(tmp_path: Path) -> None:
    told: list[str] = []
    async with running([service("one", free_port())], tmp_path, told=told) as supervisor:
        before = pid(supervisor, "one")
        os.kill(before, signal.SIGSTOP)
        await until_restarted(supervisor, "one")
        assert not alive(before)
        assert any("hung: 2 probes failed" in text for text in told)


async def test_a_part_is_not_held_to_be_hung_while_the_part_below_is_down(tmp_path: Path) -> None:
    port, below = free_port(), free_port()
    # The upper part is asked through the lower one, as the hub through the proxy.
    through = replace(service("above", port, after=["below"]), ready=service("x", below).ready)
    slow = service("below", below, probe=Probe(interval=30))
    async with running([slow, through], tmp_path, backoff=lambda: Backoff(first=2, most=2)) as supervisor:
        first = pid(supervisor, "above")
        os.kill(pid(supervisor, "below"), signal.SIGKILL)
        await until_restarted(supervisor, "below")
        assert pid(supervisor, "above") == first
        assert part(supervisor, "above").restarts == 0


async def test_restarts_back_off_and_never_give_up(tmp_path: Path) -> None:
    flag = tmp_path / "broken"
    code = f"import os,sys,time; sys.exit(5) if os.path.exists({str(flag)!r}) else time.sleep(1000)"

    async def ready() -> Ready:
        return Ready(True)

    component = Component("one", [sys.executable, "-c", code], environment(), ready=ready, probe=None)
    told: list[str] = []
    quick = lambda: Backoff(first=0.05, most=0.2, stable=1000)  # noqa: E731
    async with running([component], tmp_path, told=told, backoff=quick) as supervisor:
        flag.touch()
        os.kill(pid(supervisor, "one"), signal.SIGKILL)
        await until(lambda: part(supervisor, "one").restarts >= 5)
        delays = [text.rpartition(" in ")[2] for text in told if "starting again" in text][:4]
        assert delays == ["0.05 s", "0.1 s", "0.2 s", "0.2 s"]
        flag.unlink()
        await until(
            lambda: part(supervisor, "one").pid is not None and part(supervisor, "one").state == "ready"
        )


async def test_a_first_start_that_fails_says_why_with_the_lines_that_matter(tmp_path: Path) -> None:
    good, bad = service("good", free_port()), service("bad", free_port(), "--fail", "the database is locked")
    with pytest.raises(StartFailed) as failure:
        async with running([good, bad], tmp_path):
            raise AssertionError("it must not get here")
    assert "bad did not start: exit code 3" in str(failure.value)
    assert "the database is locked" in str(failure.value)
    assert str(tmp_path / "bad.log") in str(failure.value)


async def test_a_part_that_never_answers_fails_the_start(tmp_path: Path) -> None:
    slow = service("slow", free_port(), "--delay", "1000", start_timeout=0.5)
    with pytest.raises(StartFailed, match=r"not ready after \d+ s"):
        async with running([slow], tmp_path):
            pass


async def test_a_program_that_does_not_exist_fails_the_start(tmp_path: Path) -> None:
    missing = replace(service("gone", free_port()), argv=["/nonexistent/program"])
    with pytest.raises(StartFailed, match="cannot start it: starting /nonexistent/program: No such file"):
        async with running([missing], tmp_path):
            pass


async def test_parts_stop_in_reverse_order(tmp_path: Path) -> None:
    order = tmp_path / "order"
    names = ("first", "second", "third")
    components = [
        service(name, free_port(), "--stopped", str(order), after=names[:index])
        for index, name in enumerate(names)
    ]
    supervisor = Supervisor(components, logs=tmp_path)
    await supervisor.start()
    assert await supervisor.stop()
    assert order.read_text().split() == ["third", "second", "first"]


async def test_what_does_not_end_in_time_is_killed(tmp_path: Path) -> None:
    supervisor = Supervisor([service("deaf", free_port(), "--deaf", stop_timeout=0.3)], logs=tmp_path)
    await supervisor.start()
    process = pid(supervisor, "deaf")
    started = time.monotonic()
    assert not await supervisor.stop()
    assert time.monotonic() - started < 5
    assert not alive(process)


async def test_logs_are_private_and_without_secrets(tmp_path: Path) -> None:
    talking = service("one", free_port(), "--told", "open-sesame")
    async with running([talking], tmp_path, secrets=[Secret("open-sesame")]):
        await until((tmp_path / "one.log").read_text)
        assert (tmp_path / "one.log").read_text() == "the word is [secret]\n"
        assert stat.S_IMODE((tmp_path / "one.log").stat().st_mode) == 0o600


async def test_the_environment_is_exactly_as_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEAK", "from the operator's shell")
    async with running([service("one", free_port())], tmp_path) as supervisor:
        raw = Path(f"/proc/{pid(supervisor, 'one')}/environ").read_bytes()
    names = {entry.partition(b"=")[0].decode() for entry in raw.split(b"\0") if entry}
    assert names == {*environment(), "NAME"}


async def test_an_orphan_of_a_killed_part_lives_on_and_is_reaped(tmp_path: Path) -> None:
    file = tmp_path / "orphan"
    async with running([service("one", free_port(), "--orphan", str(file))], tmp_path) as supervisor:
        orphan = int(file.read_text())
        os.kill(pid(supervisor, "one"), signal.SIGKILL)
        await until_restarted(supervisor, "one")
        assert alive(orphan), "users' processes must outlive the part that started them"
        os.kill(orphan, signal.SIGKILL)
        await until(lambda: not Path(f"/proc/{orphan}").exists(), 5)
        os.kill(int(file.read_text()), signal.SIGKILL)


async def test_a_zombie_that_somebody_else_will_collect_hides_no_orphan(tmp_path: Path) -> None:
    file = tmp_path / "orphan"
    uncollected = subprocess.Popen(["/bin/true"])
    os.waitid(os.P_PID, uncollected.pid, os.WEXITED | os.WNOWAIT)
    async with running([service("one", free_port(), "--orphan", str(file))], tmp_path) as supervisor:
        orphan = int(file.read_text())
        os.kill(pid(supervisor, "one"), signal.SIGKILL)
        await until_restarted(supervisor, "one")
        os.kill(orphan, signal.SIGKILL)
        await until(lambda: not Path(f"/proc/{orphan}").exists(), 5)
        os.kill(int(file.read_text()), signal.SIGKILL)
    assert uncollected.wait() == 0


@pytest.mark.root
async def test_a_part_runs_as_its_own_user_without_privileges(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    read = "import time; print(open('/proc/self/status').read(), flush=True); time.sleep(1000)"

    async def ready() -> Ready:
        return Ready("NoNewPrivs" in (tmp_path / "one.log").read_text())

    component = Component(
        "one", ["/usr/bin/python3", "-c", read], {"PATH": "/usr/bin"}, ready=ready, probe=None, uid=64123
    )
    async with running([component], tmp_path):
        found = dict(
            line.split(":\t", 1) for line in (tmp_path / "one.log").read_text().splitlines() if ":\t" in line
        )
    assert set(found["Uid"].split()) == {"64123"} == set(found["Gid"].split())
    assert found["Groups"].strip() == ""
    assert int(found["CapEff"], 16) == 0 == int(found["CapPrm"], 16)
    assert found["NoNewPrivs"] == "1"


async def test_the_work_alongside_goes_on_after_a_fault_and_ends_with_the_part(tmp_path: Path) -> None:
    rounds: list[asyncio.Task[object] | None] = []

    async def alongside() -> None:
        rounds.append(asyncio.current_task())
        if len(rounds) == 1:
            raise OSError("for a moment")
        await asyncio.sleep(1000)

    async with running([service("one", free_port(), alongside=alongside)], tmp_path):
        await until(lambda: len(rounds) == 2)
    task = rounds[-1]
    assert task is not None
    await until(task.done)


async def test_a_renewed_part_starts_by_its_new_words_and_the_others_go_on(tmp_path: Path) -> None:
    one, two = service("one", free_port()), service("two", free_port(), after=["one"])
    told: list[str] = []
    async with running([one, two], tmp_path, told=told) as supervisor:
        before = {name: pid(supervisor, name) for name in ("one", "two")}
        wordy = replace(one, argv=[*one.argv, "--told", "new words"])
        names = supervisor.changed_by([wordy, two], [])
        assert names == ["one"]
        assert supervisor.changed_by([one, two], ["two"]) == ["two"]
        await supervisor.renew([wordy, two], names)
        assert part(supervisor, "one").state == "ready"
        assert pid(supervisor, "one") != before["one"]
        assert pid(supervisor, "two") == before["two"]
        assert "new words" in (tmp_path / "one.log").read_text()
        assert part(supervisor, "one").restarts == 0, "it was not a fault"
        assert not [text for text in told if "starting again" in text]
        # Whatever happens to it later, it stays what it is now.
        os.kill(pid(supervisor, "one"), signal.SIGKILL)
        await until_restarted(supervisor, "one")
        assert (tmp_path / "one.log").read_text().count("new words") == 2


async def test_a_renewed_part_that_does_not_come_up_is_said_and_can_be_renewed_again(tmp_path: Path) -> None:
    one = service("one", free_port())
    async with running([one], tmp_path) as supervisor:
        broken = replace(one, argv=[*one.argv, "--fail", "no such option"])
        with pytest.raises(StartFailed, match="no such option"):
            await supervisor.renew([broken], ["one"])
        # It is tried again and again meanwhile.
        await until(lambda: part(supervisor, "one").restarts >= 1)
        await supervisor.renew([one], ["one"])
        assert part(supervisor, "one").state == "ready"


async def test_what_a_thread_runs_is_not_collected_by_the_supervisor(tmp_path: Path) -> None:
    """A program with a session of its own looks like an orphan; collected, it would seem to have ended well."""

    def fails() -> list[int]:
        run = [sys.executable, "-S", "-c", "raise SystemExit(3)"]
        # With a timeout, as `local.process` waits: by looking again and again.
        return [subprocess.run(run, start_new_session=True, timeout=30).returncode for _ in range(20)]

    async with running([service("one", free_port())], tmp_path) as supervisor:
        with supervisor.leaving_children():
            assert await asyncio.to_thread(fails) == [3] * 20
