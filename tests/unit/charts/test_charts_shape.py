"""Values against the shape that a chart takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from chart_making import SCHEMA, hub_files, metadata, packed, parent_files

from tidehub.charts.archive import Chart, open_chart
from tidehub.charts.shape import Complaint, check, merged

SOURCES = str(Path(__file__).resolve().parents[3] / "src")


def chart(folder: Path, files: dict[str, str | bytes]) -> Chart:
    path = folder / "c.tgz"
    path.write_bytes(packed(files))
    return open_chart(path)


@pytest.fixture
def hub(tmp_path: Path) -> Chart:
    return chart(tmp_path, hub_files("hub/"))


@pytest.fixture
def meta(tmp_path: Path) -> Chart:
    return chart(tmp_path, parent_files())


def test_values_that_fit(hub: Chart, meta: Chart) -> None:
    assert check(hub, {}) == ()
    assert check(hub, {"hub": {"db": None}, "size": 7}) == ()
    assert check(
        meta, {"hub": {"size": 7}, "rbac": {"enabled": True}, "dask": {"anything": 1}, "global": {}}
    ) == (Complaint("op", "/anything", "is not a key of this chart, which ignores it"),)


@pytest.mark.parametrize(
    ("values", "complaints"),
    [
        ({"hub": {"dbb": 1}}, [("/hub", "additional properties 'dbb' not allowed")]),
        ({"gateway": {}, "size": "x"}, [("", "'gateway'"), ("/size", "got string, want integer")]),
        ({"hub": {"db": True}}, [("/hub/db", "got boolean, want string or null")]),
        ({"size": None}, [("", "missing properties 'size'")]),
    ],
)
def test_a_schema_refuses(hub: Chart, values: dict[str, Any], complaints: list[tuple[str, str]]) -> None:
    found = check(hub, values)
    assert [each.path for each in found] == [path for path, _ in complaints]
    for each, (_, says) in zip(found, complaints, strict=True):
        assert says in each.says and each.chart == "hub"


def test_a_refusal_never_repeats_the_value(hub: Chart) -> None:
    (found,) = check(hub, {"size": "s3cret-value"})
    assert "s3cret" not in found.says


def test_a_subchart_has_its_own_schema(meta: Chart) -> None:
    assert check(meta, {"hub": {"hub": {"x": 1}}}) == (
        Complaint("hub", "/hub", "additional properties 'x' not allowed"),
    )
    assert check(meta, {"hub": "no mapping"}) == (Complaint("meta", "/hub", "got string, want object"),)


def test_values_for_the_charts_inside_are_not_ignored_at_the_root(meta: Chart) -> None:
    """daskhub 2024.1.1 renders with them as if they were not there."""
    found = check(meta, {"size": 9, "unheard/of": 1})
    assert [each.path for each in found] == ["/size", "/unheard~1of"]
    assert "it belongs below hub" in found[0].says


def test_all_complaints_are_found(hub: Chart) -> None:
    assert [each.chart for each in check(hub, {"size": "x", "other": 1})] == ["hub", "hub"]
    assert not check(hub, {"size": 1})


def test_a_schema_that_is_none_is_the_charts_fault(tmp_path: Path) -> None:
    broken = {"c/Chart.yaml": metadata("c"), "c/values.schema.json": json.dumps({**SCHEMA, "type": 7})}
    with pytest.raises(Exception, match="not a schema"):
        check(chart(tmp_path, broken), {})


def test_the_library_loads_without_the_grammar_of_addresses() -> None:
    """That alone would take longer than a whole `render`."""
    probe = (
        "import sys; from tidehub.charts.json_schemas import validators; assert validators().Draft7Validator; "
        "assert 'lark' not in sys.modules and 'rfc3987_syntax' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", probe], env={"PYTHONPATH": SOURCES}).returncode == 0


def test_values_are_put_over_defaults_as_helm_does() -> None:
    defaults = {"a": {"b": 1, "c": 2}, "d": [1, 2], "e": 5}
    assert merged(defaults, {"a": {"b": None}, "d": [3], "e": None, "f": None}) == {
        "a": {"c": 2},
        "d": [3],
        "f": None,
    }
