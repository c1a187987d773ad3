"""The few pages that the gate shows itself (pure; every value from outside is escaped)."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

TITLES = {
    400: "The request cannot be understood",
    403: "Not allowed",
    404: "Not found",
    502: "The Dask gateway does not answer",
    503: "Try again in a moment",
}

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:3rem auto;padding:0 1rem;color:#222;"
    "background:#fff;overflow-wrap:anywhere}pre{white-space:pre-wrap}"
    "table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.4rem .6rem;"
    "border-bottom:1px solid #ddd;vertical-align:top}a{color:#0b5cad}.why{color:#555}"
    "pre{white-space:pre-wrap}td,pre{overflow-wrap:anywhere}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#1b1b1b}a{color:#7db8f0}.why{color:#aaa}"
    "th,td{border-color:#444}}"
)


def _page(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body><main><h1>{title}</h1>{body}</main></body></html>"
    )


def refusal(site: str, base_path: str, status: int, words: str, contact: str | None = None) -> str:
    """Why nothing is shown, and whom to ask; `words` is escaped already."""
    title = TITLES.get(status, "Something went wrong")
    link = html.escape(f"{base_path}hub/home", quote=True)
    questions = f"<p>Questions: {html.escape(contact)}</p>" if contact else ""
    back = f'<p><a href="{link}">Back to {html.escape(site)}</a></p>'
    return _page(f"{title} – {html.escape(site)}", f"<p>{words}</p>{questions}{back}")


def clusters(site: str, base_path: str, prefix: str, known: Sequence[Mapping[str, Any]]) -> str:
    """A user's clusters; what waits shows its reason and place."""
    back = f'<p><a href="{html.escape(base_path, quote=True)}hub/home">Back to {html.escape(site)}</a></p>'
    title = f"Your Dask clusters – {html.escape(site)}"
    if not known:
        example = "from dask_gateway import GatewayCluster\ncluster = GatewayCluster()"
        return _page(title, f"<p>You have none. In a notebook:</p><pre>{example}</pre>{back}")
    head = "<tr><th>Cluster</th><th>State</th><th>Workers</th><th>Profile</th></tr>"
    rows = "".join(_row(prefix, cluster) for cluster in known)
    return _page(title, f"<table>{head}{rows}</table>{back}")


def _row(prefix: str, cluster: Mapping[str, Any]) -> str:
    name = html.escape(str(cluster["name"]), quote=True)
    short = name[:8]
    if cluster["status"] == "running":
        short = f'<a href="{html.escape(prefix, quote=True)}/clusters/{name}/status">{short}</a>'
    workers = cluster["workers"]
    reasons = [cluster["reason"], *(entry["reason"] for entry in workers["waiting"])]
    why = "".join(f'<div class="why">{html.escape(str(reason))}</div>' for reason in reasons if reason)
    count = f"{workers['running']} of {workers['wanted']}"
    state, profile = (html.escape(str(cluster[key])) for key in ("status", "profile"))
    return f"<tr><td>{short}</td><td>{state}{why}</td><td>{count}</td><td>{profile}</td></tr>"
