"""Starts a notebook server as `jupyterhub-singleuser` does, with less work on the way.

Run as a plain file by the Python of a profile's environment, so it imports nothing of tidehub. Three things
cost most of a plain start: the IRI grammar that jsonschema loads and no server start uses, garbage
collections while thousands of objects are made that all stay, and a Node.js process that JupyterLab asks for
the package registry of builds. The first two are put off, the third is left out: users cannot write to the
environment, so nothing is ever built in it.
"""

from __future__ import annotations

import functools
import gc
import importlib
import importlib.util
import os
import sys
from types import ModuleType
from typing import Any

GRAMMAR = "rfc3987_syntax"


def put_off_grammar() -> None:
    """Let `import rfc3987_syntax` build its grammar (more than a second) when a value is checked, not before.

    jsonschema 4.26 imports it for `format: iri` alone, at its own import.
    """
    if GRAMMAR in sys.modules or importlib.util.find_spec(GRAMMAR) is None:
        return
    stand_in = ModuleType(GRAMMAR)

    def real() -> ModuleType:
        if sys.modules.get(GRAMMAR) is stand_in:
            del sys.modules[GRAMMAR]
        return importlib.import_module(GRAMMAR)

    def is_valid_syntax(term: str, value: str) -> bool:
        return bool(real().is_valid_syntax(term, value))

    def other(name: str) -> Any:
        if name.startswith("__"):  # the import system asks for these; they are no use of the grammar
            raise AttributeError(name)
        return getattr(real(), name)

    stand_in.is_valid_syntax = is_valid_syntax  # type: ignore[attr-defined]
    stand_in.__getattr__ = other  # type: ignore[method-assign]
    sys.modules[GRAMMAR] = stand_in


def ask_no_node() -> None:
    """Let JupyterLab take its default package registry, as it does on a machine without Node.js.

    jupyterlab 4.6 runs `node yarn.js config` while `jupyterlab.labapp` is imported, where a `node` is on
    PATH.
    """
    try:
        from jupyterlab import commands
    except ImportError:
        return
    if hasattr(commands, "_yarn_config"):
        commands._yarn_config = lambda logger: {"yarn config": {}, "npm config": {}}


def collect_garbage_once_started() -> None:
    """Keep the collector off until the server starts to serve; what exists by then is never looked at again."""
    try:
        from jupyter_server.serverapp import ServerApp
    except ImportError:
        gc.enable()
        return
    serve = ServerApp.start

    @functools.wraps(serve)
    def started(self: Any) -> None:
        gc.freeze()
        gc.enable()
        serve(self)

    ServerApp.start = started


def use_own_packages() -> str:
    """Let kernels and extensions find what the user installed; returns what is wrong with that, or ""."""
    import own_packages  # type: ignore[import-not-found]  # beside this file, where a server runs it

    return str(own_packages.use())


def main() -> None:
    gc.disable()
    if problem := use_own_packages():
        print(f"tidehub: {problem}", file=sys.stderr)
    put_off_grammar()
    ask_no_node()
    sys.argv[0] = os.path.join(sys.prefix, "bin", "jupyterhub-singleuser")  # noqa: PTH118  # pathlib costs an import
    from jupyterhub import singleuser

    collect_garbage_once_started()
    sys.exit(singleuser.main())


if __name__ == "__main__":
    main()
