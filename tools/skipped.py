"""What a run of the tests left out: one table, with the one command that gets each. `tests/conftest.py` writes the
reasons down, `tools/run_tests.py` prints the table at the end."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

VARIABLE = "TIDEHUB_SKIPPED"
"""Names the file of reasons, one a line."""
PULL = "helm pull ... -d charts && TIDEHUB_CHARTS=$PWD/charts ./test tests/kubernetes   (CONTRIBUTING.md)"
REMEDIES = (
    # What is wanted, by what the tests say, and the command.
    (r"no node can run", "a node with real containers", "tests/node/prepare && ./test node"),
    (r"guest|disks?\b.*prepare", "machines of their own", "tests/guest/prepare && ./test guest"),
    (r"no schema of", "schemas of the published charts", PULL),
    (r"TIDEHUB_CHARTS|upstream charts", "the published charts", PULL),
    (r"TIDEHUB_OLD_DASK_GATEWAY|oldest dask-gateway", "the oldest gateway", "TIDEHUB_OLD_DASK_GATEWAY=PYTHON ./test"),
    (r"project's own cluster|given cluster|whole cluster", "a cluster of the tests' own", "./test tests/kubernetes"),
    (r"no helm|no cluster|tests/cluster/prepare", "a cluster", "tests/cluster/prepare && ./test tests/kubernetes"),
    (r"Chromium", "a browser", "apt-get install chromium && ./test tests/real/test_browser.py"),
    (r"bubblewrap|bwrap", "sandboxes", "apt-get install bubblewrap && ./test tests/real"),
    (r"PostgreSQL|postgres|initdb", "a database server", "apt-get install postgresql && ./test tests/unit/backup"),
    (r"\b(age|sops)\b.*not installed", "encrypted secrets", "apt-get install age && ./test tests/unit/secrets"),
    (r"\b(zsh|fish)\b.*not installed", "other shells", "apt-get install zsh fish && ./test tests/unit/cli"),
    (r"control group", "control groups that may be written", "./test guest   (its machines have them)"),
    (r"only root|needs root|as root only|run as root", "root", "sudo ./test"),
    (r"reads everything|ordinary user|not root", "an ordinary user", "./test user   (not as root)"),
    (r"network|cannot be installed here", "the network", "./test   (with a connection to the package indexes)"),
)  # fmt: skip
NOTHING = "this machine cannot"


def kinds(reasons: Iterable[str]) -> Mapping[tuple[str, str], Counter[str]]:
    """The reasons below what they want and the command that gets it; what none gets stands below its own words."""
    found: dict[tuple[str, str], Counter[str]] = {}
    for reason in reasons:
        wanted = next((row[1:] for row in REMEDIES if re.search(row[0], reason)), (reason[:60], NOTHING))
        found.setdefault(wanted, Counter())[reason] += 1
    return found


def table(reasons: Iterable[str]) -> list[str]:
    """The lines to print; none where nothing was skipped."""
    rows = sorted(
        ((sum(each.values()), *wanted) for wanted, each in kinds(reasons).items()),
        key=lambda row: (row[2] == NOTHING, -row[0]),
    )
    if not rows:
        return []
    width = max(len(row[1]) for row in rows)
    return [
        f"== {sum(row[0] for row in rows)} tests were skipped for want of",
        *(f"{count:>6}  {what:<{width}}  {command}" for count, what, command in rows),
    ]
