"""Questions to the owner of the identity provider's directory, and answers that are not what they should be."""

from __future__ import annotations

import base64
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tidehub.errors import TidehubError
from tidehub.local import identity_files, process
from tidehub.local.identity_files import make_trial_accounts, saved_files, trial_passwords
from tidehub.local.places import Places


@pytest.fixture
def places(tmp_path: Path) -> Places:
    found = Places(tmp_path / "state")
    found.identity.mkdir(parents=True, mode=0o700)
    found.identity.chmod(0o700)
    return found


@pytest.fixture
def by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory seems to be somebody else's, so a process of its owner is asked."""
    if os.geteuid() != 0:
        pytest.skip("only root can start a process without groups")
    monkeypatch.setattr(identity_files.os, "geteuid", lambda: 12345)


def says(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Somebody with the provider's uid answers in its place."""
    monkeypatch.setattr(process, "run", lambda *words, **given: process.Finished(text, ""))


def test_accounts_made_by_a_process_are_those_that_are_there(places: Places, by_another: None) -> None:
    made = make_trial_accounts(places, None, admin_group=None, assurance=())
    assert "alice" in made
    assert trial_passwords(places) == made
    kept = saved_files(places)
    assert set(kept) == {"demo-accounts.json", "identity.sqlite"}
    assert kept["identity.sqlite"].content.startswith(b"SQLite format 3")
    assert kept["demo-accounts.json"].mode == 0o600
    assert kept["demo-accounts.json"].uid == os.getuid()


def test_without_a_provider_there_is_nothing(tmp_path: Path) -> None:
    assert trial_passwords(Places(tmp_path)) == {}
    assert saved_files(Places(tmp_path)) == {}


def test_a_fault_in_there_comes_back_in_words(places: Places, by_another: None) -> None:
    (places.identity / "identity.sqlite").write_bytes(b"not a database " * 400)
    with pytest.raises(TidehubError, match="is damaged") as caught:
        make_trial_accounts(places, None, admin_group=None, assurance=())
    assert "backup" in (caught.value.fix or "")
    (places.identity / "identity.sqlite").unlink()
    (places.identity / "identity.sqlite").symlink_to("/etc/shadow")
    assert saved_files(places) == {}


def test_a_directory_that_is_a_link_is_refused(places: Places, tmp_path: Path) -> None:
    places.identity.rmdir()
    places.identity.symlink_to(tmp_path)
    for ask in (trial_passwords, saved_files):
        with pytest.raises(TidehubError, match="is not a directory"):
            ask(places)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"answer": [1, 2]}', '{"answer": {"../x": {}}}', "null"])
def test_an_answer_that_is_none_is_refused_or_empty(
    places: Places, by_another: None, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    says(monkeypatch, text)
    for ask in (trial_passwords, saved_files):
        try:
            found: Any = ask(places)
        except TidehubError as error:
            assert "cannot be read" in str(error)
        else:
            assert not any(found.values())


def test_no_answer_leaves_its_place_in_a_backup(
    places: Places, by_another: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = base64.b64encode(b"x").decode()
    for name in ("../../private/secrets.json", "/etc/passwd", "..", ""):
        says(monkeypatch, f'{{"answer": {{"{name}": {{"content": "{content}", "mode": 511}}}}}}')
        with pytest.raises(TidehubError, match="cannot be read"):
            saved_files(places)
    says(monkeypatch, f'{{"answer": {{"keys": {{"content": "{content}", "mode": 3583}}}}}}')
    assert saved_files(places)["keys"].mode == 0o700


def test_no_answer_reaches_the_terminal_as_it_is(
    places: Places, by_another: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    says(monkeypatch, '{"answer": {"alice": "\\u001b[2Jx\\r\\n"}}')
    assert trial_passwords(places) == {"alice": "?[2Jx??"}
    says(monkeypatch, '{"error": {"what": "\\u001b]0;x\\u0007", "fix": 3}}')
    with pytest.raises(TidehubError) as caught:
        trial_passwords(places)
    assert "\x1b" not in str(caught.value) and caught.value.fix is None


def test_passwords_are_never_in_a_command_line(
    places: Places, by_another: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    real = process.run

    def run(words: Any, **given: Any) -> process.Finished:
        seen.append((words, given["env"]))
        return real(words, **given)

    monkeypatch.setattr(process, "run", run)
    made = make_trial_accounts(places, None, admin_group=None, assurance=())
    assert seen and seen[0][0] == [sys.executable, "-I", "-m", "tidehub.local.identity_files"]
    assert not [word for word in made.values() if word in repr(seen)]
