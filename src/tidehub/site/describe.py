"""Every key of the site file with its meaning, values and default: one text for `explain`, JSON Schema and reference.

The text is that of the model's own fields. Nothing is written a second time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import WithJsonSchema
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from tidehub.site.model import Site, quantities
from tidehub.site.model.section import Section
from tidehub.site.problems import KeyPath
from tidehub.site.units import format_duration, format_size

NONE = "none"
"""A default that is not there: the key has no value unless one is written."""


@dataclass(frozen=True)
class Key:
    """One key. `name` is as in the file, with `[]` for the entries of a list: `notebooks.profiles[].name`."""

    name: str
    description: str
    kind: str
    """What may be written, in words; what is written literally stands between backticks."""
    default: str
    """As it would be written in the file, `none`, or empty where the key is required."""
    required: bool
    only_with_section: bool = False
    """The default holds where the whole mapping around it is absent; a mapping that is written must name the key."""
    section: type[Section] | None = None
    many: bool = False
    """A list of sections."""
    optional: bool = False
    """A section that may be absent altogether."""
    choices: tuple[str, ...] = ()

    @property
    def last(self) -> str:
        """The key's own name."""
        return self.name.removesuffix("[]").rsplit(".", 1)[-1]


@cache
def all_keys() -> tuple[Key, ...]:
    """Every key and section, in the order of the model."""
    return tuple(_keys("", Site, {}))


def find(path: KeyPath) -> Key | None:
    """The key at a path; the numbers of list entries do not matter. None for a key that is not known."""
    name = ""
    for part in path:
        name += "[]" if isinstance(part, int) else f".{part}" if name else part
    known = {key.name: key for key in all_keys()}
    found = known.get(name) or known.get(f"{name}[]")
    if found is None and path and (above := known.get(name.removesuffix("[]"))) and name.endswith("[]"):
        # An entry of a list of texts.
        return above if above.kind.startswith("list of ") else None
    if found is None and len(path) > 1 and (above := known.get(name.rpartition(".")[0])):
        # An entry of a mapping with names of its own.
        known_name = not above.choices or path[-1] in above.choices
        return above if above.kind.startswith("mapping from ") and known_name else None
    return found


def below(key: Key | None) -> Iterator[Key]:
    """The keys right below a section; the sections of the whole file for None."""
    prefix = f"{key.name}." if key else ""
    for known in all_keys():
        rest = known.name.removeprefix(prefix) if known.name.startswith(prefix) else ""
        if rest and "." not in rest and known != key:
            yield known


def written(value: Any, kind: str) -> str:
    """A value as it would be written in the file. `kind` is the key's."""
    if value is None or value in ((), {}, ""):
        return NONE
    if kind == "size":
        return format_size(value)
    if kind == "timeout" and not value:
        return "never"
    if kind in ("duration", "timeout"):
        return format_duration(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(str, value))}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {inner}" for name, inner in value.items()) + "}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def section_of(annotation: Any) -> type[Section] | None:
    """The section that a field holds, one or many, if it holds one."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    for argument in get_args(annotation):
        if (found := section_of(argument)) is not None:
            return found
    return None


def _keys(prefix: str, section: type[Section], given: Mapping[str, Any]) -> Iterator[Key]:
    """`given`: the defaults that the section around this one names for it."""
    for name, field in section.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        default = given[name] if name in given else field.get_default(call_default_factory=True)
        required = default is PydanticUndefined
        about, inner = field.description or "", section_of(field.annotation)
        if inner is None:
            kind = kind_of(field)
            shown = "" if required else written(default, kind)
            only = field.is_required() and not required
            yield Key(key, about, kind, shown, required, only, choices=_choices(field.annotation))
        elif get_origin(field.annotation) is tuple:
            yield Key(
                f"{key}[]", about, "a list", "" if required else NONE, required, section=inner, many=True
            )
            yield from _keys(f"{key}[].", inner, {})
        else:
            absent = default is None
            yield Key(
                key, about, "a mapping", NONE if absent else "", required, section=inner, optional=absent
            )
            known = {} if required or absent else dict(default)
            yield from _keys(f"{key}.", inner, known)


_NAMED = (
    (quantities.Size, "size"),
    (quantities.AnySize, "size"),
    (quantities.Seconds, "duration"),
    (quantities.Timeout, "timeout"),
    (quantities.CoreCount, "cores"),
    (quantities.WholeCores, "whole cores"),
)


def kind_of(field: FieldInfo) -> str:
    """What may be written, in words. pydantic takes a field's own annotations apart; they are put back here."""
    annotation = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    low, high = (_bound(field, name) for name in ("ge", "le"))
    kind = _kind(annotation)
    if kind == "whole number" and low is not None:
        return f"{kind}, {low} to {high}" if high is not None else f"{kind}, at least {low}"
    return kind


def _bound(field: FieldInfo, name: str) -> Any:
    return next((getattr(extra, name) for extra in field.metadata if hasattr(extra, name)), None)


def _kind(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        for known, name in _NAMED:
            if _schema_of(known) in arguments and get_args(known)[1] in arguments:
                return name
        if any(getattr(getattr(extra, "func", None), "__name__", "") == "_url" for extra in arguments):
            return "address"
        return _kind(arguments[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (Union, UnionType):
        return _kind(next(argument for argument in arguments if argument is not type(None)))
    if origin is tuple:
        return f"list of {_kind(arguments[0])}"
    if origin is dict:
        return "mapping from " + _kind(arguments[0]) + " to text"
    return {bool: "`true`, `false`", int: "whole number", str: "text", float: "number"}.get(
        annotation, "any value"
    )


def _choices(annotation: Any) -> tuple[str, ...]:
    if get_origin(annotation) is Literal:
        return tuple(map(str, get_args(annotation)))
    for argument in get_args(annotation):
        if found := _choices(argument):
            return found
    return ()


def _schema_of(kind: Any) -> Any:
    return next(extra for extra in get_args(kind) if isinstance(extra, WithJsonSchema))
