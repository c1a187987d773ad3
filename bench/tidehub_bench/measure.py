"""The measurements, each with both sides in turn, so that whatever else the machine does meets both alike."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tidehub.checks.target import Account
from tidehub.errors import TidehubError
from tidehub_bench import memory
from tidehub_bench.crowd import Crowd, crowd
from tidehub_bench.side import Side, clean_environment
from tidehub_bench.statistics import percentile

DASK_CLIENT = Path(__file__).with_name("dask_client.py")
CLUSTER_PATIENCE = 180.0
"""Seconds for one cluster before the client counts as hung."""
SETTLE = 5.0
"""Seconds that servers idle before their memory is read."""
WATCHER = "the watcher"

Say = Callable[[str], None]


@dataclass
class Together:
    """One round of many users at once."""

    succeeded: int
    asked: int
    wall: float | None
    """Seconds until the last server that came was ready."""
    seconds: list[float]
    failures: list[str]
    load_before: float


@dataclass
class Results:
    """Samples of one side. Times in seconds, memory in bytes."""

    login_page: list[float] = field(default_factory=list)
    gateway: list[float] = field(default_factory=list)
    spawn: list[float] = field(default_factory=list)
    spawn_failures: list[str] = field(default_factory=list)
    together: list[Together] = field(default_factory=list)
    crowd: list[Crowd] = field(default_factory=list)
    memory: list[memory.Memory] = field(default_factory=list)
    cluster: list[dict[str, float]] = field(default_factory=list)
    cluster_failures: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Bench:
    """Both sides and what was measured of them, by the side's name."""

    def __init__(self, sides: Sequence[Side], say: Say) -> None:
        self.sides = list(sides)
        self.say = say
        self.results = {side.name: Results() for side in sides}

    async def starts(self, rounds: int) -> None:
        """Start each side `rounds` times, the other one being down. Both run afterwards."""
        for number in range(rounds):
            for side in self._order(number):
                began = await side.start()
                results = self.results[side.name]
                results.login_page.append(began.login_page)
                results.gateway.append(began.gateway)
                self.say(
                    f"start {number + 1}/{rounds} {side.name}: login page after {began.login_page:.2f} s"
                )
                await side.stop()
        for side in self.sides:
            await side.start()
            side.hub.tokens[WATCHER] = side.watcher_token()

    async def log_everybody_in(self, users: int) -> None:
        """So many log in before anything more is timed."""
        for side in self.sides:
            for user in side.users[:users]:
                await side.hub.log_in(user)

    async def spawns(self, rounds: int, users: int) -> None:
        """One server after the other, the sides in turn. The first of each side is not counted: it fills caches."""
        for number in range(rounds + 1):
            for side in self._order(number):
                name = side.users[number % min(users, len(side.users))].name
                start = await side.hub.start(name)
                results = self.results[side.name]
                if start.seconds is None:
                    results.spawn_failures.append(start.failure)
                elif number:
                    results.spawn.append(start.seconds)
                with contextlib.suppress(TidehubError):
                    await side.hub.stop(name)
                shown = f"{start.seconds:.2f} s" if start.seconds is not None else f"failed: {start.failure}"
                self.say(f"spawn {number}/{rounds} {side.name}: {shown}")

    async def idle_memory(self, servers: int) -> None:
        """Memory of so many idle servers of each side, the other side having none: shared pages would count less."""
        for side in self.sides:
            names = [user.name for user in side.users[:servers]]
            started = [name for name in names if (await side.hub.start(name)).seconds is not None]
            await asyncio.sleep(SETTLE)
            found = [memory.of_processes(memory.server_processes(name)) for name in started]
            self.results[side.name].memory.extend(found)
            await asyncio.gather(*(side.hub.stop(name) for name in names), return_exceptions=True)
            shown = ", ".join(f"{one.pss / 2**20:.0f} MiB" for one in found)
            self.say(f"idle servers, {side.name}: PSS {shown}")

    async def crowds(self, rounds: int, users: int) -> None:
        """From the login page to the first cell, all at once, while a stranger looks at the login page."""
        for number in range(rounds):
            for side in self._order(number):
                accounts = [Account(user.name, user.password) for user in side.users[-users:]]
                came = await crowd(side.target(), accounts, side.small_profile)
                self.results[side.name].crowd.append(came)
                last = f"{came.times('cell')[-1]:.1f} s" if came.served else "-"
                page = f"{percentile(came.login_page, 0.95):.2f} s" if came.login_page else "-"
                self.say(
                    f"crowd of {users}, {side.name}: {len(came.served)} served, the last after {last}; "
                    f"login page meanwhile, p95 {page}"
                )

    async def users_at_once(self, rounds: int, users: int) -> None:
        """All at once, with default time limits."""
        for number in range(rounds):
            for side in self._order(number):
                names = [user.name for user in side.users[:users]]
                load = os.getloadavg()[0]
                started = await side.hub.start_together(names, WATCHER)
                seconds = sorted(start.seconds for start in started.values() if start.seconds is not None)
                round_ = Together(
                    succeeded=len(seconds),
                    asked=len(names),
                    wall=seconds[-1] if seconds else None,
                    seconds=seconds,
                    failures=sorted({start.failure for start in started.values() if start.seconds is None}),
                    load_before=load,
                )
                results = self.results[side.name]
                results.together.append(round_)
                wall = f"{round_.wall:.1f} s" if round_.wall is not None else "-"
                self.say(f"{len(names)} at once, {side.name}: {round_.succeeded} succeeded, wall {wall}")
                await asyncio.gather(*(side.hub.stop(name) for name in names), return_exceptions=True)

    async def clusters(self, python: Path, rounds: int) -> None:
        """Clusters with two workers, asked for from beside a running server; the first of each side is not counted."""
        async with contextlib.AsyncExitStack() as stack:
            clients = {}
            for side in self.sides:
                name = side.users[0].name
                start = await side.hub.start(name)
                if start.seconds is None:
                    raise TidehubError(f"{side.name}: no server for the Dask measurement: {start.failure}")
                stack.push_async_callback(_quietly, side.hub.stop(name))
                clients[side.name] = await stack.enter_async_context(_dask_client(side, name, python))
            for number in range(rounds + 1):
                for side in self._order(number):
                    await self._one_cluster(side, clients[side.name], number, rounds)

    async def _one_cluster(self, side: Side, ask: Ask, number: int, rounds: int) -> None:
        results = self.results[side.name]
        answer = await ask()
        if "failure" in answer:
            results.cluster_failures.append(answer["failure"])
            self.say(f"cluster {number}/{rounds} {side.name}: {answer['failure']}")
            return
        if number:
            results.cluster.append(answer)
        self.say(f"cluster {number}/{rounds} {side.name}: {answer['total']:.2f} s")

    def _order(self, number: int) -> list[Side]:
        return self.sides if number % 2 == 0 else self.sides[::-1]


Ask = Callable[[], Awaitable[dict[str, Any]]]


@asynccontextmanager
async def _dask_client(side: Side, name: str, python: Path) -> AsyncIterator[Ask]:
    """A Dask client with the Dask settings and the token of `name`'s running notebook server."""
    servers = sorted(memory.server_processes(name))
    if not servers:
        raise TidehubError(f"{side.name}: the notebook server of {name} was not found among the processes")
    environment = memory.environment_of(servers[0])
    told = {key: value for key, value in environment.items() if key.startswith(("DASK_", "JUPYTERHUB_"))}
    child = await asyncio.create_subprocess_exec(
        str(python),
        str(DASK_CLIENT),
        env=clean_environment(told),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=(side.programs.logs / f"{side.name}-dask-client.log").open("ab"),
    )
    assert child.stdin and child.stdout
    output, given = child.stdout, child.stdin
    hung = False

    async def answer() -> dict[str, Any]:
        nonlocal hung
        if hung:
            return {"failure": "the client hung before"}
        try:
            line = await asyncio.wait_for(output.readline(), CLUSTER_PATIENCE)
        except TimeoutError:
            hung = True
            return {"failure": f"the client hung for {CLUSTER_PATIENCE:.0f} s"}
        if not line:
            return {"failure": f"the client ended: {side.programs.tail(f'{side.name}-dask-client', 1)}"}
        found: dict[str, Any] = json.loads(line)
        return found

    async def ask() -> dict[str, Any]:
        if child.returncode is None:
            given.write(b"\n")
        return await answer()

    try:
        if "failure" in (ready := await answer()):
            raise TidehubError(f"{side.name}: {ready['failure']}")
        yield ask
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


async def _quietly(work: Awaitable[Any]) -> None:
    with contextlib.suppress(TidehubError):
        await work
