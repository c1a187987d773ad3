"""Where `check` finds pods and logs: a cluster that was named has to be there, another one may be missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidehub.cli import check
from tidehub.errors import TidehubError
from tidehub.site.reading.load import load_preset


def test_a_kubeconfig_that_was_named_has_to_be_there(tmp_path: Path) -> None:
    site = load_preset("protocoast").site
    with pytest.raises(TidehubError, match="does not exist"):
        check._cluster_logs(site, tmp_path / "none", None)


def test_without_a_cluster_the_path_is_checked_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    assert check._cluster_logs(load_preset("protocoast").site, None, None) is None
    assert "Pods and logs are not read: KUBECONFIG names no file" in capsys.readouterr().err
    assert check._cluster_logs(load_preset("laptop").site, None, None) is None
