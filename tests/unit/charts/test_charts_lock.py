"""The list of charts against the rest of tidehub, and against the real archives where they are."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import pytest

from tidehub.charts.archive import open_chart
from tidehub.charts.lock import LockedChart, chart_lock, read
from tidehub.charts.repositories import PUBLISHED
from tidehub.errors import TidehubError
from tidehub.release_sets import names, release
from tidehub.site import charts


@pytest.fixture(params=names())
def chosen(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def entries(release_set: str) -> list[LockedChart]:
    return list(chart_lock(release_set).charts)


def test_every_chart_that_is_installed_by_default_is_known(chosen: str) -> None:
    for name, version in release(chosen).versions.charts.items():
        assert chart_lock(chosen).find(name, version), (name, version)
    assert chart_lock(chosen).find("daskhub", charts.NEWEST_DASKHUB)
    for name in PUBLISHED:
        assert chart_lock(chosen).versions(name), name


def test_it_agrees_with_what_the_site_knows_of_charts(chosen: str) -> None:
    for each in entries(chosen):
        if each.name == "jupyterhub":
            assert charts.JUPYTERHUB[each.version] == each.app_version
        elif each.name == "dask-gateway":
            assert each.version in charts.DASK_GATEWAY and each.app_version == each.version
        elif each.name == "daskhub":
            assert charts.DASKHUB[each.version] == (
                each.contains["jupyterhub"],
                each.contains["dask-gateway"],
            )
            for name, version in each.contains.items():
                assert chart_lock(chosen).find(name, version), (name, version)


def test_no_version_is_listed_twice_and_the_newest_comes_first(chosen: str) -> None:
    for name in PUBLISHED:
        versions = [charts.parts(version) for version in chart_lock(chosen).versions(name)]
        assert versions == sorted(set(versions), reverse=True)


def test_what_a_meta_chart_contains_defines_the_same_kinds(chosen: str) -> None:
    lock = chart_lock(chosen)
    for each in entries(chosen):
        inside = {group for pair in each.contains.items() for group in (lock.find(*pair) or each).crd_groups}
        assert not each.contains or set(each.crd_groups) == inside


def test_the_archives_are_as_stated(chosen: str) -> None:
    named = os.environ.get("TIDEHUB_CHARTS")
    if not named:
        pytest.skip("TIDEHUB_CHARTS names no directory of upstream charts")
    compared = 0
    for each in entries(chosen):
        path = Path(named) / f"{each.name}-{each.version}.tgz"
        if not path.is_file():
            continue
        chart = open_chart(path)
        assert (chart.metadata.name, chart.metadata.version) == (each.name, each.version)
        assert chart.metadata.app_version == each.app_version
        assert chart.metadata.kube_version == each.kube_version
        assert set(chart.crd_groups) == set(each.crd_groups), path
        assert {sub.metadata.name: sub.metadata.version for sub in chart.subcharts} == dict(each.contains)
        if each.sha256:
            assert hashlib.sha256(path.read_bytes()).hexdigest() == each.sha256, path
        compared += 1
    assert compared


@pytest.mark.parametrize("text", ["jupyterhub: 4", "jupyterhub: [{version: 1}]", "{", "", "- a"])
def test_a_damaged_list_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "charts.yaml").write_text(text)
    with pytest.raises(TidehubError, match="damaged") as caught:
        read(tmp_path / "charts.yaml")
    assert caught.value.where and "charts.yaml" in caught.value.where.file


def test_a_digest_must_look_like_one(tmp_path: Path) -> None:
    entry = "{version: 1, app_version: 1, kube_version: null, crd_groups: [], sha256: abc}"
    (tmp_path / "charts.yaml").write_text(f"hub: [{entry}]")
    with pytest.raises(TidehubError, match="damaged"):
        read(tmp_path / "charts.yaml")


def test_the_page_lists_every_version() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "reference" / "charts.md").read_text()
    listed = {
        (cells[0].strip(), version)
        for line in page.splitlines()
        if len(cells := line.strip("|").split("|")) == 3
        for version in re.findall(r"\d+\.\d+\.\d+", cells[1])
    }
    assert listed == {(each.name, each.version) for each in chart_lock().charts}
