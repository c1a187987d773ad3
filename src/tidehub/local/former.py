"""What a platform served before another program took its place: written down, and served again when that fails.

`python -m tidehub.local.former STATE` is `tidehub up` of what `former.json` says. The supervisor that hands over writes
it; the program that comes becomes this one, of the former tidehub, when it cannot bring its parts up. So a tidehub or a
site that does not start here costs a short break, and not the platform.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from tidehub.errors import TidehubError
from tidehub.local.places import Places
from tidehub.local.platform import assemble
from tidehub.local.supervisor.changing import read_former
from tidehub.local.supervisor.platform import Platform, Say, UpOptions
from tidehub.local.supervisor.session import run
from tidehub.saying import Quiet
from tidehub.site.model import Site
from tidehub.system.notify import READY, STOPPING, notify, status


def serve(places: Places) -> int:
    """Run the platform that is written down until it is asked to stop; returns the exit code as `session.run` does."""
    serves = read_former(places)

    def work(say: Say) -> Platform:
        site, options = Site.model_validate(serves["site"]), UpOptions.from_json(serves["options"])
        # The disk may have become full since: what ran until now needs no more room than it had.
        return assemble(site, places, options, say, with_room=False)

    def ready(platform: Platform) -> None:
        notify(READY, status(f"serves {platform.address}, as before"))

    # There may be no terminal any more; what is said goes to the supervisor's log all the same.
    return run(places, work, Quiet(), ready)


def main() -> None:
    """Exit as `tidehub up` does."""
    os.umask(0o077)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = serve(Places.of(Path(sys.argv[1])))
    except TidehubError as error:
        print(f"tidehub: {error}", file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        code = 0
    notify(STOPPING)
    sys.exit(code)


if __name__ == "__main__":
    main()
