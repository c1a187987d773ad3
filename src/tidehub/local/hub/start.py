"""Starts the hub as `python -m jupyterhub` does, with less work on the way.

Two things cost two thirds of what `import jupyterhub.app` takes; `tuned_singleuser` says which.
"""

from __future__ import annotations

import gc

from tidehub.local.hub.tuned_singleuser import put_off_grammar


def main() -> None:
    """Run JupyterHub with the arguments of the command line."""
    gc.disable()
    put_off_grammar()
    from tidehub.local.hub.app import TidehubHub

    gc.freeze()
    gc.enable()
    TidehubHub.launch_instance()


if __name__ == "__main__":
    main()
