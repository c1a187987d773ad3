"""What helm prints as JSON. Recorded from helm 3.19.5 and 4.2.4."""

from __future__ import annotations

import json

import pytest

from tidehub.helm import output
from tidehub.helm.engine import Revision
from tidehub.helm.problems import HelmProblem

CHART = {"name": "tiny", "version": "1.2.3", "appVersion": "9"}


def test_history() -> None:
    said = (
        '[{"revision":2,"updated":"2026-11-22T08:58:37.577420653Z","status":"pending-upgrade",'
        '"chart":"jupyterhub-4.0.0-0.dev",'
        '"app_version":"5.5","description":"Preparing upgrade"},'
        '{"revision":1,"status":"superseded","chart":"tiny-1.2.3",'
        '"app_version":"","description":"Install complete"}]'
    )
    first, second = output.revisions(said)
    assert first == Revision(1, "superseded", "tiny-1.2.3", "", "Install complete", "")
    assert second.pending and not first.pending
    record = output.record_of("hub", "site", second)
    assert (record.chart, record.chart_version, record.revision) == ("jupyterhub", "4.0.0-0.dev", 2)
    assert record.pending and record.description == "Preparing upgrade"


def test_list_in_the_words_of_both() -> None:
    entry = {
        "namespace": "site",
        "status": "failed",
        "chart": "dask-gateway-2026.3.0",
        "app_version": "2026.3.0",
    }
    said = json.dumps(
        [
            {**entry, "name": "z", "revision": "12", "updated": "2026-11-22 08:58:36.886358918 +0000 UTC"},
            {**entry, "name": "a", "revision": "1", "updated": "2026-11-22 09:58:36 +0100 CET"},
        ]
    )
    first, second = output.records(said)
    assert (first.name, second.name, second.revision) == ("a", "z", 12)
    assert second.updated == "2026-11-22T08:58:36.886358918Z" and first.updated == "2026-11-22T09:58:36+01:00"
    assert (first.chart, first.chart_version) == ("dask-gateway", "2026.3.0")
    assert output.records("[]") == () == output.records("null")


def test_upgrade_gives_manifest_and_hooks_as_template_does() -> None:
    said = json.dumps(
        {
            "name": "a", "namespace": "site", "version": 3, "config": {"token": "secret"},
            "info": {"status": "deployed", "last_deployed": "2026-11-22T08:58:36Z", "description": "Upgrade complete"},
            "manifest": "---\n# Source: tiny/templates/a.yaml\nkind: ConfigMap\n",
            "hooks": [
                {"path": "tiny/templates/b.yaml", "manifest": "\nkind: Job\n\n"},
                {"path": "tiny/templates/c.yaml", "manifest": "# Source: tiny/templates/c.yaml\nkind: Job\n"},
            ],
        }
    )  # fmt: skip
    record, manifest = output.applied(said, CHART)
    assert (record.chart, record.chart_version, record.app_version, record.revision) == (
        "tiny",
        "1.2.3",
        "9",
        3,
    )
    assert manifest == (
        "---\n# Source: tiny/templates/a.yaml\nkind: ConfigMap\n"
        "---\n# Source: tiny/templates/b.yaml\nkind: Job\n"
        "---\n# Source: tiny/templates/c.yaml\nkind: Job\n"
    )


@pytest.mark.parametrize("said", ["", "Happy Helming!", "{}", "[1]", '[{"revision": "x"}]', '{"info": 1}'])
def test_anything_else_is_a_problem_and_no_traceback(said: str) -> None:
    for read in (output.revisions, output.records, lambda text: output.applied(text, CHART)):
        if said == "{}" and read in (output.revisions, output.records):
            continue
        with pytest.raises(HelmProblem, match="does not understand"):
            read(said)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("dask-kubernetes-operator-2026.3.0", ("dask-kubernetes-operator", "2026.3.0")),
        ("jupyterhub-3.0.0-0.dev.git.6114.hc0d0b3b0", ("jupyterhub", "3.0.0-0.dev.git.6114.hc0d0b3b0")),
        ("python-2-charts-v1.0", ("python-2-charts", "v1.0")),
        ("odd", ("odd", "")),
    ],
)
def test_chart_names_end_where_versions_begin(text: str, parts: tuple[str, str]) -> None:
    assert output.chart_and_version(text) == parts
