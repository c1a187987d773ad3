"""A platform inside a guest: the words of its commands, what it says of itself, and its users."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from guest_machine import TIDEHUB, Done, Guest, said

UP_SECONDS = 480
"""The longest that a start may take: on an idle machine it takes 35 s, and the machine of the tests is busy."""

SMALL_CLUSTERS = (
    *("--set", "dask.worker.memory.default='512 MiB'"),
    *("--set", "dask.scheduler.memory='384 MiB'"),
)
"""Of a guest's memory 1.9 GiB are the users': `check` starts a server, a scheduler and two workers there."""

WITHOUT_CLUSTERS = ("--set", "dask.engine=none")
"""A third of a start's work less, for stories in which nobody computes with Dask."""


def share_software(guest: Guest) -> None:
    """Root makes the software that ordinary users share: what comes from the checkout is not on the disk."""
    guest.run("root", f"{TIDEHUB} --version", timeout=UP_SECONDS)
    guest.python("root", "make_software.py")


@dataclass(frozen=True)
class GuestPlatform:
    """The platform of one account of the guest, in the state directory `state`."""

    guest: Guest
    account: str
    state: str

    def command(self, *words: str, timeout: float = 120, check: bool = True) -> Done:
        """`tidehub WORDS --state ...` in a login of its own."""
        line, *rest = words
        command = f"{TIDEHUB} {line} --state {self.state} {' '.join(rest)}"
        return self.guest.run(self.account, command, timeout=timeout, check=check)

    def up(self, *words: str) -> Done:
        """`up --detach`: returns when it is ready, and fails with all that it said."""
        done = self.command("up", "--detach", *words, timeout=UP_SECONDS, check=False)
        assert done.returncode == 0, f"{said(done)}\n{self.logs()}"
        return done

    def down(self) -> Done:
        return self.command("down")

    def status(self) -> dict[str, Any]:
        """`status --json`, of what runs and of what does not."""
        done = self.command("status", "--json", check=False)
        assert done.stdout.startswith("{"), said(done)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def serves(self, *users: str) -> bool:
        """Whether it is healthy and the servers of exactly these users run."""
        now = self.status()
        return bool(now["healthy"]) and [line["id"].split(":")[1] for line in now["servers"]] == list(users)

    def limits_missing(self, *more: str) -> list[str]:
        """What its status, which must be healthy, says is not enforced of memory and CPU, and of what `more` names."""
        now = self.status()
        assert now["healthy"], now
        return [line for line in now["gaps"] if any(word in line for word in ("emory limit", "CPU", *more))]

    def is_healthy(self) -> bool:
        return self.command("status", check=False).returncode == 0

    def users(self, *steps: dict[str, list[str]], timeout: float = 240) -> list[dict[str, Any]]:
        """What came of the steps of users; see `inside/hub_user.py`. Nobody's step may fail."""
        results = self.tried(*steps, timeout=timeout)
        for step, result in zip(steps, results, strict=True):
            for name, words in step.items():
                assert "failed" not in result[name], f"{name}: {words}: {result[name]}"
                assert not result[name].get("error"), f"{name}: {words}: {result[name]}"
        return results

    def tried(self, *steps: dict[str, list[str]], timeout: float = 240) -> list[dict[str, Any]]:
        """What came of the steps of users, failures included."""
        found: list[dict[str, Any]] = self.guest.python(
            self.account, "hub_user.py", self.state, json.dumps(list(steps)), timeout=timeout
        )
        return found

    def processes(self) -> dict[int, str]:
        """The processes whose command line or control group names this platform: pid and command line."""
        listed = self.guest.run("root", f"pgrep --full --list-full -- '{self.state}/'", check=False).stdout
        found = (line.split(maxsplit=1) for line in listed.splitlines())
        return {int(pid): line for pid, line in found if "pgrep" not in line}

    def logs(self) -> str:
        """The ends of its logs."""
        return self.guest.run(
            "root", f"tail -n 25 $(find {self.state}/logs -name '*.log') 2>&1 | tail -n 300", check=False
        ).stdout
