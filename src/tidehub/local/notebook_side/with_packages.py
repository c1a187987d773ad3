"""Runs Python with the packages that its user installed, as a kernel does: `python with_packages.py ARGUMENTS`.

For schedulers and workers of the user's clusters, which unpickle what the notebook sends. Runs as the user.
"""

from __future__ import annotations

import os
import sys

import own_packages  # type: ignore[import-not-found]  # beside this file


def main() -> None:
    python = own_packages.python_with_packages()
    root = own_packages.environment_root()
    if python != sys.executable:
        place = own_packages.environment_root(python)
        os.environ["PATH"] = own_packages.search_path(place, root, os.environ.get("PATH", ""))
    os.execv(python, [python, *sys.argv[1:]])


if __name__ == "__main__":
    main()
