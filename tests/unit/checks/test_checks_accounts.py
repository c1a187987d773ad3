"""Whom a check of the platform on this machine logs in as."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tidehub.checks import local_target
from tidehub.local.places import Places
from tidehub.site.reading.load import load_preset


@pytest.mark.parametrize(
    ("blocked", "order"),
    [([], ["alice", "bob", "olga", "ada"]), (["alice", "olga"], ["bob", "ada", "alice", "olga"])],
)
def test_a_blocked_account_is_the_last_that_is_tried(
    blocked: list[str], order: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_target, "trial_passwords", lambda places: dict.fromkeys([*order, "nora"], "x"))
    site = load_preset("laptop", overrides=[("login.block", blocked)]).site
    settings: Any = SimpleNamespace(identity_url="http://127.0.0.1:9/", site=site)
    found = local_target._trial_accounts(Places(tmp_path), settings)
    assert [account.name for account in found] == order
