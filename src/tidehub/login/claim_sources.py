"""Where `tidehub explain-login` has a user's claims from: a file, the provider's userinfo, the hub's record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from tidehub import program
from tidehub.errors import Place, UsageError
from tidehub.loopback import is_loopback
from tidehub.secrets.secret import Secret

LONGEST_TOKEN = 65536
"""Characters; EGI Check-In's tokens have about 1400."""
LARGEST_FILE = 4 * 2**20
"""Bytes of a file of claims."""
_DEADLINE = 20.0
"""Seconds for one answer."""


def claims_of_file(file: Path) -> dict[str, Any]:
    """Claims from a JSON file: the object that userinfo answers. Raises `UsageError`."""
    place = Place(str(file))
    try:
        with file.open("rb") as opened:
            content = opened.read(LARGEST_FILE + 1)
        found = json.loads(content) if len(content) <= LARGEST_FILE else None
    except OSError as error:
        raise UsageError(f"the claims cannot be read: {error.strerror or error}", where=place) from None
    except (ValueError, RecursionError):
        raise UsageError(
            "this is not JSON", where=place, expected="the JSON object that the provider's userinfo answers"
        ) from None
    if not isinstance(found, dict):
        expected = 'an object such as {"sub": "...", "preferred_username": "ann", "entitlements": [...]}'
        raise UsageError("this is not a JSON object", where=place, expected=expected)
    return found


def claims_of_token(token: Secret, userinfo_url: str) -> dict[str, Any]:
    """What the provider's userinfo says to this access token. Raises `UsageError`.

    The token goes to that address alone: never in the clear, and never on to where a redirect points.
    """
    import httpx

    where = urlsplit(userinfo_url)
    if where.scheme != "https" and not is_loopback(where.hostname or ""):
        raise UsageError(f"the token would travel in the clear to {where.hostname}", expected="https")
    if not token.reveal() or any(not 32 < ord(letter) < 127 for letter in token.reveal()):
        raise UsageError("standard input holds no access token", expected="one line with the token alone")
    headers = {"Authorization": f"Bearer {token.reveal()}", "Accept": "application/json"}
    try:
        answer = httpx.get(userinfo_url, headers=headers, timeout=_DEADLINE, follow_redirects=False)
    except httpx.HTTPError as error:
        raise UsageError(f"{where.netloc} does not answer: {type(error).__name__}") from None
    if answer.status_code in (400, 401, 403):
        raise UsageError(
            f"{where.netloc} refuses this token ({answer.status_code})",
            expected="a valid access token of this provider with the scope openid; they last about an hour",
            fix="take a new one, from the instance that login.instance or login.issuer names",
        )
    return _object(answer, f"{where.netloc} ({answer.status_code})")


def claims_of_user(name: str, hub_url: str, token: Secret) -> dict[str, Any]:
    """The claims that the hub keeps of a user since they were last asked about. Raises `UsageError`.

    `hub_url` is the hub's own address with its prefix; `token` needs `admin:auth_state`.
    """
    import httpx

    url = f"{hub_url.rstrip('/')}/api/users/{quote(name, safe='@~')}"
    headers = {"Authorization": f"token {token.reveal()}"}
    try:
        answer = httpx.get(url, headers=headers, timeout=_DEADLINE, trust_env=False)
    except httpx.HTTPError as error:
        raise UsageError(
            f"the hub does not answer: {type(error).__name__}", fix=f"look at: {program.command('status')}"
        ) from None
    if answer.status_code == 404:
        raise UsageError(
            f"the hub has no user {name}",
            expected="a name from the hub's admin page; who was refused has none",
            fix="explain their claims instead: --claims FILE or --token-stdin",
        )
    state = _object(answer, f"the hub ({answer.status_code})").get("auth_state")
    claims = state.get("oauth_user") if isinstance(state, dict) else None
    if not isinstance(claims, dict):
        raise UsageError(
            f"the hub keeps no claims of {name}",
            expected="a user who has signed in and has not lost the membership since",
        )
    return claims


def _object(answer: Any, who: str) -> dict[str, Any]:
    try:
        found = answer.json() if answer.status_code == 200 else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UsageError(f"{who} does not answer with claims", expected="a JSON object")
    return found
