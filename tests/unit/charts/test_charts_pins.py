"""Trust on first use: the first archive is pinned, another one later is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from chart_making import metadata, packed

from tidehub.charts.fetch import ChartStore
from tidehub.charts.lock import ChartLock, LockedChart
from tidehub.charts.pins import NAME, Pins, obtain
from tidehub.errors import TidehubError, UsageError

FIRST = packed({"jupyterhub/Chart.yaml": metadata("jupyterhub", "4.4.0")})
SECOND = packed({"jupyterhub/Chart.yaml": metadata("jupyterhub", "4.4.0", description="another")})
NOTHING = ChartLock(())


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> ChartStore:
    (tmp_path / "charts").mkdir()
    (tmp_path / "charts" / "jupyterhub-4.4.0.tgz").write_bytes(FIRST)
    return ChartStore(tmp_path / "cache", directory=tmp_path / "charts", offline=True)


def test_the_first_archive_is_pinned_and_said(tmp_path: Path, store: ChartStore) -> None:
    said: list[str] = []
    obtain(store, NOTHING, Pins.beside(tmp_path / "site.yaml"), "jupyterhub", "4.4.0", said.append)
    assert len(said) == 1 and digest(FIRST) in said[0] and str(tmp_path / NAME) in said[0]
    again = Pins.beside(tmp_path / "site.yaml")
    assert again.sha256("jupyterhub", "4.4.0") == digest(FIRST)
    obtain(store, NOTHING, again, "jupyterhub", "4.4.0", said.append)
    assert len(said) == 1


def test_another_archive_later_is_refused_naming_both(tmp_path: Path, store: ChartStore) -> None:
    pins = Pins(tmp_path / NAME)
    obtain(store, NOTHING, pins, "jupyterhub", "4.4.0")
    (tmp_path / "charts" / "jupyterhub-4.4.0.tgz").write_bytes(SECOND)
    with pytest.raises(TidehubError) as caught:
        obtain(store, NOTHING, Pins(tmp_path / NAME), "jupyterhub", "4.4.0")
    assert digest(FIRST) in str(caught.value) and digest(SECOND) in str(caught.value)
    assert Pins(tmp_path / NAME).sha256("jupyterhub", "4.4.0") == digest(FIRST)


def test_what_the_release_set_knows_is_not_pinned(tmp_path: Path, store: ChartStore) -> None:
    lock = ChartLock((LockedChart("jupyterhub", "4.4.0", digest(FIRST), "5.5.0", None),))
    obtain(store, lock, Pins(tmp_path / NAME), "jupyterhub", "4.4.0")
    assert not (tmp_path / NAME).exists()
    (tmp_path / "charts" / "jupyterhub-4.4.0.tgz").write_bytes(SECOND)
    with pytest.raises(TidehubError, match=digest(SECOND)):
        obtain(store, lock, Pins(tmp_path / NAME), "jupyterhub", "4.4.0")


def test_two_commands_do_not_lose_each_others_pins(tmp_path: Path) -> None:
    one, other = Pins(tmp_path / NAME), Pins(tmp_path / NAME)
    one.pin("jupyterhub", "4.4.0", "a" * 64)
    other.pin("dask-gateway", "2026.3.0", "b" * 64)
    both = Pins(tmp_path / NAME)
    assert (
        both.sha256("jupyterhub", "4.4.0") == "a" * 64 and both.sha256("dask-gateway", "2026.3.0") == "b" * 64
    )
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


@pytest.mark.parametrize("text", ["[", "- a", "jupyterhub: 4.4.0", "jupyterhub: {4.4.0: short}"])
def test_a_file_that_is_something_else_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / NAME).write_text(text)
    with pytest.raises(UsageError, match="pinned charts") as caught:
        Pins(tmp_path / NAME)
    assert caught.value.fix


def test_a_pin_that_cannot_be_written_down_is_no_trust(tmp_path: Path, store: ChartStore) -> None:
    with pytest.raises(TidehubError, match="cannot be written down"):
        obtain(store, NOTHING, Pins(tmp_path / "nowhere" / NAME), "jupyterhub", "4.4.0")
