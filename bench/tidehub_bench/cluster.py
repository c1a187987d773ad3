"""The project's own test cluster with the site on it, for what needs an API server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tidehub.charts.documents import read_all
from tidehub.errors import TidehubError, UsageError

HERE = Path(__file__).resolve().parents[2] / "tests" / "cluster"
STORAGE = "csi-cinder-sc-delete"
"""The storage class that the example site names."""


@contextmanager
def started(directory: Path) -> Iterator[Any]:
    """A running cluster in `directory`. Raises `UsageError` where its programs were not built."""
    sys.path.append(str(HERE))
    import cluster_programs  # type: ignore[import-not-found, unused-ignore]
    from local_cluster import LocalCluster  # type: ignore[import-not-found, unused-ignore]

    programs = cluster_programs.find()
    if programs is None:
        raise UsageError("the test cluster's programs were not built", fix="run tests/cluster/prepare first")
    directory.mkdir()
    with LocalCluster(directory, programs) as cluster:
        cluster.storage_class(STORAGE)
        yield cluster


def install(cluster: Any, folder: Path, helm: str, releases: list[tuple[str, str, list[str]]]) -> None:
    """What `tidehub render` wrote to `folder`, on the cluster: definitions, objects, releases."""
    namespace = read_all((folder / "objects" / "00-namespace.yaml").read_text())[0]["metadata"]["name"]
    for path in [*sorted((folder / "objects").iterdir()), *sorted((folder / "crds").iterdir())]:
        cluster.apply(read_all(path.read_text()), namespace)
    for name, chart, values in releases:
        argv = [helm, "upgrade", name, chart, "--install", "--namespace", namespace, "--skip-crds", *values]
        environ = {"KUBECONFIG": str(cluster.kubeconfig), "HOME": str(folder.parent), "PATH": "/usr/bin:/bin"}
        ended = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=300)
        if ended.returncode:
            raise TidehubError(f"helm upgrade {name} failed: {ended.stderr.strip().splitlines()[-1]}")
