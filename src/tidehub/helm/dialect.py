"""Where Helm 3 and 4 differ, in one table.

Read in the sources of 3.18, 3.19, 3.22, 4.0, 4.2 and 4.3; run with 3.19, 4.0 and 4.2.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Dialect:
    """Options of one major version, by what they mean."""

    wait: tuple[str, ...]
    """Wait for the objects to be ready, by watching."""
    no_wait: tuple[str, ...]
    """Wait for hooks alone."""
    write: tuple[str, ...]
    """How objects are written by upgrade and rollback, so that the chart's word counts in the fields that it names.

    Helm 3 merges three ways and overwrites. Helm 4 applies on the server; without force, a field that somebody once
    set by hand stops a deployment half-way. `--server-side=true` and not `auto`: after a Helm 3 release that would
    mean client-side, with which `--force-conflicts` is refused.
    """
    wait_gone: tuple[str, ...]
    """`uninstall` returns when the objects are gone."""
    list_all: tuple[str, ...]
    """`list` shows releases in every state; Helm 4 always does."""


DIALECTS = {
    3: Dialect(wait=("--wait",), no_wait=(), write=(), wait_gone=("--wait",), list_all=("--all",)),
    4: Dialect(
        wait=("--wait=watcher",),
        no_wait=(),  # its default; 4.0 has no word for it
        write=("--server-side=true", "--force-conflicts"),
        wait_gone=("--wait=watcher",),
        list_all=(),
    ),
}
"""By major version."""
