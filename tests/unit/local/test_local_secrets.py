from __future__ import annotations

import json
import multiprocessing
import pickle
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from tidehub.errors import TidehubError
from tidehub.local.secrets import REDACTED, Secret, load_secrets


def test_secrets_are_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    first = load_secrets(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_secrets(path) == first
    values = [secret.reveal() for secret in first]
    assert len(set(values)) == len(values)
    Fernet(first.gateway_database_key.reveal())
    assert len(bytes.fromhex(first.hub_crypt_key.reveal())) == 32


def test_a_secret_does_not_print() -> None:
    secret = Secret("open-sesame")
    for text in (str(secret), repr(secret), f"{secret}", f"{secret!r:>20}", "%s" % secret, str([secret])):  # noqa: UP031
        assert "open-sesame" not in text
        assert REDACTED in text
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        json.dumps(secret)
    assert secret == Secret("open-sesame")
    assert secret != Secret("open-barley")
    assert secret != "open-sesame"


def test_what_a_newer_version_needs_is_added_and_the_rest_kept(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    first = load_secrets(path)
    stored = json.loads(path.read_text())
    del stored["culler_token"]
    path.write_text(json.dumps(stored))
    second = load_secrets(path)
    assert second.operator_token == first.operator_token
    assert second.culler_token != first.culler_token
    assert load_secrets(path) == second


@pytest.mark.parametrize("text", ["", "{", "[]", '{"hub_crypt_key": "short"}', '{"hub_crypt_key": 5}'])
def test_a_damaged_file_is_refused_and_not_replaced(tmp_path: Path, text: str) -> None:
    path = tmp_path / "secrets.json"
    path.write_text(text)
    with pytest.raises(TidehubError, match="damaged") as refused:
        load_secrets(path)
    assert "backup" in str(refused.value)
    assert path.read_text() == text


def test_a_damaged_value_is_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    load_secrets(path)
    stored = json.loads(path.read_text())
    stored["operator_token"] = "visible" + stored["operator_token"]
    path.write_text(json.dumps(stored))
    with pytest.raises(TidehubError) as refused:
        load_secrets(path)
    assert "operator_token" in str(refused.value)
    assert "visible" not in str(refused.value)


def _load(path: str, results: Any) -> None:
    results.put([value.reveal() for value in load_secrets(Path(path))])


def test_processes_that_start_at_once_share_one_set(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    results: Any = context.Queue()
    path = tmp_path / "secrets.json"
    children = [context.Process(target=_load, args=(str(path), results)) for _ in range(4)]
    for child in children:
        child.start()
    answers = [results.get(timeout=120) for _ in children]
    for child in children:
        child.join(30)
    assert all(answer == answers[0] for answer in answers)
    assert answers[0] == [value.reveal() for value in load_secrets(path)]
