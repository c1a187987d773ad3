"""A secrets file with other values: comments, order and everything else of the text stay."""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tidehub.errors import TidehubError
from tidehub.secrets.declared import BY_NAME
from tidehub.secrets.secret import Secret
from tidehub.secrets.store import MADE, OVERRIDES, parse


def edited(
    text: str | None,
    values: Mapping[str, Sequence[Secret]],
    *,
    title: str,
    now: datetime,
    overrides: Mapping[str, Any] | None = None,
    dated: Collection[str] = (),
) -> str:
    """The text of a secrets file with these values, the newest of each first; `None` starts a file.

    `title` is the site file's name. `dated` are the names whose values were made `now`. Raises `TidehubError` when the
    text would not say the same as before otherwise.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap, CommentedSeq
    from ruamel.yaml.error import YAMLError
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString

    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.width = 2**20
    before = (text or "").removeprefix("\ufeff")
    try:
        tree = yaml.load(before)
    except (YAMLError, ValueError, TypeError, AttributeError):
        # What it says quotes the text; a date such as 2026-99-99 is among the causes.
        raise _cannot_change() from None
    start = ""
    if tree is None:
        tree, start = CommentedMap(), before if before.strip() else _header(title)
        start += "" if start.endswith("\n") else "\n"

    def quoted(secrets: Sequence[Secret]) -> Any:
        texts = [DoubleQuotedScalarString(secret.reveal()) for secret in secrets]
        if len(texts) == 1:
            return texts[0]
        ring = CommentedSeq(texts)
        ring.fa.set_flow_style()
        return ring

    for name, secrets in values.items():
        if name in tree:
            tree[name] = quoted(secrets)
        else:
            place = min(
                [list(tree).index(last) for last in (OVERRIDES, MADE) if last in tree], default=len(tree)
            )
            tree.insert(place, name, quoted(secrets))
            tree.yaml_set_comment_before_after_key(name, before=BY_NAME[name].purpose)
    if overrides:
        tree[OVERRIDES] = _merged(tree.get(OVERRIDES) or {}, overrides)
    if dated:
        if not isinstance(tree.get(MADE), dict):
            tree[MADE] = CommentedMap()
        for name in dated:
            tree[MADE][name] = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    stream = io.StringIO()
    yaml.dump(tree, stream)
    after = start + stream.getvalue()
    _require_same(before, after, values, overridden=bool(overrides))
    return after


def _header(title: str) -> str:
    return (
        f"# Secrets of {title}: for its owner only, and never for git.\n"
        "# What each is for and where it goes: tidehub secrets show\n\n"
    )


def _merged(old: Any, new: Any) -> Any:
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        return new.reveal() if isinstance(new, Secret) else _plain(new)
    merged: Any = old if old else {}
    for key, value in new.items():
        merged[key] = _merged(merged.get(key), value)
    return merged


def _plain(value: Any) -> Any:
    if isinstance(value, Secret):
        return value.reveal()
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def _require_same(
    before: str, after: str, values: Mapping[str, Sequence[Secret]], *, overridden: bool
) -> None:
    """The new text must say what the old one said, and the new values. A surprise of the YAML library ends here."""
    old, new = parse(before.encode(), "", Path()), parse(after.encode(), "", Path())
    kept = {name: entry for name, entry in old.entries.items() if name not in values}
    same = all(
        name in new.entries
        and (new.entries[name].values, new.entries[name].file) == (entry.values, entry.file)
        for name, entry in kept.items()
    )
    written = all(name in new.entries and new.entries[name].values == tuple(values[name]) for name in values)
    same = same and (overridden or old.overrides == new.overrides)
    if not same or not written or len(new.problems) > len(old.problems):
        raise _cannot_change()


def _cannot_change() -> TidehubError:
    return TidehubError(
        "the secrets file cannot be changed without changing what else it says",
        expected="one line a secret: NAME: 'VALUE'",
        fix="write it without anchors, tags and merges, and put every value between quotes",
    )
