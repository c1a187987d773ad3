"""What is in a packaged chart, and what is refused to be one."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path

import pytest
from chart_making import crd, hub_files, metadata, packed, parent_files

from tidehub.charts import archive
from tidehub.charts.archive import open_chart
from tidehub.errors import TidehubError


def at(folder: Path, data: bytes) -> Path:
    path = folder / "chart-1.0.0.tgz"
    path.write_bytes(data)
    return path


def test_a_chart_says_what_it_is(tmp_path: Path) -> None:
    chart = open_chart(at(tmp_path, packed(hub_files("hub/"))))
    assert (chart.metadata.name, chart.metadata.version) == ("hub", "1.2.3")
    assert (chart.metadata.app_version, chart.metadata.kube_version) == ("5.5", ">=1.28.0-0")
    assert chart.values["size"] == 3
    assert chart.schema is not None and chart.schema["required"] == ["size"]
    assert chart.crd_groups == ("example.org",)


def test_charts_inside_are_found_packed_or_not(tmp_path: Path) -> None:
    chart = open_chart(at(tmp_path, packed(parent_files())))
    assert sorted(each.metadata.name for each in chart.subcharts) == ["hub", "op"]
    operator = chart.subchart("op")
    assert operator and chart.key_of(operator) == "dask"
    assert [each.condition for each in chart.metadata.dependencies] == [None, "x.y"]
    assert "charts/hub/values.yaml" not in chart.files
    assert len(chart.crds) == 1, "the same CRD twice is one CRD"


def test_a_directory_is_a_chart_too(tmp_path: Path) -> None:
    for path, text in hub_files("hub/").items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(str(text))
    assert open_chart(tmp_path / "hub").crd_groups == ("example.org",)


def test_crds_keep_what_other_yaml_readers_trip_over(tmp_path: Path) -> None:
    text = (
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: a.b}\n"
        "spec: {group: b, enum: [=, on, 2026-03-01, 1:20, 0o7]}\n"
    )
    files = {"c/Chart.yaml": metadata("c"), "c/crds/x.yaml": text, "c/crds/readme.txt": "not: [yaml"}
    (found,) = open_chart(at(tmp_path, packed(files))).crds
    assert found["spec"]["enum"] == ["=", "on", "2026-03-01", "1:20", "0o7"]


def link(name: str, target: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"<html>log in</html>", "not a whole archive"),
        (gzip.compress(b"not a tar" * 100), "not a whole archive"),
        (packed(hub_files("hub/"))[:-40], "not a whole archive"),
        (packed({"hub/../../etc/passwd": "x"}), "a path outside"),
        (packed({"/etc/passwd": "x"}), "a path outside"),
        (packed(hub_files("hub/"), link("hub/secret", "/etc/shadow")), "not a file"),
        (packed({"hub/Chart.yaml": metadata("hub"), "other/x": ""}), "does not hold one directory"),
        (packed({"hub/values.yaml": "a: 1"}), "no Chart.yaml"),
        (packed({"hub/Chart.yaml": "name: [hub"}), "Chart.yaml cannot be read"),
        (
            packed({"hub/Chart.yaml": metadata("hub"), "hub/charts/x.tgz": "no archive"}),
            "not a whole archive",
        ),
        (packed({"hub/Chart.yaml": "- a list"}), "Chart.yaml cannot be read"),
    ],
)
def test_what_is_no_chart_is_refused_with_its_place(tmp_path: Path, data: bytes, says: str) -> None:
    path = at(tmp_path, data)
    with pytest.raises(TidehubError, match=says) as caught:
        open_chart(path)
    assert caught.value.where and caught.value.where.file == str(path)


def test_a_bomb_ends_at_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = packed({"hub/Chart.yaml": metadata("hub"), "hub/x": bytes(300_000)})
    assert len(bomb) < 3_000
    monkeypatch.setattr(archive, "LARGEST_ALL", 100_000)
    with pytest.raises(TidehubError, match="unpacks to more than"):
        open_chart(at(tmp_path, bomb))
    monkeypatch.undo()
    monkeypatch.setattr(archive, "LARGEST_FILE", 1_000)
    with pytest.raises(TidehubError, match="larger than"):
        open_chart(at(tmp_path, bomb))
    monkeypatch.undo()
    monkeypatch.setattr(archive, "MOST_FILES", 1)
    with pytest.raises(TidehubError, match="more than 1 files"):
        open_chart(at(tmp_path, bomb))


def test_damage_inside_is_an_error_and_no_traceback(tmp_path: Path) -> None:
    files = {
        "c/Chart.yaml": metadata("c"),
        "c/values.schema.json": "{",
        "c/crds/x.yaml": "a: [",
        "c/values.yaml": "]",
    }
    chart = open_chart(at(tmp_path, packed(files)))
    for read in ("schema", "crds", "values"):
        with pytest.raises(TidehubError):
            getattr(chart, read)


def test_nested_bombs_end_too(tmp_path: Path) -> None:
    inner = packed({"a/Chart.yaml": metadata("a"), "a/crds/x.yaml": crd("a", "b")})
    for _ in range(12):
        inner = packed({"a/Chart.yaml": metadata("a"), "a/charts/a-1.tgz": inner})
    with pytest.raises(TidehubError, match="nested too deep"):
        open_chart(at(tmp_path, inner))
