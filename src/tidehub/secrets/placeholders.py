"""Values that somebody meant to replace: `<CLIENT_SECRET>`, `CHANGEME`, a token of one character. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from tidehub.secrets.secret import Secret

_BRACKETS = re.compile(
    r"<.*>|\$\{.*\}|\{\{.*\}\}|%[a-z_ -]+%|\[[a-z _-]+\]|\$\(.*\)|\$[a-z_]+", re.IGNORECASE
)
_WORDS = re.compile(
    r"""(please[-_ ]?)?change[-_ ]?(me|it|this)([-_ ]?(now|please))?\W*
      | (please[-_ ]?)?(replace|update|set|fill|insert|enter|put)[-_ ]?(me|it|this|in|with|your|the|here)(?![a-z0-9]).*
      | replace[-_ ]?(me|this)\W*
      | (to[-_ ]?do|fix[-_ ]?me|tbd|tba|n/?a|none|null|unset|empty|undefined)\W*
      | (redacted|hidden|placeholder|dummy|sample|example)\W*
      | (my|your|the|test|example|dummy|fake|sample|placeholder|insert|enter|put)
            [-_ ][a-z _-]*(secret|token|password|key|value|id|here)\W*
      | (oauth|client|cookie|api|auth|crypt|proxy|hub)?[-_ ]?(secret|token|password|passwd|key|id)([-_ ]?here)?""",
    re.IGNORECASE | re.VERBOSE,
)
_RUNS = ("0123456789abcdef", "1234567890", "0123456789", "abcdefghijklmnopqrstuvwxyz", "deadbeef", "cafebabe")
_LONG = 16
"""Characters from which on a value of few different characters cannot be random: 16 hexadecimal digits of fewer
than 5 kinds come up once in ten million, and the secrets made here have 64."""


def is_placeholder(value: str) -> bool:
    """Whether a value stands for one that is still to come."""
    text = value.strip()
    if not text:
        return True
    if _BRACKETS.fullmatch(text) or _WORDS.fullmatch(text):
        return True
    letters = {character for character in text.lower() if character.isalnum()}
    return len(letters) <= 1 or (len(text) >= _LONG and _is_monotonous(text.lower()))


def placeholders(values: Mapping[str, Iterable[Secret]]) -> list[str]:
    """The names whose value, or one of whose values, is a placeholder; all of them, in the given order."""
    return [name for name, kept in values.items() if any(is_placeholder(one.reveal()) for one in kept)]


def _is_monotonous(text: str) -> bool:
    if len(set(text)) < 5:
        return True
    if any((run * (len(text) // len(run) + 2)).find(text) == 0 for run in _RUNS):
        return True
    # A short word, again and again.
    return any(text == (text[:size] * len(text))[: len(text)] for size in range(2, min(9, len(text) // 3)))
