"""Demo accounts shaped like EGI's, for the group that a site requires; passwords are generated here."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tidehub.errors import Place, TidehubError
from tidehub.identity.accounts import Account, AccountStore
from tidehub.identity.claims import Claims, userinfo
from tidehub.identity.passwords import generate_password, hash_password
from tidehub.identity.private_files import read_private
from tidehub.system.files import write_private

FILE_NAME = "demo-accounts.json"
DEFAULT_GROUP = "urn:mace:egi.eu:group:vo.example.eu:role=member#aai.egi.eu"
"""The group of a site that requires none."""

_ANY_GROUP = "vo.example.eu"
_GROUP_URN = re.compile(
    r"(?P<group>urn:[^#]+?:group:[^#]+?)(?::role=(?P<role>[^:#]+))?(?P<authority>#[^#]+)?", re.IGNORECASE
)

# Check-In's own level and the REFEDS ones (https://refeds.org/assurance) for users of a university.
_ASSURANCE = (
    "https://aai.egi.eu/LoA#Substantial",
    "https://refeds.org/assurance",
    "https://refeds.org/assurance/ID/unique",
    "https://refeds.org/assurance/IAP/low",
)
# A capability (AARC-G027): real users carry such values beside their groups; no rule may trip on it.
_CAPABILITY = "urn:mace:egi.eu:res:rcauth#aai.egi.eu"


@dataclass(frozen=True)
class DemoUser:
    """Who a demo account stands for; `part` says what it holds. What that is worth is the site's to say."""

    username: str
    name: str
    part: str
    affiliation: str = "member"


USERS = (
    DemoUser("alice", "Alice Atlantis", "member of the group", "faculty"),
    DemoUser("bob", "Bob Baltic", "member of the group", "student"),
    DemoUser("olga", "Olga Ocean", "member with a role for operating machines"),
    DemoUser("ada", "Ada Adriatic", "member with a role for administrators", "staff"),
    DemoUser("rita", "Rita Rhine", "holder of a role in the group, without membership"),
    DemoUser("nora", "Nora Nordsee", "member of another group only"),
)
"""The demo accounts in the order to show them."""


def demo_entitlements(group: str, *, admin_group: str | None = None) -> dict[str, tuple[str, ...]]:
    """What each demo user is entitled to, by user name, for a site that requires `group`.

    `group` is an AARC entitlement (AARC-G069) or, for other providers, any plain group name, taken as it is.
    Where `group` names no role, a role holder may count as a member: the site's rule decides.
    """
    member, operator, administrator, elsewhere = _related(group)
    admin = _as_held(admin_group) if admin_group else administrator
    return {
        "alice": member,
        "bob": (*member, _CAPABILITY),
        "olga": (*member, operator),
        "ada": (*member, admin),
        "rita": (operator,),
        "nora": (elsewhere,),
    }


def demo_claims(
    group: str | None, *, admin_group: str | None, assurance: tuple[str, ...], scopes: Collection[str]
) -> dict[str, Claims]:
    """What the provider's userinfo says of each account that `ensure_demo_accounts` makes, by user name."""
    held = demo_entitlements(group or DEFAULT_GROUP, admin_group=admin_group)
    levels = tuple(dict.fromkeys((*_ASSURANCE, *assurance)))
    return {user.username: userinfo(_account(user, held[user.username], levels), scopes) for user in USERS}


def ensure_demo_accounts(
    store: AccountStore,
    group: str | None,
    *,
    admin_group: str | None = None,
    assurance: tuple[str, ...] = (),
) -> dict[str, str]:
    """Make the missing demo accounts for `group` and return every demo password by user name.

    `assurance` is what the site asks for; every account has it beside the levels of a university's users.

    The passwords also stay readable in `demo-accounts.json` (0600) of the private state, so that a later `up`
    can show them again. For the same groups, a second call changes nothing, not even entitlements changed
    since; for other groups the entitlements are set anew. Raises `TidehubError` for a damaged file.
    """
    group = group or DEFAULT_GROUP
    levels = tuple(dict.fromkeys((*_ASSURANCE, *assurance)))
    kept = _read(store.state_dir)
    passwords = {user.username: kept.passwords.get(user.username) or generate_password() for user in USERS}
    wanted = _Kept(group, admin_group, passwords, assurance)
    if kept != wanted:
        # Written first: killed right after this, the next call finds the passwords and makes the accounts.
        _write(store.state_dir, wanted)
    regroup = (kept.group, kept.admin_group, kept.assurance) != (group, admin_group, assurance)
    existing = {account.username for account in store.all()}
    stale = [user for user in USERS if user.username not in existing or user.username not in kept.passwords]
    with ThreadPoolExecutor(max_workers=2) as pool:
        hashes = pool.map(hash_password, [passwords[user.username] for user in stale])
        hashed = dict(zip((user.username for user in stale), hashes, strict=True))
    entitlements = demo_entitlements(group, admin_group=admin_group)
    for user in USERS:
        username = user.username
        if username not in existing:
            store.add_hashed(_account(user, entitlements[username], levels), hashed[username])
            continue
        if username in hashed:
            store.set_password_hash(username, hashed[username])
        if regroup:
            store.set_entitlements(username, entitlements[username])
            store.set_assurance(username, levels)
    return passwords


def read_demo_passwords(state_dir: Path) -> dict[str, str]:
    """The demo passwords by user name, if there are any. Raises `TidehubError` for a damaged file."""
    return _read(state_dir).passwords


@dataclass(frozen=True)
class _Kept:
    group: str | None
    admin_group: str | None
    passwords: dict[str, str]
    assurance: tuple[str, ...] = ()


def _read(state_dir: Path) -> _Kept:
    path = state_dir / FILE_NAME
    if not path.exists():
        return _Kept(None, None, {})
    try:
        data = json.loads(read_private(path, "The file of demo passwords"))
        passwords = {str(username): str(password) for username, password in data["passwords"].items()}
        return _Kept(data["group"], data["admin_group"], passwords, tuple(data.get("assurance", ())))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise TidehubError(
            "The file of demo passwords is damaged.",
            where=Place(str(path)),
            fix="remove it: the demo accounts then get new passwords",
        ) from None


def _write(state_dir: Path, kept: _Kept) -> None:
    data = {
        "group": kept.group,
        "admin_group": kept.admin_group,
        "assurance": list(kept.assurance),
        "passwords": kept.passwords,
    }
    write_private(state_dir / FILE_NAME, json.dumps(data, indent=2) + "\n")


def _account(user: DemoUser, entitlements: tuple[str, ...], assurance: tuple[str, ...]) -> Account:
    return Account(
        username=user.username,
        name=user.name,
        email=f"{user.username}@demo.example.org",
        entitlements=entitlements,
        affiliation=(f"{user.affiliation}@demo.example.org",),
        assurance=assurance,
    )


def _as_held(group: str) -> str:
    """A rule may have a `:*` (this group and all below it); a user's membership names one group."""
    return group.replace(":group:*", f":group:{_ANY_GROUP}").replace(":*", "")


def _related(group: str) -> tuple[tuple[str, ...], str, str, str]:
    """Membership, an operator's role, an administrator's role, and membership elsewhere."""
    group = _as_held(group)
    match = _GROUP_URN.fullmatch(group)
    if match is None:
        return (group,), f"{group}-vm_operator", f"{group}-admin", "elsewhere"
    base, required, authority = match["group"], match["role"], match["authority"] or ""

    def role(name: str) -> str:
        return f"{base}:role={name}{authority}"

    # At EGI a role comes on top of membership, each as an entitlement of its own.
    membership = (role("member"),) if required in (None, "member") else (role("member"), group)
    operator = role("vm_operator" if required != "vm_operator" else "auditor")
    administrator = role("admin" if required != "admin" else "vo_manager")
    other = "vo.elsewhere.eu" if ":vo.elsewhere.eu" not in base else "vo.nowhere.eu"
    return membership, operator, administrator, f"urn:mace:egi.eu:group:{other}:role=member#aai.egi.eu"
