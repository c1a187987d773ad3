"""YAML to be read, quickly: keys sorted, code in blocks, the same text for the same values."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from tidehub.kubernetes.objects import Object

_NUMBERS = frozenset("0123456789+-.")
"""What a number may begin with. Programs differ in what else they take for one: `1e3`, `1_000`, `0o17`, `12:30`."""
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "~"})
_FIRST = {"apiVersion": 0, "kind": 1, "metadata": 2}


@cache
def _dumper() -> Any:
    import yaml

    base: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

    class Dumper(base):  # type: ignore[misc]
        def ignore_aliases(self, data: Any) -> bool:
            return True

    def text(dumper: Any, value: str) -> Any:
        # A block cannot hold spaces at the ends of lines, nor characters that YAML writes as escapes.
        plain = all(line == line.rstrip() for line in value.split("\n")) and "\t" not in value
        style = "|" if "\n" in value and plain and not value.startswith((" ", "\n")) else None
        if style is None and (value[:1] in _NUMBERS or value.lower() in _WORDS):
            style = "'"
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    return Dumper


def text_of(value: Any) -> str:
    """One document without its mark."""
    import yaml

    return str(
        yaml.dump(
            value,
            Dumper=_dumper(),
            default_flow_style=False,
            allow_unicode=True,
            sort_keys=True,
            width=110,
        )
    )


def manifest_of(objects: Iterable[Object]) -> str:
    """Objects as documents, in their order; each begins with what it is."""
    import yaml

    written = []
    for obj in objects:
        ordered = {key: obj[key] for key in sorted(obj, key=lambda key: (_FIRST.get(key, 3), key))}
        head = {key: value for key, value in ordered.items() if key in _FIRST}
        rest = {key: value for key, value in ordered.items() if key not in _FIRST}
        options: dict[str, Any] = {"Dumper": _dumper(), "default_flow_style": False, "allow_unicode": True}
        written.append("---\n")
        for key, value in head.items():
            written.append(yaml.dump({key: value}, sort_keys=True, width=110, **options))
        if rest:
            written.append(yaml.dump(rest, sort_keys=True, width=110, **options))
    return "".join(written)
