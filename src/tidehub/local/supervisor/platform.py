"""What the supervisor is told: the parts, how they are asked whether they work, and the platform that they are."""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tidehub.local.front.ports import listeners
from tidehub.local.secrets import Secret
from tidehub.local.supervisor.pace import Pace
from tidehub.saying import Say as Say


@dataclass(frozen=True)
class Ready:
    """The answer to "does this part work?": a successful request, or why not, in words for a user."""

    ok: bool
    why: str = ""


ANSWER_SECONDS = 10.0

Check = Callable[[], Awaitable[Ready]]
Hook = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Probe:
    """How a hung process is found after it was ready. Times in seconds.

    `check` asks the part itself, not through other parts: a proxy that is down must not kill the hub. Without
    one, `Component.ready` is asked. Nothing is counted while a part that it stands on (`after`) is not ready, or
    while the machine leaves the part no time; see `pace.py`.
    """

    check: Check | None = None
    interval: float = 3.0
    timeout: float = 3.0
    failures: int = 5

    def most(self, pace: Pace) -> int:
        """Failed probes after which a part is killed: a stopped process at once, one that works on later."""
        if pace is Pace.STOPPED:
            return min(2, self.failures)
        return self.failures * 2 if pace is Pace.WORKS else self.failures


@dataclass(frozen=True)
class Component:
    """One process under supervision. Times in seconds."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(repr=False)
    """The whole environment of the process: nothing is inherited."""
    ready: Check
    after: Sequence[str] = ()
    """Parts that must be ready before this one starts; it is stopped before them."""
    on_restart: Hook | None = None
    """Called when it is ready again after a restart, never at the first start."""
    before_start: Hook | None = None
    """Called before every start; what it raises counts as a failed start."""
    alongside: Hook | None = None
    """Work that goes on beside the process for as long as the platform runs (watching a certificate)."""
    uid: int | None = None
    gid: int | None = None
    groups: Sequence[str] = ()
    """Directories of the control groups that it joins."""
    capabilities: Sequence[int] = ()
    """Numbers of Linux capabilities kept across the change of uid (capabilities(7)), for instance 10."""
    sockets: Mapping[str, socket.socket] = field(default_factory=dict)
    """Sockets that listen for it, under the names by which it asks for them (`listening.inherited`)."""
    cwd: Path = Path("/")
    probe: Probe | None = Probe()
    start_timeout: float = 60.0
    """How long it may take to be ready."""
    stop_timeout: float = 10.0
    """How long it may take to end before it is killed."""

    def starts_otherwise(self, other: Component) -> bool:
        """Whether its process would be another one than `other`'s: program, environment, rights, sockets."""
        return self._start() != other._start()

    def _start(self) -> tuple[object, ...]:
        return (
            list(self.argv),
            dict(self.env),
            self.cwd,
            (self.uid, self.gid),
            list(self.groups),
            list(self.capabilities),
            {name: one.fileno() for name, one in self.sockets.items()},
        )


def http_check(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    unix_socket: Path | None = None,
    statuses: range = range(200, 300),
) -> Check:
    """A check that GETs `url` and wants a status in `statuses`. Redirects are not followed.

    Certificates are not verified: the question is whether our own part on this machine answers, and its
    certificate names the public host. So give a token in `headers` only with plain HTTP or a socket.
    """
    import httpx  # 0.1 s and 10 MiB, which the other parts that import this module need not pay

    if headers and url.startswith("https:"):
        raise ValueError("no secrets over a connection whose certificate is not verified")

    async def check() -> Ready:
        uds = None if unix_socket is None else str(unix_socket)
        transport = httpx.AsyncHTTPTransport(uds=uds, verify=False)
        try:
            async with httpx.AsyncClient(
                transport=transport, trust_env=False, timeout=ANSWER_SECONDS
            ) as client:
                answer = await client.get(url, headers=dict(headers or {}))
        except httpx.HTTPError as error:
            if _no_port_left(error):
                # A user has taken all those of this machine: no reason to restart the part.
                return Ready(True)
            return Ready(False, f"{url} does not answer: {error or type(error).__name__}")
        if answer.status_code in statuses:
            return Ready(True)
        return Ready(False, f"{url} answers {answer.status_code}")

    return check


def _no_port_left(error: BaseException | None) -> bool:
    """Whether the connection had no port of its own to begin from (EADDRNOTAVAIL of connect(2))."""
    while error is not None:
        if isinstance(error, OSError) and error.errno == errno.EADDRNOTAVAIL:
            return True
        error = error.__cause__ or error.__context__
    return False


def listened_by(uid: int | None, addresses: Sequence[str]) -> Check:
    """A check that what listens on all `addresses` (`IP:port`) was started by `uid` (None: ours).

    For a part that opens its ports itself: another user may have taken one while it was down. The kernel tells who
    made a socket (sock_diag(7)), however many there are.
    """
    wanted = os.geteuid() if uid is None else uid

    async def check() -> Ready:
        for one in addresses:
            host, _, port = one.rpartition(":")
            owners = set(listeners(int(port), host.strip("[]")).values())
            if not owners:
                return Ready(False, f"nothing listens on {one}")
            if owners != {wanted}:
                others = ", ".join(str(owner) for owner in sorted(owners - {wanted}))
                return Ready(False, f"{one} is taken by a process of uid {others}")
        return Ready(True)

    return check


class LoggedSay:
    """What should be known or acted on goes to the supervisor's log too: a detached platform has no terminal."""

    def __init__(self, say: Say, log: Callable[[str], None]) -> None:
        self._log = log
        self._said = say
        self.step = say.step
        self.done = say.done

    def note(self, text: str) -> None:
        self._log(text)
        self._said.note(text)

    def warn(self, text: str) -> None:
        self._log(f"warning: {text}")
        self._said.warn(text)


@dataclass(frozen=True)
class UpOptions:
    """The options of `tidehub up` that concern the platform."""

    site_file: Path | None = None
    port: int | None = None
    demo_login: bool = False
    demo_login_on_public_address: bool = False
    fit: bool = False
    settings: tuple[tuple[str, Any], ...] = ()
    """Keys of the site and the values that replace the file's (`--set`)."""

    def to_json(self) -> dict[str, Any]:
        """Plain values; see `from_json`."""
        return {
            **asdict(self),
            "site_file": None if self.site_file is None else str(self.site_file),
            "settings": [list(one) for one in self.settings],
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> UpOptions:
        """What `to_json` gave. Raises `TypeError` for something else."""
        file, settings = found.get("site_file"), found.get("settings", [])
        return cls(
            **{
                **found,
                "site_file": None if file is None else Path(file),
                "settings": tuple((str(key), value) for key, value in settings),
            }
        )

    def over(self, before: UpOptions) -> UpOptions:
        """These options where they are given, and those of before where they are not."""
        unset = vars(UpOptions())
        return replace(before, **{name: value for name, value in vars(self).items() if value != unset[name]})

    def words(self) -> list[str]:
        """The same on the command line of `tidehub up`."""
        flags = ("demo_login", "demo_login_on_public_address", "fit")
        return [
            *(["--site", str(self.site_file)] if self.site_file else ["--built-in"]),
            *(["--port", str(self.port)] if self.port is not None else []),
            *(f"--{name.replace('_', '-')}" for name in flags if getattr(self, name)),
            *(word for key, value in self.settings for word in ("--set", f"{key}={json.dumps(value)}")),
        ]


async def _observe_nothing() -> Mapping[str, object]:
    return {}


async def _nothing_to_stop(grace: float) -> None:
    return None


@dataclass(frozen=True)
class Platform:
    """One assembled platform."""

    components: Sequence[Component]
    address: str
    """Where users go, a URL."""
    gaps: Sequence[str] = ()
    """What this machine cannot enforce, one line each."""
    secrets: Sequence[Secret] = ()
    """Kept out of every log."""
    before_stop: Callable[[float], Awaitable[None]] = _nothing_to_stop
    """Ends users' servers and clusters within so many seconds, kills what is left; the parts still run.

    Called at every stop that a user asked for, not after a failed start. Called again with 0 when the
    user hurries. It must not need the hub: the parts may be down.
    """
    after_stop: Callable[[bool], None] = lambda nothing_runs: None
    """Called when all parts have ended, also after a failed start; true when nothing of the users runs any more."""
    observe: Callable[[], Awaitable[Mapping[str, object]]] = _observe_nothing
    """For `status`: JSON-able keys such as `servers` and `clusters`."""
    serves: Mapping[str, Any] = field(default_factory=dict)
    """What it serves, in JSON's types: `changes.Served`. Empty where it cannot be changed while it runs."""
    again: Callable[[Mapping[str, Any], Say], Platform] | None = None
    """Makes the same platform for something else to serve, while this one runs; called in another thread."""
    hand_over: Callable[[], None] = lambda: None
    """Called when the parts have ended, before this program becomes another one that goes on with the same state."""
    tidy: Callable[[], Sequence[str]] = lambda: ()
    """Removes what is of no use any more and says what that was; called in another thread, now and then."""
    closing_lines: Callable[[], Sequence[str]] = lambda: ()
    """What a user reads when all is ready: accounts with passwords, where the state lives, how to stop.

    It goes to the terminal only, never to a log.
    """


Prepare = Callable[[Say], Platform]
"""Makes the platform: brings software, renders configurations, raises `TidehubError`. May take minutes."""
