"""`tidehub up` on a platform that runs, and `tidehub reload`: find what differs, say it, have the supervisor do it.

Whatever can fail for the new site is done here first, in this process: reading, sizes, addresses, software. Only then
is the supervisor asked, to restart some parts by itself or to become this tidehub's `up`. It goes on when this process
is interrupted; the same command again finds what is left to do.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidehub.errors import TidehubError
from tidehub.local.changes import Plan, Served, plan
from tidehub.local.front.ports import PortTaken, listen_on
from tidehub.local.hub.fixed_at_start import Started
from tidehub.local.hub.started import started_servers
from tidehub.local.machine import refuse_unsupported
from tidehub.local.places import Places, command
from tidehub.local.platform import served
from tidehub.local.preparation import bring_software, fitted, front_door_of, keys_of, site_of
from tidehub.local.room import require_room
from tidehub.local.running import running_settings
from tidehub.local.software import own, pruning
from tidehub.local.software.layout import default_root
from tidehub.local.supervisor.conversation import NoAnswer, ask, talk
from tidehub.local.supervisor.detach import DAEMON
from tidehub.local.supervisor.last_up import up_again
from tidehub.local.supervisor.platform import Say, UpOptions
from tidehub.local.supervisor.state import Answer, holder
from tidehub.local.supervisor.status import platform_status
from tidehub.program import CHECKOUT
from tidehub.site.model import Site
from tidehub.system.processes import start_ticks

_POLL = 0.2
_VARIABLES = ("TIDEHUB__", "TIDEHUB_SOFTWARE", "TIDEHUB_PYTHON", CHECKOUT)
"""Of this process' environment, what the program that goes on needs: keys of the site, and where software lies."""


@dataclass(frozen=True)
class Applied:
    """What was to be done, and which parts were restarted."""

    plan: Plan
    parts: tuple[str, ...]
    pid: int
    address: str

    def to_json(self) -> dict[str, Any]:
        return {
            **self.plan.to_json(),
            "restarted": list(self.parts),
            "pid": self.pid,
            "address": self.address,
        }


@dataclass(frozen=True)
class Running:
    """A platform that runs and can be asked to change."""

    places: Places
    pid: int
    serves: Served

    @classmethod
    def on(cls, places: Places) -> Running | None:
        """None where no supervisor has the state. Raises `TidehubError` for one that cannot be changed now."""
        pid = holder(places.lock) if places.exists else None
        if pid is None:
            return None
        try:
            answer = ask(places.control, pid, {"do": "serves"})
            if answer.get("ok") is False:
                raise KeyError("it comes from an earlier version of tidehub")
            if answer.get("phase") != "running" or answer.get("changing"):
                raise _busy(places, pid)
            found = answer.get("serves")
            return cls(places, pid, Served.from_json(found if isinstance(found, dict) else {}))
        except (KeyError, TypeError) as error:
            raise TidehubError(
                f"the platform in {places.state} (process {pid}) does not say what it serves: {error}",
                expected="one that was started by a tidehub which can change it",
                fix=f"run: {command(places.state, 'down', '--keep')}; then {command(places.state, 'up')} with all "
                "its options: users' servers and clusters go on",
            ) from error
        except (ConnectionError, TimeoutError):
            raise _busy(places, pid) from None

    def apply(self, given: UpOptions, say: Say) -> Applied:
        """Make it serve what the options say; those that are not given stay. Raises `TidehubError`, with nothing
        changed, when that cannot be served.
        """
        # Before anything is stopped that could not be started again, or half of the parts are told what is new.
        require_room(self.places)
        options = given.over(UpOptions.from_json(self.serves.options))
        site = site_of(options)
        refuse_unsupported(site)
        front, door = front_door_of(site, options)
        # One that is taken is the platform's own, or told when it has given that up.
        with contextlib.suppress(PortTaken):
            listen_on(front.listen, front.port).close()
        for warning in door.check():
            say.warn(warning)
        keys_of(self.places, site, options)
        with pruning.choosing(default_root()):
            return self._apply(fitted(site, options, say), options, say)

    def _apply(self, site: Site, options: UpOptions, say: Say) -> Applied:
        wanted = served(site, options, bring_software(site, say))
        status = platform_status(self.places)
        running = [str(one["id"]) for name in ("servers", "clusters") for one in _list(status, name)]
        present = [str(one["name"]) for one in _list(status, "parts")]
        found = plan(self.serves, wanted, running, present, self._started())
        if found.refused:
            raise TidehubError(
                "nothing is changed: " + "; ".join(found.refused),
                expected="a change that what runs can go on with",
                fix="have them ended, or stop and start everything: "
                f"{command(self.places.state, 'down')} && {up_again(self.places, options)}",
            )
        for line in found.lines():
            say.note(line)
        if found.whole:
            say.step("stopping the parts; users' servers and clusters go on")
            self._replace(wanted, options, say)
            status = platform_status(self.places)
            parts = tuple(str(one["name"]) for one in _list(status, "parts"))
        else:
            parts = self._change(wanted, found, say)
        return Applied(found, parts, self.pid, str(status.get("address", "")))

    def _started(self) -> Mapping[tuple[str, str], Started]:
        """Nothing where it cannot be known: then a change that concerns servers is taken to concern them all."""
        with contextlib.suppress(TidehubError):
            return started_servers(running_settings(self.places).database_url)
        return {}

    def _change(self, wanted: Served, found: Plan, say: Say) -> tuple[str, ...]:
        request = {"do": "apply", "serves": wanted.to_json(), "parts": list(found.parts)}
        for answer in self._ask(request, say):
            if answer.get("changed") is True:
                return tuple(str(name) for name in _list(answer, "parts"))
            if answer.get("changed") is False:
                raise TidehubError(
                    f"not changed, and rolled back: {answer.get('error')}",
                    fix=f"correct it and run the same command again; the log: {self.places.supervisor_log}",
                )
        raise self._gone()

    def _require(self, wanted: Served) -> None:
        """Raise `TidehubError` unless the program that came serves what it should, and not what was there before."""
        serves = ask(self.places.control, self.pid, {"do": "serves"}).get("serves")
        if not isinstance(serves, dict) or Served.from_json(serves) != wanted:
            raise TidehubError(
                f"not changed: {_last_words(self.places)}",
                expected="parts that start; the previous platform is served again, and nobody's work was ended",
                fix=f"correct it and run the same command again; the log: {self.places.supervisor_log}",
            )

    def _replace(self, wanted: Served, options: UpOptions, say: Say) -> None:
        request = {"do": "replace", "argv": _command(self.places, options), "env": _environment()}
        for _ in self._ask(request, say):
            pass
        # From here on the same process is this tidehub's `up`.
        said = ""
        while True:
            status = platform_status(self.places)
            if start_ticks(self.pid) is None:
                raise self._gone()
            if status["state"] == "running":
                self._require(wanted)
                return
            starting = [str(one["name"]) for one in _list(status, "parts") if one.get("state") == "starting"]
            step = f"starting {', '.join(starting)}" if starting else "starting"
            if step != said:
                said = step
                say.step(step)
            time.sleep(_POLL)

    def _ask(self, request: Mapping[str, object], say: Say) -> list[Answer]:
        answers = []
        try:
            for answer in talk(self.places.control, self.pid, request):
                if answer.get("ok") is False:
                    raise TidehubError(
                        f"nothing is changed: {answer.get('error')}", fix="run the same command again"
                    )
                if "said" in answer:
                    say.step(str(answer["said"]))
                answers.append(answer)
        except NoAnswer as error:
            raise TidehubError(
                f"the supervisor (process {self.pid}) has not answered for {error.seconds:.0f} s, and may yet"
                " change it",
                expected="users' servers and clusters to go on: nothing has ended them",
                fix=f"see what it does with: {command(self.places.state, 'status')}; then run this command again",
            ) from error
        except ConnectionError as error:
            raise self._gone() from error
        return answers

    def _gone(self) -> TidehubError:
        return TidehubError(
            f"the supervisor (process {self.pid}) ended before all was ready; {_last_words(self.places)}",
            expected="users' servers and clusters to go on: nothing has ended them",
            fix=f"look into {self.places.supervisor_log}, and run `{command(self.places.state, 'up')}` again, "
            "which takes them over",
        )


def _busy(places: Places, pid: int) -> TidehubError:
    return TidehubError(
        f"{places.state} is in use: tidehub is starting, changing or stopping it (process {pid})",
        expected="a platform that runs, or none",
        fix=f"see it with: {command(places.state, 'status')}; run this command again when that is over",
    )


def _command(places: Places, options: UpOptions) -> list[str]:
    checkout = own.checkout_program()
    program = [sys.executable, "-I", "-m", "tidehub"] if checkout is None else [str(checkout)]
    return [*program, "up", "--state", str(places.state), *options.words()]


def _environment() -> dict[str, str]:
    return {
        name: value for name, value in os.environ.items() if name.startswith(_VARIABLES) and name != DAEMON
    }


def _list(found: Mapping[str, object], name: str) -> list[Any]:
    value = found.get(name)
    return value if isinstance(value, list) else []


def _last_words(places: Places) -> str:
    """The last line of the supervisor's log that says why it was not started."""
    try:
        lines = places.supervisor_log.read_text(errors="replace").splitlines()[-60:]
    except OSError:
        return "its log cannot be read"
    found = (line for line in reversed(lines) if "not started" in line)
    return re.sub(r"^\S+Z ", "", next(found, "its log says nothing of it"))
