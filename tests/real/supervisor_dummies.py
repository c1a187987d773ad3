"""Small real services and a small real platform for the supervisor's tests.

Run as a program (`python supervisor_dummies.py STATE [--detach] [...]`) it is `tidehub up` of such a platform.
"""

from __future__ import annotations

import argparse
import asyncio
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tidehub.local.supervisor.platform import Component, Probe, http_check

HERE = Path(__file__)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def two_free_ports() -> tuple[int, int]:
    """Different ones: both are held until both are known."""
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1]), int(other.getsockname()[1])


def environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONPATH": ":".join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}


def service(name: str, port: int, *arguments: str, probe: Probe | None = None, **more: object) -> Component:
    """A component that serves 200 on `port`; `arguments` are those of `serve` below."""
    return Component(
        name=name,
        argv=[sys.executable, str(HERE), "serve", str(port), *arguments],
        env={**environment(), "NAME": name},
        ready=http_check(f"http://127.0.0.1:{port}/"),
        probe=probe or Probe(interval=0.2, timeout=1.5, failures=2),
        **more,  # type: ignore[arg-type]
    )


def serve(arguments: argparse.Namespace) -> None:
    """Serve after `--delay` seconds; the other options are ways to be difficult."""
    if arguments.fail:
        print("starting up", flush=True)
        print(f"Error: {arguments.fail}", flush=True)
        sys.exit(3)
    if arguments.deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if arguments.orphan:
        # As a notebook server: of another session, started by a part that may be killed.
        orphan = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        Path(arguments.orphan).write_text(str(orphan.pid))
    if arguments.told:
        print(f"the word is {arguments.told}", flush=True)
    time.sleep(arguments.delay)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *values: object) -> None:
            pass

    if arguments.stopped:
        signal.signal(signal.SIGTERM, lambda *_: (note(arguments.stopped), os._exit(0)))
    http.server.HTTPServer(("127.0.0.1", arguments.port), Handler).serve_forever()


def note(path: str) -> None:
    with Path(path).open("a") as stream:
        stream.write(os.environ["NAME"] + "\n")


async def until(condition: Callable[[], object], patience: float = 20.0) -> None:
    """Wait for what another process does; fails the test after `patience` seconds."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def up(arguments: argparse.Namespace) -> int:
    """`tidehub up` of two services, through the same code as the command."""
    from tidehub.capacity.ledger import Ledger
    from tidehub.capacity.queue import Capacity
    from tidehub.cli.console import PlainSay, print_lines
    from tidehub.local.isolation.choose import SingleIsolation
    from tidehub.local.isolation.trees import Ground
    from tidehub.local.places import Places
    from tidehub.local.secrets import Secret
    from tidehub.local.supervisor.detach import detach
    from tidehub.local.supervisor.platform import Platform, Say
    from tidehub.local.supervisor.session import run
    from tidehub.local.users_on_machine import end_everybody

    places = Places.of(arguments.state).ensure(other_users=False)

    ground = Ground(places.private, places.homes, places.run, places.logs, places.log_pipes)
    ledger = Ledger(places.ledger, Capacity(2**30, 2.0, 4))
    ledger.resume()

    async def before_stop(grace: float) -> None:
        if arguments.table:
            await end_everybody(ledger, SingleIsolation(ground))(grace)
            return
        (places.state / "users-ended").write_text(f"{grace:g}")
        begun = time.monotonic()
        while time.monotonic() - begun < arguments.busy:
            pass  # it works, and has no time for words
        if arguments.slow_users and grace:
            await asyncio.sleep(1000)

    async def observe() -> dict[str, object]:
        return {"servers": [{"user": "alice", "server": "default"}]}

    def prepare(say: Say) -> Platform:
        say.step("preparing")
        time.sleep(arguments.prepare)
        extra = [part for part in (arguments.extra or "").split(" ") if part]
        return Platform(
            components=[
                service("first", arguments.port),
                service("second", arguments.other_port, *extra, after=["first"]),
            ],
            address=f"http://127.0.0.1:{arguments.port}/",
            gaps=["nothing is limited here"],
            secrets=[Secret("open-sesame")],
            before_stop=before_stop,
            observe=observe,
            closing_lines=lambda: ["all is ready", f"state {places.state}"],
        )

    def body(say: Say, ready: Callable[[Platform], None]) -> int:
        def is_ready(platform: Platform) -> None:
            ready(platform)
            if arguments.hang:
                asyncio.get_running_loop().call_soon(time.sleep, 1000)

        return run(places, prepare, say, is_ready)

    from tidehub.errors import TidehubError

    try:
        if arguments.detach:
            print_lines(detach(body, PlainSay(), places.supervisor_log))
            return 0
        return body(PlainSay(), lambda platform: print_lines(platform.closing_lines()))
    except TidehubError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


class Up:
    """A supervisor in a process of its own, and what it said."""

    def __init__(
        self, state: Path, ports: tuple[int, int], *arguments: str, under: Sequence[str] = ()
    ) -> None:
        self.state = state
        self.process = subprocess.Popen(
            [*under, sys.executable, str(HERE), "up", str(state), *map(str, ports), *arguments],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
        )
        self.said: list[str] = []

    def until_said(self, text: str) -> None:
        """Read its output up to a line that holds `text`."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line.rstrip("\n"))
            if text in line:
                return
        raise AssertionError(f"{text!r} was not said, but: {self.said}")

    def end(self, timeout: float = 30) -> int:
        rest, _ = self.process.communicate(timeout=timeout)
        self.said += rest.splitlines()
        return self.process.returncode

    def parts(self) -> dict[str, int]:
        stored = json.loads((self.state / "private" / "platform.json").read_text())
        return {part["name"]: part["pid"] for part in stored["parts"]}


def main() -> int:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    serving = commands.add_parser("serve")
    serving.add_argument("port", type=int)
    serving.add_argument("--delay", type=float, default=0.0)
    serving.add_argument("--deaf", action="store_true")
    for option in ("--fail", "--orphan", "--told", "--stopped"):
        serving.add_argument(option)
    serving.set_defaults(do=serve)
    upping = commands.add_parser("up")
    upping.add_argument("state", type=Path)
    upping.add_argument("port", type=int)
    upping.add_argument("other_port", type=int)
    upping.add_argument("--detach", action="store_true")
    upping.add_argument("--table", action="store_true", help="end what the table of launches says")
    upping.add_argument("--hang", action="store_true")
    upping.add_argument("--busy", type=float, default=0.0)
    upping.add_argument("--slow-users", action="store_true")
    upping.add_argument("--prepare", type=float, default=0.0)
    upping.add_argument("--extra")
    upping.set_defaults(do=up)
    arguments = parser.parse_args()
    return arguments.do(arguments) or 0


if __name__ == "__main__":
    sys.exit(main())
