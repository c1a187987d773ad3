"""With the real git."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from secret_site import CLIENT, secrets_file, site_file, wanted

from tidehub.errors import TidehubError, UsageError
from tidehub.secrets.changes import create, write
from tidehub.secrets.git import ensure_ignored, refuse_tracked
from tidehub.secrets.site_secrets import SecretsError, require

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
NOTHING: Mapping[str, str] = {}


def git(directory: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-c", "safe.directory=*", "-c", "user.name=t", "-c", "user.email=t@example.org", *words],
        cwd=directory,
        check=True,
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "HOME": str(directory)},
    )
    return done.stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    top = tmp_path / "repo"
    top.mkdir()
    git(top, "init", "-q")
    return top


def visible(directory: Path) -> list[str]:
    """What `git add -A` would take."""
    return git(directory, "status", "--porcelain", "--untracked-files=all").split()[1::2]


def test_a_new_secrets_file_is_ignored_before_anybody_can_add_it(repository: Path) -> None:
    site = site_file(repository)
    created = create(site, wanted(site), NOTHING)
    assert created.gitignore == repository / ".gitignore"
    assert visible(repository) == [".gitignore", "tidehub.yaml"]
    assert create(site, wanted(site), NOTHING).gitignore is None


def test_the_entry_goes_where_entries_are(repository: Path) -> None:
    (repository / ".gitignore").write_text("*.pyc")
    below = repository / "sites" / "a [b] #c"
    below.mkdir(parents=True)
    site = site_file(below)
    assert create(site, wanted(site), NOTHING).gitignore == repository / ".gitignore"
    text = (repository / ".gitignore").read_text()
    assert text.startswith("*.pyc\n# Secrets of tidehub\n/sites/a\\ \\[b\\]\\ \\#c/tidehub.secrets.yaml\n")
    assert not any("secrets" in name for name in visible(repository))
    (below / ".tidehub.secrets.yaml.1234abcd.part").write_text("half")
    assert "half" not in git(repository, "status", "--porcelain", "--untracked-files=all")
    assert ".part" not in git(repository, "status", "--porcelain", "--untracked-files=all")


def test_an_entry_beside_the_file_is_preferred(repository: Path) -> None:
    (repository / ".gitignore").write_text("*.pyc\n")
    below = repository / "site"
    below.mkdir()
    (below / ".gitignore").write_text("")
    site = site_file(below)
    assert create(site, wanted(site), NOTHING).gitignore == below / ".gitignore"


def test_what_is_ignored_already_is_left_alone(repository: Path) -> None:
    (repository / ".gitignore").write_text("*.secrets.yaml\n")
    site = site_file(repository)
    assert create(site, wanted(site), NOTHING).gitignore is None
    assert (repository / ".gitignore").read_text() == "*.secrets.yaml\n"


def test_a_gitignore_that_git_does_not_read_is_said_and_nothing_is_written(repository: Path) -> None:
    below = repository / "site"
    below.mkdir()
    (repository / ".gitignore").write_text("x\n")
    site = site_file(below)
    (repository / ".git" / "info" / "exclude").write_text("")
    (below / ".gitignore").symlink_to(repository / ".gitignore")
    with pytest.raises(TidehubError, match="symbolic link"):
        create(site, wanted(site), NOTHING)
    assert not (below / "tidehub.secrets.yaml").exists()


def test_a_tracked_file_is_refused_everywhere(repository: Path) -> None:
    site = site_file(repository)
    path = secrets_file(repository, f"client_secret: {CLIENT}\n")
    git(repository, "add", path.name)
    for refuse in (
        lambda: require(site, "client_secret", NOTHING),
        lambda: create(site, wanted(site), NOTHING),
        lambda: write(site, {"gateway_token": "a9" * 32 + "b"}),
    ):
        with pytest.raises(UsageError) as refused:
            refuse()
        said = str(refused.value)
        assert "git tracks the secrets file" in said
        assert "git rm --cached" in said
        assert CLIENT not in said
    assert path.read_text() == f"client_secret: {CLIENT}\n"
    git(repository, "rm", "-q", "--cached", path.name)
    assert require(site, "client_secret", NOTHING).reveal() == CLIENT


def test_a_link_to_a_tracked_file_is_refused(repository: Path, tmp_path: Path) -> None:
    site = site_file(tmp_path)
    path = secrets_file(repository, f"client_secret: {CLIENT}\n")
    git(repository, "add", "-f", path.name)
    (tmp_path / "tidehub.secrets.yaml").symlink_to(path)
    with pytest.raises(SecretsError, match="1 error"):
        require(site, "client_secret", NOTHING)


def test_names_mean_nothing_but_themselves(repository: Path) -> None:
    odd = repository / "*.secrets.yaml"
    odd.write_text("")
    (repository / "other.secrets.yaml").write_text("")
    git(repository, "add", "other.secrets.yaml")
    refuse_tracked(odd)
    with pytest.raises(UsageError):
        refuse_tracked(repository / "other.secrets.yaml")
    assert ensure_ignored(odd) == repository / ".gitignore"
    assert "/\\*.secrets.yaml\n" in (repository / ".gitignore").read_text()


def test_a_repository_that_comes_later_ignores_the_secrets(tmp_path: Path) -> None:
    site = site_file(tmp_path)
    assert create(site, wanted(site), NOTHING).gitignore == tmp_path / ".gitignore"
    assert create(site, wanted(site), NOTHING).gitignore is None
    written = (tmp_path / ".gitignore").read_text()
    assert written.count("/tidehub.secrets.yaml\n") == 1
    git(tmp_path, "init", "--quiet")
    assert "tidehub.secrets.yaml" not in git(tmp_path, "status", "--porcelain", "--untracked-files=all")
    assert create(site, wanted(site), NOTHING).gitignore is None
    assert (tmp_path / ".gitignore").read_text() == written


def test_without_git_nothing_is_tracked(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = site_file(repository)
    path = secrets_file(repository, f"client_secret: {CLIENT}\n")
    git(repository, "add", path.name)
    monkeypatch.setenv("PATH", "/nonexistent")
    assert require(site, "client_secret", NOTHING).reveal() == CLIENT


def test_variables_of_a_git_hook_do_not_lead_astray(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = secrets_file(repository, f"client_secret: {CLIENT}\n")
    git(repository, "add", path.name)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    git(elsewhere, "init", "-q")
    monkeypatch.setenv("GIT_DIR", str(elsewhere / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(elsewhere))
    with pytest.raises(UsageError):
        refuse_tracked(path)


def test_nothing_that_a_repository_configures_is_run(repository: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\ntouch {ran}\n")
    hook.chmod(0o755)
    path = secrets_file(repository, "client_secret: x\n")
    git(repository, "config", "core.fsmonitor", str(hook))
    refuse_tracked(path)
    ensure_ignored(path)
    assert not ran.exists()
    subprocess.run(
        ["git", "-c", "safe.directory=*", "status"], cwd=repository, capture_output=True, check=True
    )
    assert ran.exists(), "the hook would have run, so the test can fail"
