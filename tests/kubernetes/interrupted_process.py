"""One operation in a process of its own, which kills itself where it is told to.

    python interrupted_process.py JSON

The JSON names cluster, namespace, charts and helm, the operation, values, and the moments that were tried already. At
the first other one the process ends as by `kill -9`: the operation tells its watcher, so nothing in the product knows.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent


def main(given: dict[str, Any]) -> int:
    from deployed_site import CURRENT, SiteOnCluster

    from tidehub.cli.changing import changing
    from tidehub.errors import TidehubError
    from tidehub.kubernetes.deploying.deploy import deploy
    from tidehub.kubernetes.deploying.rollback import rollback
    from tidehub.kubernetes.deploying.uninstall import Also, uninstall

    site = SiteOnCluster(
        Path(given["kubeconfig"]), given["namespace"], Path(given["charts"]), Path(given["program"])
    )
    site.values = given["values"]
    site.objects = tuple(given["objects"])
    tried = [tuple(one) for one in given["tried"]]
    charts: Sequence[tuple[str, str]] = [one for one in CURRENT if one[0] in given["releases"]]

    def watch(step: str, moment: str) -> None:
        if given["kills"] and moment in ("begins", "worked") and (step, moment) not in tried:
            print("killed at", json.dumps([step, moment]), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

    operation = given["operation"]
    try:
        with changing(False):
            work = site.work(operation)
            if operation == "deploy":
                deploy(site.rendered(charts), work, watch=watch)
            elif operation == "rollback":
                rollback(work, watch=watch)
            else:
                uninstall(work, Also(homes=True, database=True, crds=False), watch=watch)
    except TidehubError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.path[:0] = [str(CHECKOUT / "src"), str(CHECKOUT / "tests" / "cluster"), str(HERE)]
    sys.exit(main(json.loads(sys.argv[1])))
