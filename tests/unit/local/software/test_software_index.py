from __future__ import annotations

from pathlib import Path

import pytest

from tidehub.local.software import index

MIRROR = "https://mirror.example.org/simple"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


def write_config(home: Path, text: str) -> None:
    place = home / ".config" / "pip" / "pip.conf"
    place.parent.mkdir(parents=True)
    place.write_text(text)


def test_uv_learns_what_pips_file_says(home: Path) -> None:
    write_config(home, f"[global]\nindex-url = {MIRROR}\ncert = /site/ca.pem\nproxy = http://proxy:3128\n")
    env = index.uv_environment(home / "software", {"HOME": str(home)})
    assert env["UV_DEFAULT_INDEX"] == MIRROR
    assert env["SSL_CERT_FILE"] == "/site/ca.pem"
    assert env["HTTPS_PROXY"] == "http://proxy:3128"


def test_variables_win_over_files_and_uvs_own_over_pips(home: Path) -> None:
    write_config(home, "[global]\nindex-url = https://file.example.org\n")
    environ = {"HOME": str(home), "PIP_INDEX_URL": MIRROR}
    assert index.uv_environment(home / "software", environ)["UV_DEFAULT_INDEX"] == MIRROR
    own = index.uv_environment(home / "software", {**environ, "UV_INDEX_URL": "https://uv.example.org"})
    assert "UV_DEFAULT_INDEX" not in own
    assert own["UV_INDEX_URL"] == "https://uv.example.org"


def test_a_damaged_file_counts_as_absent(home: Path) -> None:
    write_config(home, "index-url without a section")
    assert index.pip_settings({"HOME": str(home)}).get("index-url") is None


def test_pip_learns_what_uv_was_told(home: Path) -> None:
    environ = {"HOME": str(home), "UV_DEFAULT_INDEX": f"site={MIRROR}", "SSL_CERT_FILE": "/site/ca.pem"}
    env = index.pip_environment(environ)
    assert env["PIP_INDEX_URL"] == MIRROR
    plain = index.pip_environment({"HOME": str(home), "UV_DEFAULT_INDEX": "https://h/simple?a=b"})
    assert plain["PIP_INDEX_URL"] == "https://h/simple?a=b"


def test_the_shells_environment_does_not_change_what_is_installed(home: Path) -> None:
    environ = {
        "HOME": str(home),
        "VIRTUAL_ENV": "/v",
        "UV_PYTHON": "3.9",
        "PYTHONPATH": "/p",
        "UV_SYSTEM_PYTHON": "1",
    }
    env = index.uv_environment(home / "software", environ)
    assert not set(env) & {"VIRTUAL_ENV", "UV_PYTHON", "PYTHONPATH", "UV_SYSTEM_PYTHON"}
    assert env["UV_PYTHON_DOWNLOADS"] == "never"
    assert env["UV_CACHE_DIR"] == str(home / "software/cache/uv")
    assert index.uv_environment(home / "software", {"UV_CACHE_DIR": "/c"})["UV_CACHE_DIR"] == "/c"


def test_a_cache_that_others_can_enter_is_closed(tmp_path: Path) -> None:
    """uv's lock files are 0666 whatever the umask: who can open one can hold it and stop every set-up."""
    old = tmp_path / "cache" / "uv"
    old.mkdir(parents=True)
    for folder in (old.parent, old):
        folder.chmod(0o755)
    assert index.cache(tmp_path, "uv") == old
    assert [folder.stat().st_mode & 0o777 for folder in (old.parent, old)] == [0o700, 0o700]
