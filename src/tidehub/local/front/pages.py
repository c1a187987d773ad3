"""The one page that the front door has of its own (pure; every value from outside is escaped)."""

from __future__ import annotations

from html import escape

RETRY = 5
"""Seconds after which the page asks again."""

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:4rem auto;padding:0 1rem;color:#222;"
    "background:#fff}h1{font-weight:300}a{color:#0b5cad}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#1b1b1b}a{color:#7db8f0}}"
)


def away_page(name: str, contact: str | None) -> str:
    """What a user reads while the hub does not answer: it asks again by itself, at the same address."""
    site = escape(name)
    questions = f"<p>If this stays so: {escape(contact)}</p>" if contact else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="refresh" content="{RETRY}"><title>One moment – {site}</title>'
        f"<style>{_STYLE}</style></head><body><main><h1>{site} does not answer just now</h1>"
        f"<p>This page asks again every {RETRY} seconds; there is nothing to do. Notebooks and clusters that run go on "
        f"meanwhile, and files are safe.</p>{questions}</main></body></html>"
    )
