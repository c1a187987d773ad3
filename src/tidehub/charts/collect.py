"""Fills a directory for `--charts`: every chart that a release set knows, verified, for a machine without a network.

python -m tidehub.charts.collect DIRECTORY [RELEASE_SET]
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from tidehub.charts.fetch import ChartStore, write_whole
from tidehub.charts.lock import ChartLock, chart_lock
from tidehub.errors import TidehubError, UsageError
from tidehub.release_sets import DEFAULT


def collect(directory: Path, store: ChartStore, lock: ChartLock, say: Callable[[str], None]) -> None:
    """Writes each chart as NAME-VERSION.tgz. Raises `TidehubError` at the first that is not to be had.

    An archive whose digest the release set does not know is taken as it comes, and said; `deploy` pins it then.
    """
    for each in lock.charts:
        found = store.get(each.name, each.version, each.sha256)
        write_whole(directory / f"{each.name}-{each.version}.tgz", found.path.read_bytes())
        known = "" if each.sha256 else " (a digest that this release set does not know)"
        say(f"{each.name} {each.version}: sha256 {found.sha256}{known}")


def main(arguments: list[str]) -> int:
    """The command. 0 when everything is there."""
    try:
        if not 1 <= len(arguments) <= 2 or arguments[0].startswith("-"):
            raise UsageError(
                "say where to", expected="python -m tidehub.charts.collect DIRECTORY [RELEASE_SET]"
            )
        release_set = arguments[1] if len(arguments) == 2 else DEFAULT
        collect(Path(arguments[0]), ChartStore(), chart_lock(release_set), print)
    except TidehubError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
