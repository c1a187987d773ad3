"""Ranges of Kubernetes versions. The expectations were taken from Masterminds/semver 3.5.0, which Helm uses."""

from __future__ import annotations

import pytest

from tidehub.charts.kube_version import check_kube_version


@pytest.mark.parametrize(
    ("wanted", "version", "fits"),
    [
        (">=1.28.0-0", "v1.28.0", True),
        (">=1.28.0-0", "1.27.9", False),
        (">=1.28.0-0", "v1.34.1-gke.100", True),
        (">=1.28.0", "v1.34.1-gke.100", False),
        (">=1.28.0-0", "v1.28.0+k3s1", True),
        (">=1.28.0-0 <1.35", "v1.34.1-gke.100", True),
        (">= 1.28.0-0, < 1.35.0-0", "1.35.0", False),
        (">=1.16.0-0,!=1.28.0", "1.28.0", False),
        (">=1.16.0-0,!=1.28.0", "1.28.1", True),
        ("<1.20 || >=1.28.0-0", "1.19.16", True),
        ("<1.20 || >=1.28.0-0", "1.25.0", False),
        ("1.20 - 1.30", "1.30.9", True),
        ("1.20 - 1.30", "1.31.0", False),
        ("~1.28.3", "1.28.9", True),
        ("~1.28.3", "1.29.0", False),
        ("~1", "1.99.0", True),
        ("^1.28", "1.99.0", True),
        ("^1.28", "2.0.0", False),
        ("^0.3.1", "0.3.9", True),
        ("^0.3.1", "0.4.0", False),
        ("1.28.x", "1.28.7", True),
        ("1.28", "1.29.0", False),
        (">1.28", "1.28.7", False),
        (">1.28", "1.29.0", True),
        ("<=1.28", "1.28.7", True),
        ("*", "1.34.4", True),
        (">=1.28.0-alpha.2", "1.28.0-alpha.10", True),
        (None, "1.0.0", True),
        ("", "1.0.0", True),
    ],
)
def test_a_range_takes_what_helm_takes(wanted: str | None, version: str, fits: bool) -> None:
    assert check_kube_version(wanted, version) is fits


@pytest.mark.parametrize(
    ("wanted", "version"), [(">=one", "1.2.3"), (">=1.2", "newest"), ("1.2 ||", "1.2.3")]
)
def test_nonsense_is_no_answer(wanted: str, version: str) -> None:
    with pytest.raises(ValueError):
        check_kube_version(wanted, version)
