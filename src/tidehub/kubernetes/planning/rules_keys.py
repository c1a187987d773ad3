"""What a change of the hub's own secrets means for users. Pure; no value is told."""

from __future__ import annotations

import base64
from collections.abc import Iterator

from tidehub import program
from tidehub.kubernetes.planning.facts import Facts
from tidehub.kubernetes.planning.model import Finding

COOKIE = "hub.config.JupyterHub.cookie_secret"
CRYPT = "hub.config.CryptKeeper.keys"
"""Keys of the jupyterhub chart's Secret since its version 1.0."""


def findings(facts: Facts) -> Iterator[Finding]:
    """One for every secret whose change users notice."""
    for one in facts.of_kind("Secret"):
        for change in one.changes:
            if change.kind != "changed":
                continue
            if change.path == ("data", COOKIE):
                yield Finding(
                    "keys", "danger", "The hub's cookie secret changes.",
                    "Everybody is signed out; servers and Dask clusters go on.",
                    "to keep users signed in, give the hub the secret that it has, as hub_cookie_secret",
                    (one.subject.id,),
                )  # fmt: skip
            elif change.path == ("data", CRYPT) and not _keys(change.old) <= _keys(change.new):
                yield Finding(
                    "keys", "danger", "The hub can no longer read the login state that it has stored.",
                    "The key that encrypted it is not one of the new ones: users sign in again to get theirs back.",
                    f"keep the old key behind the new one (`{program.command('secrets', 'rotate')}` "
                    "does)", (one.subject.id,),
                )  # fmt: skip


def _keys(written: str) -> frozenset[str]:
    return frozenset(base64.b64decode(written).decode(errors="replace").split(";"))
