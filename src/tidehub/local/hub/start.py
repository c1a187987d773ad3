"""Starts the hub as `python -m jupyterhub` does, with less work on the way.

Two things cost two thirds of what `import jupyterhub.app` takes; `tuned_singleuser` says which.
"""

from __future__ import annotations

import gc
from typing import Any

from tidehub.listening import inherited, inside_name
from tidehub.local.notebook_side.tuned_singleuser import put_off_grammar


def listen_on_inherited() -> None:
    """Have the hub's server accept on the socket that the supervisor gave, if it gave one.

    JupyterHub 5.5 (app.py, `start`) can only listen by itself: `http_server.listen(port, address=ip)`. Its server
    class is a `Configurable` of tornado, made to be replaced.
    """
    found = inherited("hub")
    if found is None:
        return
    held, inside = found, inherited(inside_name("hub"))
    from tornado.httpserver import HTTPServer

    class InheritingServer(HTTPServer):
        def listen(self, port: int, address: str | None = None, *rest: Any, **more: Any) -> None:
            if held.getsockname()[:2] == (address, port):
                self.add_socket(held)
                if inside is not None:
                    self.add_socket(inside)
            else:
                super().listen(port, address, *rest, **more)

    HTTPServer.configure(InheritingServer)


def main() -> None:
    """Run JupyterHub with the arguments of the command line."""
    gc.disable()
    put_off_grammar()
    from tidehub.local.hub.app import TidehubHub

    listen_on_inherited()
    gc.freeze()
    gc.enable()
    TidehubHub.launch_instance()


if __name__ == "__main__":
    main()
