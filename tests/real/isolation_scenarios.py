"""What must hold for an ordinary user; run as one: `python isolation_scenarios.py SCENARIO ROOT`."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from isolation_programs import (
    FAMILY,
    MIB,
    appears,
    ended,
    holds,
    log_writer,
    places,
    probe,
    processes_with,
    python,
    server_spec,
    spec,
    written,
)

from tidehub.errors import TidehubError
from tidehub.local.isolation import Isolation, Limits, ProcessHandle, choose_isolation

SLEEP = "import time; time.sleep(600)"
ME = [os.getuid()]
Scenario = Callable[[Isolation], Awaitable[None]]


def again(isolation: Isolation) -> Isolation:
    """The same platform after a restart."""
    return choose_isolation(places(isolation.ground.private.parent), require=isolation.kind)


def mine(isolation: Isolation) -> list[int]:
    """Processes of this platform's users; the user may have others, sandboxes too."""
    return processes_with(str(isolation.ground.homes), ME)


def refusal(work: Callable[[], object]) -> str:
    try:
        work()
    except TidehubError as error:
        return str(error)
    raise AssertionError("this was not refused")


async def bubblewrap_sees_only_its_own(isolation: Isolation) -> None:
    alice, bob = isolation.user("alice"), isolation.user("bob")
    made, path = server_spec(isolation, alice)
    handle = isolation.launch(made)
    await appears(alice.home / "ready")
    spill = isolation.launch(
        spec(isolation, alice, "open('/tmp/of-alice', 'w'); open('spilled', 'w')", name="spill")
    )
    await ended(isolation, spill)
    assert (alice.home / "spilled").exists()
    seen = await probe(isolation, bob, alice, handle, path)
    for key in ("home", "file", "private", "environ", "cwd", "root", "memory", "socket"):
        assert seen[key] == "FileNotFoundError", (key, seen[key])
    assert seen["kill"] == "ProcessLookupError" and seen["system"] == "OSError", seen
    assert seen["homes"] == "done: ['bob']" and not seen["token"] and seen["own"] == "done: 4", seen
    assert len(seen["pids"]) == 2 and "of-alice" not in seen["tmp"], seen
    assert all(outcome == "FileNotFoundError" for outcome in seen["cgroups"])
    assert isolation.alive(handle)
    own = await probe(isolation, alice, alice, handle, path)
    assert own["file"] == "done: secret" and own["socket"] == "done: hello" and "of-alice" in own["tmp"], own
    # Nothing of the user is in the command lines that other users of the machine can read.
    assert processes_with("token-of-alice", ME) == []
    isolation.clean(spill)


async def bubblewrap_stop_ends_the_inner_tree(isolation: Isolation) -> None:
    user = isolation.user("alice")
    handle = isolation.launch(spec(isolation, user, FAMILY.format(then="time.sleep(600)")))
    await appears(user.home / "ready")
    used = isolation.usage(handle)
    assert used.processes >= 4 and used.memory > MIB, used
    await isolation.stop(handle, grace=10)
    ending = isolation.ending(handle)
    assert (ending.code, ending.signal) == (None, 15), ending
    await holds(lambda: mine(isolation) == [])
    assert isolation.running() == []


async def bubblewrap_outlives_a_restart(isolation: Isolation) -> None:
    script = (
        "import asyncio, json, sys; from pathlib import Path; import isolation_scenarios as s\n"
        "i = s.choose_isolation(s.places(Path(sys.argv[1])), require='bubblewrap')\n"
        "h = i.launch(s.spec(i, i.user('alice'), s.FAMILY.format(then='time.sleep(600)')))\n"
        "print(json.dumps(h.to_state()))"
    )
    root = str(isolation.ground.private.parent)
    done = subprocess.run([sys.executable, "-c", script, root], stdout=subprocess.PIPE, check=True)
    handle = ProcessHandle.from_state(json.loads(done.stdout))
    user = isolation.user("alice")
    await appears(user.home / "ready")
    assert isolation.alive(handle) and [line.handle for line in isolation.running()] == [handle]
    await isolation.stop(handle, grace=10)
    await holds(lambda: mine(isolation) == [])
    assert isolation.ending(handle).code is None


async def bubblewrap_knows_that_the_program_ended(isolation: Isolation) -> None:
    """bubblewrap's own first process stays as long as any orphan does: it is not the server."""
    user = isolation.user("alice")
    handle = isolation.launch(spec(isolation, user, FAMILY.format(then="raise SystemExit(7)")))
    await ended(isolation, handle)
    assert isolation.ending(handle).code == 7
    assert mine(isolation)
    isolation.clean(handle)
    await holds(lambda: mine(isolation) == [])


async def bubblewrap_refuses_what_would_uncover(isolation: Isolation) -> None:
    user = isolation.user("alice")
    made = spec(isolation, user, SLEEP)
    other = isolation.user("bob").home
    for path in (isolation.ground.private, other, isolation.ground.homes):
        assert "must stay hidden" in refusal(
            lambda path=path: isolation.launch(replace(made, readable=(path,)))
        )  # type: ignore[misc]
    assert "does not exist" in refusal(lambda: isolation.launch(replace(made, readable=(Path("/no/env"),))))
    assert "cannot be seen" in refusal(lambda: isolation.launch(replace(made, cwd=Path("/root"))))
    assert isolation.running() == [] and mine(isolation) == []
    # A wide read-only view still hides the state.
    look = "import os, sys; print(os.listdir(sys.argv[1]), os.listdir(sys.argv[2]))"
    wide = spec(
        isolation, user, look, str(isolation.ground.private), str(isolation.ground.homes), name="wide"
    )
    handle = isolation.launch(replace(wide, readable=(isolation.ground.private.parent,)))
    await ended(isolation, handle)
    assert (said := written(isolation, wide)) == "[] ['alice']\n", said
    isolation.clean(handle)


async def bubblewrap_says_why_a_sandbox_fails(isolation: Isolation) -> None:
    broken = isolation.ground.private / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: the kernel says no' >&2; exit 1\n")
    broken.chmod(0o700)
    isolation._program = str(broken)  # type: ignore[attr-defined]
    said = refusal(lambda: isolation.launch(spec(isolation, isolation.user("alice"), SLEEP)))
    assert said.startswith("cannot start 'lab' for 'alice': the sandbox failed: the kernel says no"), said
    assert isolation._launches.all() == []


async def bubblewrap_starts_nothing_for_a_dead_platform(isolation: Isolation) -> None:
    script = (
        "import os, sys; from pathlib import Path; import isolation_scenarios as s\n"
        "from tidehub.local.isolation import launches\n"
        "launches.Launches.record = lambda *args, **more: os._exit(5)\n"
        "i = s.choose_isolation(s.places(Path(sys.argv[1])), require='bubblewrap')\n"
        "i.launch(s.spec(i, i.user('alice'), \"open('started', 'w')\"))"
    )
    root = str(isolation.ground.private.parent)
    assert subprocess.run([sys.executable, "-c", script, root], check=False).returncode == 5
    await holds(lambda: mine(isolation) == [])
    assert not (isolation.user("alice").home / "started").exists()


async def memory_is_limited_per_process(isolation: Isolation) -> None:
    user = isolation.user("alice")
    limits = Limits(memory=200 * MIB)
    code = "x = bytearray(100 << 20)\ntry: y = bytearray(150 << 20)\nexcept MemoryError: raise SystemExit(44)"
    handle = isolation.launch(spec(isolation, user, code, limits=limits))
    await ended(isolation, handle)
    ending = isolation.ending(handle)
    if isolation.capabilities.memory:
        assert ending.out_of_memory, ending
    else:
        assert (ending.code, ending.out_of_memory, isolation.memory_kills(handle)) == (44, False, 0), ending
        assert any(
            line.startswith("Memory limits hold for each process by itself") for line in isolation.gaps()
        )
    isolation.clean(handle)


async def single_serves_one_user(isolation: Isolation) -> None:
    alice, bob = isolation.user("alice"), isolation.user("bob")
    assert alice.home != bob.home and alice.uid == bob.uid == ME[0]
    first = isolation.launch(spec(isolation, alice, SLEEP, name="one"))
    second = isolation.launch(spec(isolation, alice, SLEEP, name="two", parent="clusters"))
    said = refusal(lambda: isolation.launch(spec(isolation, bob, SLEEP)))
    assert "'alice' is using this machine" in said and "bubblewrap" in said, said
    await isolation.stop(first, grace=5)
    assert "'alice' is using this machine" in refusal(
        lambda: again(isolation).launch(spec(isolation, bob, SLEEP))
    )
    await again(isolation).stop(second, grace=5)
    third = again(isolation).launch(spec(isolation, bob, SLEEP))
    assert "'bob' is using this machine" in refusal(lambda: isolation.launch(spec(isolation, alice, SLEEP)))
    await isolation.stop(third, grace=5)


async def single_counts_detached_work(isolation: Isolation) -> None:
    alice, bob = isolation.user("alice"), isolation.user("bob")
    handle = isolation.launch(spec(isolation, alice, FAMILY.format(then="raise SystemExit(0)")))
    await ended(isolation, handle)
    assert "'alice' is using this machine" in refusal(
        lambda: again(isolation).launch(spec(isolation, bob, SLEEP))
    )
    again(isolation).clean(handle)
    await holds(lambda: mine(isolation) == [])
    await isolation.stop(isolation.launch(spec(isolation, bob, SLEEP)), grace=5)


async def single_stop_leaves_nobody(isolation: Isolation) -> None:
    user = isolation.user("alice")
    handle = isolation.launch(spec(isolation, user, FAMILY.format(then="time.sleep(600)")))
    await appears(user.home / "ready")
    assert len(mine(isolation)) == 3 and isolation.usage(handle).processes == 3
    await again(isolation).stop(handle, grace=5)
    assert mine(isolation) == []


async def single_race_has_one_winner(isolation: Isolation) -> None:
    users = [isolation.user(f"p{number}") for number in range(4)]
    done = await asyncio.gather(
        *(isolation.start(spec(isolation, one, SLEEP, name=one.name)) for one in users),
        return_exceptions=True,
    )
    won = [one for one in done if isinstance(one, ProcessHandle)]
    assert len(won) == 1 and all(isinstance(one, TidehubError) for one in done if one not in won), done
    assert len(mine(isolation)) == 1


async def main() -> None:
    name, root = sys.argv[1:3]
    kind = name.split("_")[0] if name.startswith(("bubblewrap", "single")) else sys.argv[3]
    isolation = choose_isolation(places(Path(root)), require=kind)
    assert isolation.kind == kind and python()
    scenario: Scenario = globals()[name]
    start = time.monotonic()
    try:
        with log_writer(isolation):
            await scenario(isolation)
    finally:
        await isolation.stop_all(grace=0)
        isolation.dismantle()
    print(f"{name}: {time.monotonic() - start:.1f} s")


if __name__ == "__main__":
    asyncio.run(main())
