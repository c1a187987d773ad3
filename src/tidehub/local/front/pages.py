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
# It asks without being loaded anew, which would take the reader back to the top each time (WCAG 2.2.4).
_ASK = (
    "const ask=()=>fetch(location.href,{headers:{Accept:'text/html'}}).then(answer=>answer.status===503?later():"
    f"location.reload(),later),later=()=>setTimeout(ask,{RETRY * 1000});later()"
)


def away_page(name: str, contact: str | None) -> str:
    """What a user reads while the hub does not answer: it asks again by itself, and shows what was asked for then."""
    site = escape(name)
    questions = f"<p>If this stays so: {escape(contact)}</p>" if contact else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>One moment – {site}</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>{site} does not answer just now</h1>"
        '<p role="status">This page asks again by itself; there is nothing to do. Notebooks and clusters that run go '
        f'on meanwhile, and files are safe.</p><noscript><p><a href="">Ask again</a></p></noscript>{questions}'
        f"</main><script>{_ASK}</script></body></html>"
    )
