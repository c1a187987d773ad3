from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidehub.errors import TidehubError, UsageError
from tidehub.identity import demo_accounts
from tidehub.identity.accounts import Account, AccountStore
from tidehub.identity.claims import userinfo
from tidehub.identity.config import SCOPES
from tidehub.identity.demo_accounts import demo_entitlements, ensure_demo_accounts, read_demo_passwords
from tidehub.identity.passwords import generate_password, hash_password, verify_password
from tidehub.login.rule import parse, parse_requirement

GROUP = "urn:mace:egi.eu:group:vo.pangeo.eu:role=member#aai.egi.eu"
OPERATOR = "urn:mace:egi.eu:group:vo.pangeo.eu:role=vm_operator#aai.egi.eu"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AccountStore]:
    # Real hashing is tested below; here it would only be slow.
    monkeypatch.setattr(
        "tidehub.identity.demo_accounts.hash_password", lambda password: f"hash of {password}"
    )
    monkeypatch.setattr("tidehub.identity.accounts.hash_password", lambda password: f"hash of {password}")
    with AccountStore.open(tmp_path / "state") as opened:
        yield opened


def test_passwords() -> None:
    stored = hash_password("correct horse")
    assert stored.startswith("scrypt$15$8$3$")
    assert "correct" not in stored
    assert verify_password("correct horse", stored)
    assert not verify_password("correct horse ", stored)
    assert not verify_password("", stored)
    assert hash_password("correct horse") != stored
    with pytest.raises(ValueError):
        verify_password("x", "plain")


def test_overlong_password_is_never_right() -> None:
    stored = hash_password("")
    assert verify_password("", stored)
    assert not verify_password("x" * 2000, stored)


def test_generated_passwords_are_unambiguous_and_differ() -> None:
    found = {generate_password() for _ in range(200)}
    assert len(found) == 200
    for password in found:
        assert re.fullmatch(r"(?:[a-hjkmnp-tw-z2-9]{4}-){3}[a-hjkmnp-tw-z2-9]{4}", password)


def test_added_account_comes_back(store: AccountStore) -> None:
    account = Account(
        "grace", "Grace Hopper", "grace@example.org", entitlements=(GROUP,), affiliation=("a@b",)
    )
    store.add(account, "long enough")
    assert store.get(" Grace ") == account
    assert store.by_sub(account.sub) == account
    assert store.password_hash("GRACE") == "hash of long enough"
    assert store.get("nobody") is None
    assert re.fullmatch(r"[0-9a-f]{64}@egi\.eu", account.sub)
    with pytest.raises(UsageError, match="already has"):
        store.add(account, "long enough")
    with pytest.raises(UsageError, match="8 characters"):
        store.add(Account("short", "S", "s@example.org"), "short")


@pytest.mark.parametrize("username", ["", "Alice", "a b", "1a", "a/b", "../a", "a" * 65, "a-"])
def test_bad_usernames(username: str) -> None:
    with pytest.raises(UsageError, match="cannot be a user name"):
        Account(username, "N", "n@example.org")


def test_entitlements_are_a_list(store: AccountStore) -> None:
    with pytest.raises(UsageError, match="must be a list"):
        Account("ann", "N", "n@example.org", entitlements=GROUP)  # type: ignore[arg-type]
    store.add(Account("ann", "N", "n@example.org"), "long enough")
    with pytest.raises(UsageError, match="must be a list"):
        store.set_entitlements("ann", GROUP)
    store.set_entitlements("ann", [GROUP])
    assert store.get("ann").entitlements == (GROUP,)  # type: ignore[union-attr]
    with pytest.raises(UsageError, match="no account"):
        store.set_entitlements("nobody", [])


def test_demo_users_of_an_egi_group() -> None:
    users = demo_entitlements(GROUP)
    assert users["alice"] == (GROUP,)
    assert GROUP in users["bob"]
    assert set(users["olga"]) == {GROUP, OPERATOR}
    assert users["rita"] == (OPERATOR,)
    assert GROUP in users["ada"]
    assert len(users["ada"]) == 2
    assert all("vo.pangeo.eu" not in entitlement for entitlement in users["nora"])


@pytest.mark.parametrize(
    ("group", "member", "rita"),
    [
        (
            "urn:geant:x.eu:group:g",
            ("urn:geant:x.eu:group:g:role=member",),
            "urn:geant:x.eu:group:g:role=vm_operator",
        ),
        (
            "urn:mace:egi.eu:group:vo:sub:role=vm_operator#a",
            ("urn:mace:egi.eu:group:vo:sub:role=member#a", "urn:mace:egi.eu:group:vo:sub:role=vm_operator#a"),
            "urn:mace:egi.eu:group:vo:sub:role=auditor#a",
        ),
        ("ocean-people", ("ocean-people",), "ocean-people-vm_operator"),
    ],
)
def test_demo_users_of_other_groups(group: str, member: tuple[str, ...], rita: str) -> None:
    users = demo_entitlements(group)
    assert users["alice"] == member
    assert users["rita"] == (rita,)
    assert group not in users["nora"]


def test_demo_admin_gets_the_sites_admin_group() -> None:
    assert demo_entitlements(GROUP, admin_group="urn:x:y:group:admins")["ada"] == (
        GROUP,
        "urn:x:y:group:admins",
    )


def test_demo_accounts_are_made_once(store: AccountStore) -> None:
    passwords = ensure_demo_accounts(store, GROUP)
    assert list(passwords) == ["alice", "bob", "olga", "ada", "rita", "nora"]
    assert len(set(passwords.values())) == 6
    assert store.password_hash("nora") == f"hash of {passwords['nora']}"
    store.set_entitlements("alice", [])
    before = store.all()
    assert ensure_demo_accounts(store, GROUP) == passwords == read_demo_passwords(store.state_dir)
    assert store.all() == before, "a revocation stays"
    path = store.state_dir / demo_accounts.FILE_NAME
    assert path.stat().st_mode & 0o777 == 0o600


def test_other_site_other_groups_same_users(store: AccountStore) -> None:
    passwords = ensure_demo_accounts(store, GROUP)
    alice = store.get("alice")
    other = GROUP.replace("pangeo", "coast")
    assert ensure_demo_accounts(store, other) == passwords
    moved = store.get("alice")
    assert alice is not None and moved is not None
    assert (moved.entitlements, moved.sub) == ((other,), alice.sub)


def test_interrupted_first_time_is_finished(store: AccountStore, monkeypatch: pytest.MonkeyPatch) -> None:
    add = store.add_hashed

    def killed(account: Account, password_hash: str) -> None:
        if account.username == "olga":
            raise KeyboardInterrupt
        add(account, password_hash)

    monkeypatch.setattr(store, "add_hashed", killed)
    with pytest.raises(KeyboardInterrupt):
        ensure_demo_accounts(store, GROUP)
    monkeypatch.undo()
    monkeypatch.setattr(
        "tidehub.identity.demo_accounts.hash_password", lambda password: f"hash of {password}"
    )
    told = read_demo_passwords(store.state_dir)
    assert ensure_demo_accounts(store, GROUP) == told
    assert len(store.all()) == 6
    assert store.password_hash("olga") == f"hash of {told['olga']}"


def test_lost_file_gives_new_passwords_that_work(store: AccountStore) -> None:
    old = ensure_demo_accounts(store, GROUP)
    (store.state_dir / demo_accounts.FILE_NAME).unlink()
    assert read_demo_passwords(store.state_dir) == {}
    new = ensure_demo_accounts(store, GROUP)
    assert not set(new.values()) & set(old.values())
    assert store.password_hash("alice") == f"hash of {new['alice']}"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"passwords": 3}', json.dumps({"passwords": {}})])
def test_damaged_file_is_explained(store: AccountStore, text: str) -> None:
    path = store.state_dir / demo_accounts.FILE_NAME
    path.touch(mode=0o600)
    path.write_text(text)
    with pytest.raises(TidehubError, match="damaged"):
        ensure_demo_accounts(store, GROUP)


def test_claims_follow_scopes() -> None:
    account = Account("ann", "Ann Mary Lee", "ann@example.org", entitlements=(GROUP,), assurance=("high",))
    assert userinfo(account, ["openid"]) == {"sub": account.sub}
    profile = userinfo(account, ["openid", "profile"])
    assert (profile["given_name"], profile["family_name"]) == ("Ann Mary", "Lee")
    assert profile["preferred_username"] == "ann"
    everything = userinfo(account, SCOPES)
    assert everything["entitlements"] == everything["eduperson_entitlement"] == [GROUP]
    assert everything["voperson_id"] == account.sub
    assert everything["eduperson_assurance"] == ["high"]
    assert "eduperson_scoped_affiliation" not in everything, "EGI leaves empty claims out"
    assert userinfo(Account("x", "Mono", "m@example.org"), ["profile"])["given_name"] == "Mono"


@pytest.mark.parametrize("rule", ["vo.coast.eu:*", "vo.coast.eu:*:role=pilot", "*", "vo.coast.eu:sub:*"])
def test_demo_users_of_a_rule_with_a_star_hold_what_it_admits(rule: str) -> None:
    wanted = parse_requirement(f"urn:mace:egi.eu:group:{rule}")
    held = demo_entitlements(
        f"urn:mace:egi.eu:group:{rule}", admin_group="urn:mace:egi.eu:group:vo.boss.eu:*"
    )
    assert any(wanted.met_by(parse(urn)) for urn in held["alice"])
    assert "urn:mace:egi.eu:group:vo.boss.eu" in held["ada"]
    assert not any("*" in urn for urns in held.values() for urn in urns)


def test_demo_users_have_the_assurance_that_the_site_asks_for(store: AccountStore) -> None:
    medium = "https://refeds.org/assurance/IAP/medium"
    passwords = ensure_demo_accounts(store, GROUP)
    before = store.get("alice")
    assert before is not None and medium not in before.assurance
    assert ensure_demo_accounts(store, GROUP, assurance=(medium,)) == passwords
    after = store.get("alice")
    assert after is not None and medium in after.assurance
    store.set_assurance("alice", [])
    ensure_demo_accounts(store, GROUP, assurance=(medium,))
    kept = store.get("alice")
    assert kept is not None and kept.assurance == ()
