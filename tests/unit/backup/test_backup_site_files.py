"""The site file and what lies beside it: into a backup, out of it, and what is said then."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidehub.backup.container import Kept
from tidehub.backup.site_files import put_site_files, site_files
from tidehub.cli import backup as backup_command
from tidehub.cli import restore as restore_command
from tidehub.errors import TidehubError

SITE = "preset: laptop\n"


def kept(text: str, mode: int = 0o644) -> Kept:
    return Kept(text.encode(), mode)


def test_a_directory_is_made_for_them_and_secrets_stay_private(tmp_path: Path) -> None:
    into = tmp_path / "new" / "site"
    files = {
        "site/tidehub.secrets.yaml": kept("a: b\n", 0o600),
        "site/tidehub.yaml": kept(SITE),
        "x": kept(""),
    }
    put_site_files(site_files(files, into))
    assert sorted(path.name for path in into.iterdir()) == ["tidehub.secrets.yaml", "tidehub.yaml"]
    assert (into / "tidehub.secrets.yaml").stat().st_mode & 0o777 == 0o600


def test_a_file_in_the_directorys_place_is_said_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "site").write_text("")
    with pytest.raises(TidehubError, match="is not a directory"):
        site_files({"site/tidehub.yaml": kept(SITE)}, tmp_path / "site")


@pytest.mark.parametrize(
    ("written", "command"),
    [
        (("b/charts.lock.yaml", "b/tidehub.secrets.yaml", "b/tidehub.yaml"), "tidehub deploy b/tidehub.yaml"),
        ((), "tidehub deploy FILE"),
    ],
)
def test_the_command_after_a_restore_names_the_site_file(written: tuple[str, ...], command: str) -> None:
    from tidehub.backup.cluster_restore import ClusterRestored

    done = ClusterRestored("daskhub", ("hub-db-dir",), (), (), True, "", written)
    assert restore_command._cluster_lines(done)[-1].endswith(f"with: {command}")


def test_secrets_and_digests_of_charts_go_along(tmp_path: Path) -> None:
    for name in ("tidehub.yaml", "tidehub.secrets.yaml", "charts.lock.yaml", "other.yaml"):
        (tmp_path / name).write_text(SITE)
    (tmp_path / "tidehub.secrets.yaml").chmod(0o600)
    found = backup_command._site_files(tmp_path / "tidehub.yaml")
    assert [path.name for path in found] == ["tidehub.yaml", "tidehub.secrets.yaml", "charts.lock.yaml"]
