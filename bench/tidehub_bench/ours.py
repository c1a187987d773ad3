"""Our side: `tidehub up` on a state of its own."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from pathlib import Path

from tidehub.checks.local_target import local_target
from tidehub.checks.target import Target
from tidehub.errors import TidehubError
from tidehub.identity.accounts import Account, AccountStore
from tidehub.identity.demo_accounts import USERS
from tidehub.identity.passwords import hash_password
from tidehub.local.places import Places
from tidehub.local.secrets import load_secrets
from tidehub.local.supervisor.state import holder
from tidehub_bench.hub_client import Hub, User
from tidehub_bench.processes import Programs, descendants
from tidehub_bench.side import Side, clean_environment, free_ports

STOP_PATIENCE = 60.0
MEMBER = USERS[0].username
"""The demo account whose entitlements the bench's users get: the site's rule admits it."""


class Ours(Side):
    """The built-in site with its embedded identity provider."""

    name = "tidehub"
    small_profile = "minimal"

    def __init__(self, programs: Programs, state: Path) -> None:
        super().__init__(programs)
        (port,) = free_ports(1)
        self.places = Places.of(state)
        self.address = f"http://127.0.0.1:{port}/"
        self.hub = Hub(self.address)
        self._port = port
        self._running: subprocess.Popen[bytes] | None = None

    async def prepare(self, run: str, users: int) -> None:
        await self.start()
        await self.stop()
        password = secrets.token_urlsafe(
            12
        )  # one for all, as on the plain side: each hash takes a third of a second
        hashed = hash_password(password)
        self.users = [User(name, password) for name in self.user_names(run, users)]
        with AccountStore.open(self._identity_state()) as store:
            member = store.get(MEMBER)
            if member is None:
                raise TidehubError(f"the built-in site has no demo account {MEMBER}")
            for user in self.users:
                store.add_hashed(
                    Account(
                        user.name,
                        user.name,
                        f"{user.name}@demo.example.org",
                        entitlements=member.entitlements,
                        affiliation=member.affiliation,
                        assurance=member.assurance,
                    ),
                    hashed,
                )

    def launch(self) -> None:
        env = clean_environment({})
        argv: list[str | Path] = [
            sys.executable,
            "-I",
            "-m",
            "tidehub",
            "up",
            "--state",
            self.places.state,
            "--port",
            str(self._port),
        ]
        self._running = self.programs.start("tidehub", argv, env=env, cwd=self.places.state.parent)

    def failed(self) -> str:
        if self._running is None or self._running.poll() is None:
            return ""
        return f"tidehub up ended with code {self._running.returncode}:\n{self.programs.tail('tidehub')}"

    def gateway_health(self) -> str:
        return f"{self._hub_settings()['gateway_address'].rstrip('/')}/api/health"

    def isolation(self) -> str:
        """How users' processes are kept apart here: root, bubblewrap or single."""
        return str(self._hub_settings()["isolation"])

    def target(self) -> Target:
        return local_target(self.places)

    def watcher_token(self) -> str:
        return load_secrets(self.places.secrets).operator_token.reveal()

    async def stop(self) -> None:
        if self._running is not None:
            below = descendants([self._running.pid])
            self.programs.stop(self._running, patience=STOP_PATIENCE)
            self._running = None
            self.programs.end(below)

    def clear(self) -> None:
        """Remove what a failed start may leave outside the state."""
        if self.places.exists:
            self.places.remove_run()

    def _identity_state(self) -> Path:
        return Path(json.loads(self.places.identity_config.read_text())["state_dir"])

    def _hub_settings(self) -> dict[str, str]:
        found: dict[str, str] = json.loads(self.places.hub_config.read_text())
        return found


def refuse_a_running_platform() -> None:
    """Raise `TidehubError` when this user's platform runs: it would take part in every number."""
    places = Places.of()
    pid = holder(places.lock) if places.exists else None
    if pid is not None:
        raise TidehubError(
            f"a platform runs in {places.state} (process {pid}), and would disturb the measurement",
            fix="stop it first with: tidehub down",
        )
