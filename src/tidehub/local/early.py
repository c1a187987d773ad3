"""What `tidehub up` refuses before anything is set up, where the first step would be half a minute of downloads.

`bootstrap/enter.py` asks with the standard library alone: there is no parser of command lines yet, and none of YAML. So
only what is wrong whatever the site says is found here, by the same functions that `up` asks again later; the words of
the command line that are wrong in themselves are left to `up`, which knows all of them.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidehub.errors import UsageError
from tidehub.local.front.ports import listen_on
from tidehub.local.places import Places
from tidehub.local.software.layout import default_root
from tidehub.local.software.own import refuse_closed
from tidehub.local.supervisor.last_up import refuse_to_guess
from tidehub.local.supervisor.state import held_by_another
from tidehub.site.reading.files import text_of

VALUES = ("--state", "--port", "--site", "--set", "--accept-missing")
"""The options of `up` that take a value; all others are flags."""
DEFAULT_PORT = 8000
"""`machine.port` where nothing names one."""
_HIGHEST_PORT = 65535


@dataclass(frozen=True)
class Words:
    """What was typed after `up`, as far as it counts here."""

    options: Mapping[str, str]
    flags: frozenset[str]
    file: str | None

    @classmethod
    def of(cls, typed: Sequence[str]) -> Words:
        left, options, flags, files = list(typed), {}, set(), []
        while left:
            word = left.pop(0)
            if word == "--":
                files += left
                break
            name, equals, value = word.partition("=")
            if name in VALUES and (equals or left):
                options[name] = value if equals else left.pop(0)
            elif word.startswith("-"):
                flags.add(word)
            else:
                files.append(word)
        return cls(options, frozenset(flags), files[0] if files else None)


def refuse(typed: Sequence[str], environ: Mapping[str, str] = os.environ) -> None:
    """Raises `TidehubError` for what `up` with these words cannot do here. Makes nothing."""
    words = Words.of(typed)
    if words.flags & {"--help", "-h"}:
        return
    port = _port(words.options.get("--port"))
    places = Places.of(words.options.get("--state"))
    with contextlib.suppress(PermissionError):  # another user's, as is said below
        if places.exists and held_by_another(places.lock):
            return  # it is changed, and keeps what it has
    named = words.options.get("--site") or words.file or environ.get("TIDEHUB_SITE") or None
    here = None if "--built-in" in words.flags else named or _here()
    text = "" if here is None else text_of(Path(here), here)
    if here is None and "--built-in" not in words.flags:
        refuse_to_guess(places)
    places.require_usable()
    refuse_closed(default_root(environ), itself=False)
    if port is None and not places.exists and "port" not in text:
        port = DEFAULT_PORT
    if port is not None and _on_loopback(words, text, environ):
        listen_on("127.0.0.1", port).close()


def _on_loopback(words: Words, text: str, environ: Mapping[str, str]) -> bool:
    """Whether the platform will certainly listen on 127.0.0.1, as it does where nothing names another address."""
    if "--demo-login-on-public-address" in words.flags:
        return False
    if "--demo-login" in words.flags:
        return True
    changed = "--set" in words.options or any(name.startswith("TIDEHUB__MACHINE") for name in environ)
    return not changed and "address" not in text and "preset" not in text


def _here() -> str | None:
    return "tidehub.yaml" if Path("tidehub.yaml").exists() else None


def _port(given: str | None) -> int | None:
    if given is None:
        return None
    if not re.fullmatch(r"[0-9]{1,5}", given) or int(given) > _HIGHEST_PORT:
        raise UsageError(
            f"--port {given!r} is not a port",
            expected=f"a whole number from 0 to {_HIGHEST_PORT}; 0 is any free port",
        )
    return int(given)
