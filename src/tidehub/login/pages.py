"""What users read when a sign-in does not succeed. Escaped HTML for the hub's error page. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any
from urllib.parse import urlencode


def refusal_page(decision: Any, words: Mapping[str, Any], sign_out_url: str | None) -> str:
    """What a refused user reads: who they are signed in as, what is missing, where to ask.

    `words` are the site's: `name`, and where there are any `contact` and `enrolment_url`.
    """
    lines = [
        f"You are signed in as <strong>{escape(decision.username)}</strong>."
        if decision.username
        else "You are signed in.",
        f"{escape(words['name'])} does not admit this account.",
        escape(decision.reason),
    ]
    if words.get("enrolment_url"):
        url = escape(words["enrolment_url"], quote=True)
        lines.append(f'You can ask for membership here: <a href="{url}">{url}</a>')
    return _page([*lines, *_contact(words)], sign_out_url, "Sign in with another account")


def name_page(name: str, words: Mapping[str, Any], sign_out_url: str | None) -> str:
    """What a user reads whose user name is somebody else's here."""
    lines = [
        f"You are signed in as <strong>{escape(name)}</strong>.",
        f"At {escape(words['name'])} this user name belongs to another account of the identity provider.",
        "Its files stay with that account. The administrators of this site can give you a name of your own.",
    ]
    return _page([*lines, *_contact(words)], sign_out_url, "Sign in with another account")


def failure_page(words: str, again_url: str) -> str:
    """What a user reads whose sign-in broke off."""
    return _page([escape(words)], again_url, "Sign in again")


def end_session(
    url: str | None, *, id_token: str | None, client_id: str, return_to: str | None
) -> str | None:
    """Where a browser goes to end the provider's session too (OpenID Connect RP-Initiated Logout 1.0, 2)."""
    if not url:
        return None
    given: Mapping[str, str | None] = {
        "id_token_hint": id_token,
        "client_id": client_id,
        "post_logout_redirect_uri": return_to,
    }
    query = urlencode({name: value for name, value in given.items() if value})
    return f"{url}{'&' if '?' in url else '?'}{query}"


def _contact(words: Mapping[str, Any]) -> list[str]:
    return [f"Questions: {escape(words['contact'])}"] if words.get("contact") else []


def _page(lines: list[str], url: str | None, label: str) -> str:
    if url:
        lines = [*lines, f'<a class="btn btn-jupyter" href="{escape(url, quote=True)}">{label}</a>']
    return "</p><p>".join(lines)
