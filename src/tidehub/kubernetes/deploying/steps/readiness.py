"""The last look: a request through the public address, where it answers."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tidehub import program
from tidehub.errors import TidehubError
from tidehub.kubernetes.cluster.port import ClusterProblem
from tidehub.kubernetes.deploying.ending import pause
from tidehub.kubernetes.deploying.observed import condition, name_of
from tidehub.kubernetes.deploying.running import Work

PATIENCE = 45.0
"""Seconds that an ingress controller may take to follow a change."""
SILENCE = 6.0
"""Seconds after which an address that does not answer is left to `tidehub check`."""

Answer = tuple[Literal["well", "wrong", "silent"], str]
Ask = Callable[[str], Answer]


class WrongAnswer(TidehubError):
    """The public address answers, and not as a hub does."""


@dataclass(frozen=True)
class Readiness:
    """Asks the hub for its health by its public address."""

    address: str
    """With base path, ending in `/`."""
    after: tuple[str, ...]
    """Steps after which there is something to look at."""
    ask: Ask | None = None
    name: str = "check"
    title: str = "Public address"

    def needed(self, work: Work) -> bool:
        """Whether anything was changed by this operation: otherwise the address is not asked."""
        journal = work.record.journal
        if journal is None or journal.finished or not work.options.check:
            return False
        return any(entry.state == "done" and entry.step in self.after for entry in journal.entries)

    def run(self, work: Work) -> str:
        """Raises `WrongAnswer` where it keeps answering wrongly; an address that is silent is noted."""
        ask = self.ask or ask_address
        url = f"{self.address}hub/health"
        began = time.monotonic()
        while True:
            state, said = ask(url)
            waited = time.monotonic() - began
            if state == "well":
                return "answers"
            if state == "silent" and waited > SILENCE:
                work.notes.append(
                    f"{self.address} does not answer from here ({said}); when it should, "
                    f"`{program.command('check')}` goes "
                    "a user's path through it"
                )
                return "does not answer from here"
            if state == "wrong" and waited > PATIENCE:
                if (issuing := _issuing(work)) and "certificate" in said:
                    work.notes.append(
                        f"cert-manager still issues {issuing}: until then {self.address} shows another certificate; "
                        f"`{program.command('check')}` looks again"
                    )
                    return "its certificate is not issued yet"
                raise WrongAnswer(
                    f"{self.address} answers, but not as the hub does: {said}",
                    expected=f"status 200 at {url}",
                    fix=f"everything is deployed; `{program.command('preflight')}` looks at the exposure "
                    "(IngressClass, name, "
                    "certificate), and --no-check leaves this out",
                )
            work.ensure()
            pause(min(2.0, work.options.poll))


def _issuing(work: Work) -> str:
    """The certificate that cert-manager has not issued yet, with what it says; empty where there is none."""
    try:
        found = work.cluster.find("cert-manager.io/v1", "Certificate", work.namespace)
    except ClusterProblem:
        return ""
    for one in found:
        ready = condition(one, "Ready") or {}
        if ready.get("status") != "True":
            said = " ".join(str(ready.get("message") or "").split())
            return f"the certificate {name_of(one)}" + (f" ({said})" if said else "")
    return ""


def ask_address(url: str) -> Answer:
    """One request, with the certificates that this machine trusts."""
    import httpx

    try:
        found = httpx.get(url, timeout=5, follow_redirects=True)
    except httpx.ConnectError as error:
        if isinstance(error.__context__, ssl.SSLError) or "certificate" in str(error).lower():
            return "wrong", f"its certificate is not trusted ({error})"
        return "silent", str(error) or "no connection"
    except httpx.HTTPError as error:
        return "silent", str(error) or type(error).__name__
    return ("well", "") if found.status_code == 200 else ("wrong", f"status {found.status_code}")
