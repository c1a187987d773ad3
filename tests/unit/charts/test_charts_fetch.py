"""Where archives come from, and that nothing unverified is ever given out."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from chart_making import metadata, packed

from tidehub.charts import download, fetch
from tidehub.charts.collect import collect, main
from tidehub.charts.download import nearest
from tidehub.charts.fetch import ChartStore, given_directory
from tidehub.charts.lock import ChartLock, LockedChart
from tidehub.errors import TidehubError, UsageError

ARCHIVE = packed({"jupyterhub/Chart.yaml": metadata("jupyterhub", "4.4.0")})
DIGEST = hashlib.sha256(ARCHIVE).hexdigest()
OTHER = packed({"jupyterhub/Chart.yaml": metadata("jupyterhub", "4.4.0", description="another")})


class Repository:
    """A chart repository on loopback; `files` is what it serves, `asked` what was asked for."""

    def __init__(self) -> None:
        repository = self
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.asked: list[str] = []
        self.hold = threading.Event()
        self.held = "none"

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                repository.asked.append(self.path)
                if self.path == repository.held:
                    repository.hold.wait(30)
                if to := repository.redirects.get(self.path):
                    self.send_response(302)
                    self.send_header("Location", to)
                    self.end_headers()
                    return
                data = repository.files.get(self.path)
                self.send_response(200 if data is not None else 404)
                self.end_headers()
                self.wfile.write(data or b"")

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        self.environ = {"TIDEHUB_CHART_MIRROR": self.url}
        self.index(
            ("4.4.0", "jupyterhub-4.4.0.tgz", DIGEST), ("4.3.0", "x.tgz", None), ("3.3.8", "y.tgz", None)
        )
        self.files["/jupyterhub-4.4.0.tgz"] = ARCHIVE

    def index(self, *entries: tuple[str, str, str | None]) -> None:
        found = [
            {
                "name": "jupyterhub",
                "version": version,
                "urls": [url],
                **({"digest": digest} if digest else {}),
            }
            for version, url, digest in entries
        ]
        self.files["/index.yaml"] = json.dumps(
            {"apiVersion": "v1", "entries": {"jupyterhub": found}}
        ).encode()


@pytest.fixture
def repository() -> Iterator[Repository]:
    served = Repository()
    thread = threading.Thread(target=served.server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield served
    finally:
        served.hold.set()
        served.server.shutdown()
        thread.join()
        served.server.server_close()


@pytest.fixture
def store(tmp_path: Path, repository: Repository) -> ChartStore:
    return ChartStore(tmp_path / "cache", environ=repository.environ)


def refused(store: ChartStore, version: str = "4.4.0", sha256: str | None = None) -> str:
    with pytest.raises(TidehubError) as caught:
        store.get("jupyterhub", version, sha256)
    assert caught.value.fix
    return str(caught.value)


def test_from_the_repository_once_and_then_from_the_cache(store: ChartStore, repository: Repository) -> None:
    found = store.get("jupyterhub", "4.4.0", DIGEST)
    assert found.path.read_bytes() == ARCHIVE and found.sha256 == DIGEST
    assert repository.asked == ["/index.yaml", "/jupyterhub-4.4.0.tgz"]
    assert store.get("jupyterhub", "4.4.0", DIGEST) == found
    assert len(repository.asked) == 2
    assert [path.name for path in store.cache.rglob("*.tgz")] == ["jupyterhub-4.4.0.tgz"]
    assert not [path for path in store.cache.rglob("*") if path.name.startswith(".")]


def test_without_a_digest_the_repository_says_what_is_current(
    store: ChartStore, repository: Repository
) -> None:
    assert store.get("jupyterhub", "4.4.0").sha256 == DIGEST
    repository.files["/jupyterhub-4.4.0.tgz"] = OTHER
    repository.index(("4.4.0", "jupyterhub-4.4.0.tgz", hashlib.sha256(OTHER).hexdigest()))
    assert store.get("jupyterhub", "4.4.0").sha256 == hashlib.sha256(OTHER).hexdigest()


def test_a_damaged_file_in_the_cache_is_fetched_again(store: ChartStore, repository: Repository) -> None:
    path = store.get("jupyterhub", "4.4.0", DIGEST).path
    path.write_bytes(ARCHIVE[:-5])
    assert store.get("jupyterhub", "4.4.0", DIGEST).path.read_bytes() == ARCHIVE
    assert repository.asked.count("/jupyterhub-4.4.0.tgz") == 2


def test_another_archive_than_the_index_says(store: ChartStore, repository: Repository) -> None:
    repository.files["/jupyterhub-4.4.0.tgz"] = OTHER
    said = refused(store)
    assert DIGEST in said and hashlib.sha256(OTHER).hexdigest() in said and "index" in said
    assert not list(store.cache.rglob("*.tgz"))


def test_another_archive_than_the_lock_says(store: ChartStore) -> None:
    said = refused(store, sha256="0" * 64)
    assert DIGEST in said and "0" * 64 in said and "lock" in said
    assert not list(store.cache.rglob("*.tgz"))


def test_an_unknown_version_names_the_nearest(store: ChartStore) -> None:
    said = refused(store, "4.4.1")
    assert "jupyterhub 4.4.1 was not found" in said and "4.4.0, 4.3.0, 3.3.8" in said


def test_nearest_versions() -> None:
    known = ["4.4.0", "4.3.5", "4.3.1", "3.3.8", "1.2.0", "4.4.0-0.dev.git.1"]
    assert nearest("4.3.9", known, 3) == ["4.3.5", "4.3.1", "4.4.0"]
    assert nearest("3.0.0", known, 1) == ["3.3.8"]
    assert nearest("9", ["4.4.0-0.dev.git.1"]) == ["4.4.0-0.dev.git.1"]


def test_a_login_page_is_no_repository(store: ChartStore, repository: Repository) -> None:
    repository.files["/index.yaml"] = b"<html>please log in</html>"
    assert "not an index of charts" in refused(store)
    repository.index(("4.4.0", "jupyterhub-4.4.0.tgz", None))
    repository.files["/jupyterhub-4.4.0.tgz"] = b"<html>please log in</html>"
    assert "not a gzip file" in refused(store)
    del repository.files["/jupyterhub-4.4.0.tgz"]
    assert "answered 404" in refused(store)
    repository.files["/index.yaml"] = json.dumps({"entries": {"other": []}}).encode()
    assert "jupyterhub is not in it" in refused(store)


def test_nothing_larger_than_its_bound_is_read(
    store: ChartStore, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "LARGEST", 50)
    assert "sends more than" in refused(store)
    monkeypatch.setattr(download, "LARGEST_INDEX", 50)
    assert "sends more than" in refused(store)


def test_redirects_lead_to_https_or_this_machine_alone(store: ChartStore, repository: Repository) -> None:
    repository.redirects["/index.yaml"] = "/moved.yaml"
    repository.files["/moved.yaml"] = repository.files["/index.yaml"]
    assert store.get("jupyterhub", "4.4.0", DIGEST).sha256 == DIGEST
    repository.redirects["/index.yaml"] = "http://192.0.2.1/index.yaml"
    assert "must be reached by https" in refused(store, "4.3.0")
    repository.redirects["/index.yaml"] = "file:///etc/passwd"
    assert "must be reached by https" in refused(store, "4.3.0")
    repository.redirects["/index.yaml"] = "/index.yaml"
    assert "redirects" in refused(store, "4.3.0")


def test_a_repository_that_is_silent_or_gone(tmp_path: Path, repository: Repository) -> None:
    repository.held = "/index.yaml"
    with pytest.raises(TidehubError, match="was not reached"):
        download.read(repository.url + "index.yaml", 1000, 0.2)
    repository.hold.set()
    gone = ChartStore(tmp_path / "cache", environ={"TIDEHUB_CHART_MIRROR": "http://127.0.0.1:1"})
    said = refused(gone)
    assert "was not reached" in said and "--charts" in said


def test_the_directory_comes_first_and_is_verified(tmp_path: Path, repository: Repository) -> None:
    (tmp_path / "jupyterhub-4.4.0.tgz").write_bytes(ARCHIVE)
    store = ChartStore(tmp_path / "cache", directory=tmp_path, environ=repository.environ)
    assert store.get("jupyterhub", "4.4.0", DIGEST).path == tmp_path / "jupyterhub-4.4.0.tgz"
    assert repository.asked == []
    (tmp_path / "jupyterhub-4.4.0.tgz").write_bytes(OTHER)
    said = refused(store, sha256=DIGEST)
    assert DIGEST in said and str(tmp_path) in said
    assert repository.asked == []


def test_offline_asks_nobody(tmp_path: Path, repository: Repository) -> None:
    cache = tmp_path / "cache"
    offline = ChartStore(cache, offline=True, environ=repository.environ)
    said = refused(offline)
    assert "is not on this machine" in said and "--charts" in said
    ChartStore(cache, environ=repository.environ).get("jupyterhub", "4.4.0", DIGEST)
    asked = len(repository.asked)
    assert offline.get("jupyterhub", "4.4.0").sha256 == DIGEST
    other = hashlib.sha256(OTHER).hexdigest()
    fetch.write_whole(cache / other / "jupyterhub-4.4.0.tgz", OTHER)
    said = refused(offline)
    assert DIGEST in said and other in said
    assert offline.get("jupyterhub", "4.4.0", other).sha256 == other
    assert len(repository.asked) == asked


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path, repository: Repository) -> None:
    (tmp_path / "cache").write_text("a file")
    said = refused(ChartStore(tmp_path / "cache", environ=repository.environ))
    assert "cannot be kept" in said and "XDG_CACHE_HOME" in said


@pytest.mark.parametrize(("name", "version"), [("../x", "1"), ("jupyterhub", "../../1"), ("jupyterhub", "")])
def test_names_are_no_paths(store: ChartStore, name: str, version: str) -> None:
    with pytest.raises(UsageError):
        store.get(name, version)


def test_the_directory_that_is_given(tmp_path: Path) -> None:
    assert given_directory(None, {}) is None
    assert given_directory(None, {"TIDEHUB_CHARTS": str(tmp_path)}) == tmp_path
    assert given_directory(tmp_path, {"TIDEHUB_CHARTS": "/elsewhere"}) == tmp_path
    with pytest.raises(UsageError, match="does not exist"):
        given_directory(tmp_path / "none", {})


def test_a_chart_that_is_none_of_ours(store: ChartStore) -> None:
    with pytest.raises(UsageError, match="the chart 'nginx' is not known here"):
        store.get("nginx", "1.0.0")


def test_a_directory_is_filled_for_a_machine_without_network(tmp_path: Path, store: ChartStore) -> None:
    lock = ChartLock((LockedChart("jupyterhub", "4.4.0", None, "5.5.0", None),))
    said: list[str] = []
    collect(tmp_path / "charts", store, lock, said.append)
    assert DIGEST in said[0] and "does not know" in said[0]
    there = ChartStore(tmp_path / "empty", directory=tmp_path / "charts", offline=True)
    assert there.get("jupyterhub", "4.4.0", DIGEST).path.parent == tmp_path / "charts"
    with pytest.raises(TidehubError, match=DIGEST):
        collect(
            tmp_path / "charts", store, ChartLock((replace(lock.charts[0], sha256="0" * 64),)), said.append
        )


def test_collecting_needs_a_place(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == main(["--help"]) == 2
    assert "DIRECTORY" in capsys.readouterr().err
    assert main(["x", "1999.1"]) == 2
