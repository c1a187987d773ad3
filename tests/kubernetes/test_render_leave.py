"""Whoever leaves takes the folder and does: the README's own commands install the platform that `tidehub plan` knows.

Where kubectl is installed its lines are run as they stand; elsewhere the test applies the files that they name.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from installed_render import established
from local_cluster import LocalCluster
from readme_commands import run_section
from rendered_sites import site_folder

from tidehub.kubernetes.planning.plan import plan
from tidehub.kubernetes.planning.words import lines
from tidehub.kubernetes.rendering.check import RenderError
from tidehub.kubernetes.rendering.content import files
from tidehub.kubernetes.rendering.folder import write_folder
from tidehub.kubernetes.session import Session, open_session

pytestmark = pytest.mark.parametrize("helm_program", [4], indirect=True, ids=["helm4"])


@pytest.fixture
def left(
    cluster: LocalCluster, namespace: str, helm_program: Path, charts_dir: Path, tmp_path: Path
) -> Iterator[Session]:
    """ProtoCoast, to be installed in a namespace of the test's own."""
    if not isinstance(cluster, LocalCluster):
        pytest.skip("CRDs of a given cluster stay as they are")
    cluster.storage_class("csi-cinder-sc-delete")
    session = _open(cluster, namespace, helm_program, charts_dir, tmp_path)
    yield session
    for release in session.helm.list(namespace):
        session.helm.uninstall(release.name, namespace, timeout=60)


def _open(
    cluster: LocalCluster, namespace: str, helm: Path, charts: Path, directory: Path, **settings: object
) -> Session:
    return open_session(
        site_folder(directory / "site", "protocoast"),
        tuple({"kubernetes.namespace": namespace, **settings}.items()),
        cluster.kubeconfig,
        None,
        charts,
        offline=True,
        environ={**os.environ, "TIDEHUB_HELM": str(helm)},
        say=lambda line: None,
    )


@pytest.mark.parametrize("tool", ["kubectl", "the API"])
def test_the_folders_commands_install_what_plan_expects(
    left: Session, cluster: LocalCluster, helm_program: Path, charts_dir: Path, tmp_path: Path, tool: str
) -> None:
    if tool == "kubectl" and shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    rendered = left.render()
    folder = tmp_path / "folder"
    write_folder(folder, files(rendered, with_secrets=True, with_charts=True))
    namespace = rendered.platform.namespace
    run_section(
        folder,
        "Install, and upgrade",
        kubeconfig=cluster.kubeconfig,
        helm=helm_program,
        namespace=namespace,
        kubectl=tool == "kubectl",
    )
    for crd in rendered.crds:
        assert established(cluster.api, crd)
    # Asked anew: what the cluster serves is read once, and these kinds came since.
    again = _open(cluster, namespace, helm_program, charts_dir, tmp_path)
    after = plan(again.render(), again.connected, again.helm)
    assert after.empty, "\n".join(lines(after))


def test_a_kind_that_the_cluster_does_not_serve(
    left: Session, cluster: LocalCluster, namespace: str, helm_program: Path, charts_dir: Path, tmp_path: Path
) -> None:
    """Offline a Gateway may be; here nobody defined one."""
    session = _open(
        cluster,
        namespace,
        helm_program,
        charts_dir,
        tmp_path / "gateway",
        **{"kubernetes.exposure": {"kind": "gateway-api", "class": "envoy"}},
    )
    with pytest.raises(RenderError, match="does not serve") as caught:
        session.render()
    assert {flaw.obj.kind for flaw in caught.value.flaws if flaw.obj} == {"Gateway", "HTTPRoute"}
    assert session.render(checked=False).objects
