"""`tidehub plan` of the example sites with the upstream charts on a real API server.

`TIDEHUB_CHARTS` names the folder of archives, as for `test_render_real_charts.py`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import installed_render
import pytest
from local_cluster import LocalCluster
from rendered_sites import MODELS, SECRETS, site_folder

from tidehub.kubernetes.planning.plan import plan
from tidehub.kubernetes.planning.words import lines, to_json
from tidehub.kubernetes.session import Session, open_session

pytestmark = pytest.mark.parametrize("helm_program", [4], indirect=True, ids=["helm4"])
NO_HOOKS = {"overrides.helm": {"jupyterhub": {"prePuller": {"hook": {"enabled": False}}}}}
"""The hook that pulls images waits for a program in a pod to end, and nothing runs in the pods here."""
Open = Callable[[str, Mapping[str, Any]], Session]


@pytest.fixture
def opened(
    cluster: LocalCluster, namespace: str, helm_program: Path, charts_dir: Path, tmp_path: Path
) -> Iterator[Open]:
    if not isinstance(cluster, LocalCluster):
        pytest.skip("storage classes of a given cluster are its own")
    cluster.storage_class("csi-cinder-sc-delete")
    sessions: list[Session] = []

    def open_(example: str, settings: Mapping[str, Any]) -> Session:
        session = open_session(
            site_folder(tmp_path / "site", example),
            tuple({**NO_HOOKS, **settings, "kubernetes.namespace": namespace}.items()),
            cluster.kubeconfig,
            None,
            charts_dir,
            offline=True,
            environ={**os.environ, "TIDEHUB_HELM": str(helm_program)},
            say=lambda line: None,
        )
        sessions.append(session)
        return session

    yield open_
    if sessions:
        for release in sessions[0].helm.list(namespace):
            sessions[0].helm.uninstall(release.name, namespace, timeout=60)


@pytest.mark.parametrize("name", ["protocoast", "protocoast, jupyterhub 3.3.8", "pangeo", "pangeo, 2024.1.1"])
def test_nothing_would_change_after_an_installation(opened: Open, cluster: LocalCluster, name: str) -> None:
    example, settings = MODELS[name]
    session = opened(example, settings)
    rendered = session.render()
    before = plan(rendered, session.connected, session.helm)
    assert not before.refusals, "\n".join(lines(before))
    installed_render.install(rendered, session.connected, session.helm, cluster.api)
    since = time.time()
    session = opened(example, settings)
    rendered = session.render()
    after = plan(rendered, session.connected, session.helm)
    assert after.empty and not after.drift, "\n".join(lines(after))
    assert cluster.writes(since) == []


def test_an_upgrade_from_the_older_charts_says_what_it_means(opened: Open, cluster: LocalCluster) -> None:
    before = opened(*MODELS["protocoast, jupyterhub 3.3.8"])
    installed_render.install(before.render(), before.connected, before.helm, cluster.api)
    after = opened(*MODELS["protocoast"])
    found = plan(after.render(), after.connected, after.helm)
    told = "\n".join(lines(found))
    assert not found.refusals, told
    what = [one.what for one in found.findings]
    assert "JupyterHub 5.5.0 changes the database of JupyterHub 4.1.6." in what
    assert (
        "The routes of the gateway (IngressRoute, Middleware) move from the group traefik.containo.us to traefik.io."
        in what
    )
    assert [one for one in what if one.startswith("The hub restarts because its image changes from ")]
    assert {one.name: one.action for one in found.releases} == {
        "jupyterhub": "upgrade",
        "dask-gateway": "upgrade",
    }
    assert not [value for value in SECRETS.values() if value in told + json.dumps(to_json(found))]
