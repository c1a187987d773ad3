"""Runs inside the guest: users of the platform sign in with their demo accounts and do what a test says.

    hub_user.py STATE_DIRECTORY STEPS

STEPS is JSON, a list of steps. A step says what each of some users does, all at the same time:
`{"bob": ["start", "minimal"], "olga": ["cell", "print(6 * 7)"]}`. Printed is the JSON list of what came of it, with the
same names. Servers that nobody stops go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from real_platform import RealPlatform
from real_user import User, login

from tidehub.checks import server
from tidehub.checks.kernel import Kernel
from tidehub.checks.report import PhaseFailed


class Session:
    """One signed-in user and the kernel of their cells."""

    def __init__(self, user: User) -> None:
        self.user = user
        self.kernel: Kernel | None = None

    async def do(self, kind: str, what: str = "") -> Any:
        """One action and what came of it; `failed` where it failed."""
        try:
            return await getattr(self, f"do_{kind}")(what)
        except PhaseFailed as failed:
            self.kernel = None
            return {"failed": failed.why, "evidence": list(failed.evidence)}

    async def do_start(self, profile: str) -> dict[str, Any]:
        """A server that runs already, from a step or a story before, stays."""
        if (await self.user.record()).get("server"):
            await server.open_lab(self.user.journey)
        else:
            await self.user.start(profile or None)
        return {"started": self.user.base}

    async def do_stop(self, _: str) -> dict[str, Any]:
        await self.user.stop()
        return {}

    async def do_cell(self, code: str) -> dict[str, Any]:
        """A cell in the kernel of the cells before, in this story or an earlier one; in a new one after that died."""
        if self.kernel is None:
            user = self.user
            listed = (await user.call("GET", f"{user.base}api/kernels")).json()
            idle = [str(kernel["id"]) for kernel in listed if kernel["execution_state"] == "idle"]
            self.kernel = await (Kernel.connect(user.browser, user.base, idle[0]) if idle else user.kernel())
        output = await self.kernel.run(code)
        return {"stdout": output.stdout, "stderr": output.stderr, "error": output.error}

    async def do_record(self, _: str) -> dict[str, Any]:
        return await self.user.record()


async def main(state: str, steps: list[dict[str, list[str]]]) -> list[dict[str, Any]]:
    platform = RealPlatform(Path(state))
    names = sorted({name for step in steps for name in step})
    async with contextlib.AsyncExitStack() as logins:
        sessions = {name: Session(await logins.enter_async_context(login(platform, name))) for name in names}
        came_of_it = []
        for step in steps:
            results = await asyncio.gather(*(sessions[name].do(*words) for name, words in step.items()))
            came_of_it.append(dict(zip(step, results, strict=True)))
        for session in sessions.values():
            session.user.journey.server_started = False
    return came_of_it


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))))
