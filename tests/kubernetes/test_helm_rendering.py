"""Rendering by both helm programs: small charts of our own, and the real ones where they are. No cluster is asked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from standin_charts import RELEASES, StandinCharts
from tiny_chart import SECRET, tiny_chart

from tidehub.charts.archive import open_chart
from tidehub.charts.lock import chart_lock
from tidehub.charts.shape import check
from tidehub.helm import problems
from tidehub.helm.command_line import HelmCommandLine
from tidehub.helm.program import checked
from tidehub.kubernetes.objects import is_hook, read_manifest
from tidehub.secrets.secret import Secret


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_chart(tmp_path_factory.mktemp("chart") / "tiny")


@pytest.fixture(scope="module")
def offline(helm_program: Path) -> HelmCommandLine:
    return HelmCommandLine(checked(str(helm_program)))


def test_rendering(offline: HelmCommandLine, tiny: Path) -> None:
    text = offline.render(
        tiny, {"token": Secret(SECRET), "hook": "a"}, release="r", namespace="n", kube_version="v1.34.4"
    )
    objects = read_manifest(text)
    assert [each["kind"] for each in objects if is_hook(each)] == ["Job"]
    config = next(each for each in objects if each["kind"] == "ConfigMap")
    assert config["data"] == {"data": "one", "upgrade": "false", "found": "nothing"}
    assert SECRET in text
    again = offline.render(tiny, {}, release="r", namespace="n", kube_version="1.34.4", is_upgrade=True)
    assert (
        next(each for each in read_manifest(again) if each["kind"] == "ConfigMap")["data"]["upgrade"]
        == "true"
    )


def test_what_stops_rendering(offline: HelmCommandLine, tiny: Path, tmp_path: Path) -> None:
    def refused(
        values: Mapping[str, Any], chart: Path = tiny, kube_version: str = "1.34.4"
    ) -> problems.HelmProblem:
        with pytest.raises(problems.HelmProblem) as caught:
            offline.render(chart, values, release="r", namespace="n", kube_version=kube_version)
        return caught.value

    invalid = refused({"quiet": "loud"})
    assert isinstance(invalid, problems.ValuesInvalid)
    assert (invalid.chart, invalid.path) == ("tiny", "/quiet") and "got string, want integer" in str(invalid)
    failed = refused({"needs": "more"})
    assert isinstance(failed, problems.TemplateFailed)
    assert (
        failed.file == "tiny/templates/all.yaml"
        and failed.line == 31
        and "more must be said" in failed.message
    )
    old = refused({}, kube_version="1.24.17")
    assert isinstance(old, problems.KubeVersionMismatch) and old.wanted == ">=1.25.0-0"
    assert isinstance(refused({}, tmp_path / "none.tgz"), problems.ChartUnreadable)
    (tmp_path / "page.tgz").write_text("<html>")
    assert isinstance(refused({}, tmp_path / "page.tgz"), problems.ChartUnreadable)


@pytest.mark.parametrize(("name", "version"), RELEASES, ids=lambda part: part)
def test_the_stand_in_charts_render(
    offline: HelmCommandLine, standin_charts: StandinCharts, name: str, version: str
) -> None:
    chart = standin_charts.archive(name, version)
    text = offline.render(chart, {}, release=name, namespace="n", kube_version="1.34.4", include_crds=True)
    found = read_manifest(text)
    crds = [each for each in found if each["kind"] == "CustomResourceDefinition"]
    assert sorted(each["metadata"]["name"] for each in crds) == sorted(
        each["metadata"]["name"] for each in open_chart(chart).crds
    )
    assert "Deployment" in {each["kind"] for each in found}


def real_charts() -> list[tuple[str, str]]:
    return [(each.name, each.version) for each in chart_lock().charts]


@pytest.mark.parametrize(("name", "version"), real_charts(), ids=lambda part: part)
def test_the_real_charts_render_and_shape_agrees_with_helm(
    offline: HelmCommandLine, charts_dir: Path, name: str, version: str
) -> None:
    archive = charts_dir / f"{name}-{version}.tgz"
    if not archive.is_file():
        pytest.skip(f"{archive.name} is not in TIDEHUB_CHARTS")
    token = {"gateway": {"auth": {"type": "jupyterhub", "jupyterhub": {"apiToken": Secret("t" * 32)}}}}
    # Chart 1.2.0 is the last one that wants this token from its user.
    hub = {"proxy": {"secretToken": Secret("0" * 64)}}
    values: Mapping[str, Any] = {
        "daskhub": {"dask-gateway": token, "jupyterhub": hub}, "dask-gateway": token, "jupyterhub": hub,
    }.get(name, {})  # fmt: skip
    text = offline.render(
        archive, values, release=name, namespace="n", kube_version="1.34.4", include_crds=True,
        api_versions=["networking.k8s.io/v1/Ingress"],
    )  # fmt: skip
    chart = open_chart(archive)
    found = read_manifest(text)
    assert len(found) > 5
    crds = {each["metadata"]["name"] for each in found if each["kind"] == "CustomResourceDefinition"}
    assert crds == {each["metadata"]["name"] for each in chart.crds}
    assert check(chart, {}) == ()
    wrong: Mapping[str, Any] = {"daskhub": {"jupyterhub": {"hub": {"nonsense": 1}}}}.get(
        name, {"nonsense": 1}
    )
    complaints = check(chart, wrong)
    assert len(complaints) == 1
    if chart.schema is not None or chart.subcharts:
        with pytest.raises(problems.ValuesInvalid) as caught:
            offline.render(archive, wrong, release=name, namespace="n", kube_version="1.34.4")
        assert caught.value.found == ((complaints[0].chart, complaints[0].path, complaints[0].says),)
